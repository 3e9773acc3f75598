// engine/product/rows: the same bits as one call of the kernel, on any number of threads; sums of
// embeddings, and the first id for which there is no row.
#include <doctest/doctest.h>

#include <limits>

#include "engine/product/rows.h"
#include "guarded.h"
#include "runtime/thread_pool.h"
#include "values.h"

namespace treadle {
namespace {

// Calls test() with one, two and three threads.
template <class Test>
void for_each_team(Test test) {
  const int before = num_threads();
  for (const int threads : {1, 2, 3}) {
    CAPTURE(threads);
    set_num_threads(threads);
    test();
  }
  set_num_threads(before);
}

TEST_CASE("layer norm and softmax are what their kernels are, on any number of threads") {
  const std::int64_t shapes[][2] = {{0, 5}, {1, 1}, {3, 7000}, {1000, 1}, {333, 384}, {70, 20000}};
  for_each_isa([&](const KernelTable& table) {
    for (const auto& shape : shapes) {
      const std::int64_t M = shape[0], N = shape[1];
      CAPTURE(M);
      CAPTURE(N);
      const Guarded<float> x(random_floats(M * N, 1)), residual(random_floats(M * N, 2)),
          weight(random_floats(N, 3)), bias(random_floats(N, 4));
      for (const RowKernel kernel : {table.layer_norm, table.softmax}) {
        RowArgs a{};
        a.rows = M;
        a.size = a.x_stride = a.residual_stride = a.out_stride = N;
        a.x = x.data();
        if (kernel == table.layer_norm) {
          a.residual = residual.data();
          a.weight = weight.data();
          a.bias = bias.data();
          a.eps = 1e-5f;
        }
        Guarded<float> expected(M * N);
        a.out = expected.data();
        {
          const FlushToZero guard;
          kernel(a);
        }
        for_each_team([&] {
          Guarded<float> out(M * N);
          RowArgs b = a;
          b.out = out.data();
          Interrupt interrupt(nullptr);
          run_rows(kernel, b, interrupt);
          CHECK(first_difference(out, expected, M * N) == -1);
        });
      }
    }
  });
}

TEST_CASE("rows of no float are left alone") {
  Interrupt interrupt(nullptr);
  RowArgs a{};
  a.rows = 5;
  run_rows(kernels().softmax, a, interrupt);
}

TEST_CASE("a phase follows another with the rows of any thread") {
  const std::int64_t M = 500, N = 300;
  const std::vector<float> x = random_floats(M * N, 1);
  std::vector<float> expected(M * N);
  RowArgs a{};
  a.rows = M;
  a.size = a.x_stride = a.out_stride = N;
  a.eps = 1e-5f;
  const auto both = [&](float* out) {
    Interrupt interrupt(nullptr);
    Team team(1e9, interrupt);
    RowArgs norm = a, soft = a;
    norm.x = x.data();
    norm.out = soft.out = out;
    soft.x = out;
    team.run([&](Team::Member& member) {
      const bool all =
          run_rows(member, kernels().layer_norm, norm) && run_rows(member, kernels().softmax, soft);
      // A worker that is still here when the caller has come to the end is told to leave.
      if (member.index() == 0) CHECK(all);
    });
  };
  set_num_threads(1);
  both(expected.data());
  for_each_team([&] {
    std::vector<float> out(M * N);
    both(out.data());
    CHECK(first_difference(out, expected, M * N) == -1);
  });
}

TEST_CASE("a computation that is stopped ends with the phase") {
  Interrupt interrupt([](void*) { return true; });
  const std::int64_t M = 200000, N = 64;
  const std::vector<float> x(M * N);
  std::vector<float> out(M * N, -1.0f);
  RowArgs a{};
  a.rows = M;
  a.size = a.x_stride = a.out_stride = N;
  a.x = x.data();
  a.out = out.data();
  for (int i = 0; i < 10000 && !interrupt.stopped(); ++i) {
    run_rows(kernels().softmax, a, interrupt);
  }
  CHECK(interrupt.stopped());
}

TEST_CASE("embeddings are added in the order of the tables") {
  const std::int64_t sizes[][2] = {{0, 4}, {1, 1}, {5, 0}, {7, 33}, {20000, 48}};
  constexpr std::int64_t kCounts[] = {5, 1, 9};
  for (const auto& size : sizes) {
    const std::int64_t M = size[0], H = size[1];
    CAPTURE(M);
    CAPTURE(H);
    std::vector<std::vector<float>> data;
    std::vector<std::vector<std::int64_t>> ids;
    for (int i = 0; i < 3; ++i) {
      data.push_back(random_floats(kCounts[i] * (H + i), i));  // rows i floats apart
      ids.emplace_back();
      for (std::int64_t m = 0; m < M; ++m) ids.back().push_back((m * 7 + i) % kCounts[i]);
    }
    for (std::size_t tables = 1; tables <= 3; ++tables) {
      std::vector<EmbeddingTable> from;
      for (std::size_t i = 0; i < tables; ++i) {
        from.push_back(
            {data[i].data(), kCounts[i], H + static_cast<std::int64_t>(i), ids[i].data()});
      }
      std::vector<float> expected(M * H);
      for (std::int64_t m = 0; m < M; ++m) {
        for (std::int64_t h = 0; h < H; ++h) {
          float sum = data[0][ids[0][m] * H + h];
          for (std::size_t i = 1; i < tables; ++i) {
            sum += data[i][ids[i][m] * (H + i) + h];
          }
          expected[m * H + h] = sum;
        }
      }
      for_each_team([&] {
        Guarded<float> out(M * H);
        Interrupt interrupt(nullptr);
        CHECK(!sum_embeddings(from, M, H, out.data(), interrupt));
        CHECK(first_difference(out, expected, M * H) == -1);
      });
    }
  }
}

TEST_CASE("the first id without a row is told, whichever thread meets it") {
  constexpr std::int64_t M = 20000, H = 40;
  const std::vector<float> data = random_floats(9 * H, 1);
  std::vector<float> out(M * H);
  for (const std::int64_t first : {0, 1, 9000, 19999}) {
    for (const std::int64_t bad :
         {std::int64_t{-1}, std::int64_t{9}, std::numeric_limits<std::int64_t>::min()}) {
      std::vector<std::int64_t> ids(M, 8), others(M, 0);
      for (std::int64_t m = first; m < M; m += 50) others[m] = bad;
      for (std::int64_t m = first + 1; m < M; m += 70) ids[m] = 10;
      for_each_team([&] {
        Interrupt interrupt(nullptr);
        const auto wrong =
            sum_embeddings({{data.data(), 9, H, ids.data()}, {data.data(), 9, H, others.data()}}, M,
                           H, out.data(), interrupt);
        REQUIRE(wrong);
        CHECK(wrong->m == first);
        CHECK(wrong->table == 1);
        CHECK(wrong->id == bad);
      });
    }
  }
}

TEST_CASE("sums of embeddings keep denormals unless the caller flushes them") {
  const float denormal = std::numeric_limits<float>::denorm_min();
  constexpr std::int64_t M = 20000, H = 40;
  const std::vector<float> data(H, denormal);
  const std::vector<std::int64_t> ids(M, 0);
  const auto sum = [&] {
    std::vector<float> out(M * H);
    Interrupt interrupt(nullptr);
    sum_embeddings({{data.data(), 1, H, ids.data()}, {data.data(), 1, H, ids.data()}}, M, H,
                   out.data(), interrupt);
    return out;
  };
  for_each_team([&] {
    const std::vector<float> kept = sum();
    CHECK(first_difference(kept, std::vector<float>(M * H, 2 * denormal), M * H) == -1);
    const FlushToZero guard;
    const std::vector<float> flushed = sum();
    CHECK(first_difference(flushed, std::vector<float>(M * H, 0.0f), M * H) == -1);
  });
}

}  // namespace
}  // namespace treadle

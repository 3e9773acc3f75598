// The kernels of rows that decoding adds, on every ISA level against their definitions in double:
// rms norm, rotary positions and the k best of a row, on arrays that end at a forbidden page.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "guarded.h"
#include "runtime/flush_to_zero.h"
#include "values.h"

namespace treadle {
namespace {

constexpr double kUnit = 0x1p-24;  // of one rounding
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

TEST_CASE("rms norm: every size, with and without a weight, in place too") {
  constexpr std::int64_t kRows = 3;
  for_each_isa([](const KernelTable& table) {
    const FlushToZero guard;
    for (const std::int64_t N : {1, 3, 4, 7, 8, 15, 16, 17, 33, 100, 384}) {
      CAPTURE(N);
      const std::vector<float> x = random_floats(kRows * N, 1);
      const Guarded<float> in(x), weight(random_floats(N, 2));
      for (const bool weighted : {false, true}) {
        Guarded<float> out(kRows * N), same_place(x);
        RowArgs a{};
        a.rows = kRows;
        a.size = a.x_stride = a.out_stride = N;
        a.x = in.data();
        a.out = out.data();
        a.weight = weighted ? weight.data() : nullptr;
        a.eps = 1e-5f;
        table.rms_norm(a);
        for (std::int64_t row = 0; row < kRows; ++row) {
          double squares = 0;
          for (std::int64_t i = 0; i < N; ++i) squares += std::pow(x[row * N + i], 2);
          for (std::int64_t i = 0; i < N; ++i) {
            const double y =
                x[row * N + i] / std::sqrt(squares / N + a.eps) * (weighted ? weight[i] : 1);
            // The sum has at most N + 1 roundings, of which the root leaves half; then a few more.
            REQUIRE(std::fabs(out[row * N + i] - y) <= (N / 2.0 + 6) * kUnit * std::fabs(y));
          }
        }
        a.x = a.out = same_place.data();
        table.rms_norm(a);
        CHECK(first_difference(same_place, out, kRows * N) == -1);
      }
    }
  });
}

TEST_CASE("rotate: pairs of each head turn, and what lies behind them stays") {
  constexpr std::int64_t kHeads = 3;
  for_each_isa([](const KernelTable& table) {
    const FlushToZero guard;
    for (const std::int64_t half : {1, 2, 3, 4, 5, 8, 9, 16, 17, 32, 40}) {
      for (const std::int64_t rest : {0, 1, 7}) {
        CAPTURE(half);
        const std::int64_t E = 2 * half + rest;
        const std::vector<float> x = random_floats(kHeads * E, 1);
        Guarded<float> turned(x);
        std::vector<float> turns(2 * half);
        for (std::int64_t i = 0; i < half; ++i) {
          turns[i] = std::cos(0.7f * i);
          turns[half + i] = std::sin(0.7f * i);
        }
        const Guarded<float> guarded_turns(turns);
        table.rotate({kHeads, E, half, turned.data(), guarded_turns.data()});
        for (std::int64_t head = 0; head < kHeads; ++head) {
          const float *from = x.data() + head * E, *to = turned.data() + head * E;
          for (std::int64_t i = 0; i < half; ++i) {
            const double c = turns[i], s = turns[half + i], u = from[i], v = from[half + i];
            const double bound = 3 * kUnit * (std::fabs(u) + std::fabs(v));
            REQUIRE(std::fabs(to[i] - (u * c - v * s)) <= bound);
            REQUIRE(std::fabs(to[half + i] - (v * c + u * s)) <= bound);
          }
          CHECK(first_difference(to + 2 * half, from + 2 * half, rest) == -1);
        }
      }
    }
  });
}

void check_best(const KernelTable& table, const std::vector<float>& x, std::int64_t k) {
  const auto N = static_cast<std::int64_t>(x.size());
  std::vector<float> known = x;
  double top = -INFINITY, total = 0;
  for (float& v : known) {
    if (std::isnan(v)) v = -kInfinity;
    top = std::max(top, static_cast<double>(v));
  }
  std::vector<std::int64_t> order(N);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](std::int64_t a, std::int64_t b) { return known[a] > known[b]; });
  const Guarded<float> in(x);
  Guarded<float> values(k), lse(1);
  Guarded<std::int64_t> ids(k);
  table.best({N, k, in.data(), values.data(), ids.data(), lse.data()});
  for (std::int64_t i = 0; i < k; ++i) {
    REQUIRE(ids[i] == order[i]);
    REQUIRE(same(values[i], known[order[i]]));
  }
  if (std::any_of(x.begin(), x.end(), [](float v) { return std::isnan(v); })) {
    CHECK(std::isnan(lse[0]));
  } else if (top == -INFINITY) {
    CHECK(lse[0] == -kInfinity);
  } else if (top < INFINITY) {
    for (const float v : x) total += std::exp(v - top);
    const double exact = top + std::log(total);
    CHECK(std::fabs(lse[0] - exact) <= kUnit * (N + 30 + 2 * std::fabs(exact)));
  }
}

TEST_CASE("best: the order of the largest, equal ones and numbers that are not finite") {
  for_each_isa([](const KernelTable& table) {
    const FlushToZero guard;
    for (const std::int64_t N : {1, 2, 5, 16, 17, 63, 64, 65, 130, 1000}) {
      for (const std::int64_t k : {std::int64_t{1}, std::int64_t{2}, std::int64_t{9}, N}) {
        if (k > N) continue;
        CAPTURE(N);
        CAPTURE(k);
        std::vector<float> x = random_floats(N, 3, 5.0f);
        check_best(table, x, k);
        for (float& v : x) v = std::floor(v);  // many are equal
        check_best(table, x, k);
        std::sort(x.begin(), x.end());  // each is better than all before it
        check_best(table, x, k);
        x[N / 2] = kNan;
        x[N / 3] = -kInfinity;
        check_best(table, x, k);
        check_best(table, std::vector<float>(N, -kInfinity), k);
        check_best(table, std::vector<float>(N, kNan), k);
        check_best(table, std::vector<float>(N, 1.0f), k);
      }
    }
  });
}

}  // namespace
}  // namespace treadle

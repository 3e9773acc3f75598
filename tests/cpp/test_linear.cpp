// kernels/linear.h through engine/product/linear: every shape around the tiles, on every ISA level.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/product/linear.h"
#include "guarded.h"
#include "runtime/flush_to_zero.h"
#include "runtime/thread_pool.h"
#include "values.h"

namespace treadle {
namespace {

// Packs and multiplies.
void run(const KernelTable& table, std::int64_t M, std::int64_t N, std::int64_t K, const float* x,
         std::int64_t x_m, const StoredMatrix& w, const float* bias, float* out) {
  Interrupt interrupt(nullptr);
  product(Linear(table, N, K, w, bias), M, x, x_m, nullptr, nullptr, out, interrupt);
}

TEST_CASE("a product is within its rounding errors, on exact-size arrays") {
  for_each_isa([](const KernelTable& table) {
    const std::int64_t lanes = table.lanes;
    for (const std::int64_t M : {1, 2, 3, 5, 6, 7, 13, 241}) {
      for (const std::int64_t N : {std::int64_t{1}, lanes - 1, lanes, 4 * lanes, 5 * lanes + 1}) {
        for (const std::int64_t K : {0, 1, 2, 37}) {
          CAPTURE(M);
          CAPTURE(N);
          CAPTURE(K);
          Guarded<float> x(random_floats(M * K, 1)), w(random_floats(N * K, 2)),
              bias(random_floats(N, 3));
          Guarded<float> out(M * N);
          run(table, M, N, K, x.data(), K, w.data(), bias.data(), out.data());
          double worst = 0;  // in eps times the sum of the magnitudes
          for (std::int64_t m = 0; m < M; ++m) {
            for (std::int64_t n = 0; n < N; ++n) {
              double sum = bias[n], magnitude = std::fabs(bias[n]);
              for (std::int64_t k = 0; k < K; ++k) {
                const double term = static_cast<double>(x[m * K + k]) * w[n * K + k];
                sum += term;
                magnitude += std::fabs(term);
              }
              worst = std::max(worst, std::fabs(out[m * N + n] - sum) / magnitude * 0x1p23);
            }
          }
          // One rounding of 2^-24 for each addition, and one for each product where there is no
          // fma.
          CHECK(worst <= std::max<double>(1, K));
        }
      }
    }
  });
}

TEST_CASE("rows of a product with few columns have the bits they have alone, whatever follows") {
  const Activation gelu{ActivationFunction::gelu}, relu{ActivationFunction::relu};
  for_each_isa([&](const KernelTable& table) {
    for (std::int64_t N = 1; N <= table.lanes; ++N) {
      for (const std::int64_t K : {1, 15, 16, 33, 256, 300}) {
        const Guarded<float> w(random_floats(N * K, 2)), bias(random_floats(N, 3));
        const Linear linear(table, N, K, w.data(), N % 2 ? bias.data() : nullptr);
        for (const std::int64_t M : {4, 8, 16, 17, 47, 64}) {
          CAPTURE(N);
          CAPTURE(K);
          CAPTURE(M);
          const Guarded<float> x(random_floats(M * K, 1)), add(random_floats(M * N, 4));
          for (const Activation* f : {static_cast<const Activation*>(nullptr), &gelu, &relu}) {
            Guarded<float> together(M * N), alone(M * N);
            Interrupt interrupt(nullptr);
            product(linear, M, x.data(), K, f, add.data(), together.data(), interrupt);
            for (std::int64_t m = 0; m < M; ++m) {
              product(linear, 1, x.data() + m * K, K, f, add.data() + m * N, alone.data() + m * N,
                      interrupt);
            }
            CHECK(std::memcmp(together.data(), alone.data(), M * N * sizeof(float)) == 0);
          }
        }
      }
    }
  });
}

// Small integers, exact in every format: the float whose upper half a bfloat16 is, too.
std::int64_t integer(std::int64_t i) { return i * 7919 % 256 - 128; }

TEST_CASE("matrices in bfloat16 and int8, on exact-size arrays") {
  for_each_isa([](const KernelTable& table) {
    const std::int64_t lanes = table.lanes;
    for (const std::int64_t M : {1, 7}) {
      for (const std::int64_t N : {std::int64_t{1}, lanes + 1, 5 * lanes - 1}) {
        for (const std::int64_t K : {1, 2, 3, 5, 255, 256, 257, 514}) {
          CAPTURE(M);
          CAPTURE(N);
          CAPTURE(K);
          const std::int64_t parts = sum_blocks(K);
          Guarded<float> x(M * K), out(M * N), scales(N * parts);
          Guarded<std::uint16_t> halves(N * K);
          Guarded<std::int8_t> bytes(N * K);
          // Rows whose scale is one, whatever the block.
          for (std::int64_t i = 0; i < M * K; ++i) x[i] = i % K % 3 == 0 ? 255.0f : 0.0f;
          for (std::int64_t i = 0; i < N * parts; ++i) scales[i] = 0.5f * (i % 4);
          for (std::int64_t i = 0; i < N * K; ++i) {
            bytes[i] = static_cast<std::int8_t>(integer(i));
            const float w = bytes[i];
            std::uint32_t bits;
            std::memcpy(&bits, &w, sizeof(bits));
            halves[i] = static_cast<std::uint16_t>(bits >> 16);
          }
          for (const StoredMatrix& matrix :
               {StoredMatrix(Dtype::bfloat16, halves.data(), nullptr),
                StoredMatrix(Dtype::int8, bytes.data(), scales.data())}) {
            run(table, M, N, K, x.data(), K, matrix, nullptr, out.data());
            double worst = 0;
            for (std::int64_t m = 0; m < M; ++m) {
              for (std::int64_t n = 0; n < N; ++n) {
                double sum = 0, magnitude = 1;
                for (std::int64_t k = 0; k < K; ++k) {
                  const double by = matrix.scales ? scales[n * parts + k / kSumBlock] : 1.0f;
                  const double term = x[m * K + k] * by * integer(n * K + k);
                  sum += term;
                  magnitude += std::fabs(term);
                }
                worst = std::max(worst, std::fabs(out[m * N + n] - sum) / magnitude);
              }
            }
            CHECK(worst < 1e-6);
          }
        }
      }
    }
  });
}

// Returns random integers from -128 to 127.
std::vector<std::int8_t> random_bytes(std::int64_t count, unsigned seed) {
  std::vector<std::int8_t> bytes;
  for (const float x : random_floats(count, seed, 128)) {
    bytes.push_back(static_cast<std::int8_t>(std::floor(x)));
  }
  return bytes;
}

TEST_CASE("int8 has the same bits on every level, and bfloat16 on those of NEON") {
  constexpr std::int64_t N = 37;
  for (const std::int64_t M : {1, 2, 3, 5, 6, 13, 24}) {
    for (const std::int64_t K : {1, 4, 5, 13, 36, 255, 256}) {  // one block: one product of scales
      CAPTURE(M);
      CAPTURE(K);
      std::vector<float> x = random_floats(M * K, 1, 3.0f);
      for (std::int64_t k = 0; k < K; ++k) x[k] = k + 1 < K ? 0.0f : 1.0f;  // 0 and 255 alone
      const Guarded<float> rows(x), scales(random_floats(N, 2));
      std::vector<std::int8_t> integers = random_bytes(N * K, 3);
      std::fill_n(integers.begin(), K, std::int8_t{-128});
      const Guarded<std::int8_t> bytes(integers);
      std::vector<std::uint16_t> rounded;
      for (const float w : random_floats(N * K, 4)) {
        std::uint32_t bits;
        std::memcpy(&bits, &w, sizeof(bits));
        rounded.push_back(static_cast<std::uint16_t>(bits >> 16));
      }
      const Guarded<std::uint16_t> halves(rounded);
      std::vector<float> lowest, neon;
      for_each_isa([&](const KernelTable& table) {
        const std::string isa = table.isa;
        std::vector<float> out(M * N);
        run(table, M, N, K, rows.data(), K, {Dtype::int8, bytes.data(), scales.data()}, nullptr,
            out.data());
        if (lowest.empty()) lowest = out;
        CHECK(first_difference(out, lowest, M * N) == -1);
        if (isa.rfind("neon", 0) != 0) return;
        run(table, M, N, K, rows.data(), K, {Dtype::bfloat16, halves.data(), nullptr}, nullptr,
            out.data());
        if (neon.empty()) neon = out;
        CHECK(first_difference(out, neon, M * N) == -1);
      });
    }
  }
}

// Arm's BFDOT rounds each of its sums to odd: it finds 1 + 2^-22 + 2^-23 before the bias is added.
TEST_CASE("a product in bfloat16 passes K + 1 roundings of half a unit at most") {
  for_each_isa([](const KernelTable& table) {
    constexpr std::int64_t K = 3;
    const float terms[K] = {1.0f, 0x1p-30f, 0x1.02p-23f}, bias = 0x1p-24f;
    std::vector<std::uint16_t> halves;
    double exact = bias;
    for (const float w : terms) {
      std::uint32_t bits;
      std::memcpy(&bits, &w, sizeof(bits));
      REQUIRE((bits & 0xffff) == 0);
      halves.push_back(static_cast<std::uint16_t>(bits >> 16));
      exact += w;
    }
    for (const std::int64_t M : {1, 7}) {
      const std::vector<float> x(M * K, 1.0f);
      std::vector<float> out(M);
      run(table, M, 1, K, x.data(), K, {Dtype::bfloat16, halves.data(), nullptr}, &bias,
          out.data());
      for (const float y : out) CHECK(std::fabs(y - exact) <= (K + 1) * 0x1p-24 * exact);
    }
  });
}

TEST_CASE("rows may be anywhere, and do not depend on their neighbours") {
  for_each_isa([](const KernelTable& table) {
    constexpr std::int64_t M = 11, N = 21, K = 19, stride = 23;
    const std::vector<float> x = random_floats(M * stride, 1), w = random_floats(N * K, 2);
    std::vector<float> all(M * N), one(N);
    run(table, M, N, K, x.data(), stride, w.data(), nullptr, all.data());
    for (std::int64_t m = 0; m < M; ++m) {
      run(table, 1, N, K, x.data() + m * stride, stride, w.data(), nullptr, one.data());
      CHECK(first_difference(one, all.data() + m * N, N) == -1);
    }
    // Backwards, by a negative stride.
    std::vector<float> reversed(M * N);
    run(table, M, N, K, x.data() + (M - 1) * stride, -stride, w.data(), nullptr, reversed.data());
    for (std::int64_t m = 0; m < M; ++m) {
      CHECK(first_difference(reversed.data() + (M - 1 - m) * N, all.data() + m * N, N) == -1);
    }
  });
}

TEST_CASE("an activation, then a residual") {
  for_each_isa([](const KernelTable& table) {
    const std::int64_t lanes = table.lanes;
    const Activation silu{ActivationFunction::silu, 0, 0};
    for (const std::int64_t M : {1, 3, 9, 97}) {
      for (const std::int64_t N : {std::int64_t{1}, lanes + 1, 4 * lanes, 9 * lanes - 1}) {
        CAPTURE(M);
        CAPTURE(N);
        constexpr std::int64_t K = 13;
        const Guarded<float> x(random_floats(M * K, 1)), w(random_floats(N * K, 2)),
            bias(random_floats(N, 3)), residual(random_floats(M * N, 4));
        const Linear linear(table, N, K, w.data(), bias.data());
        Interrupt interrupt(nullptr);
        // One after the other: the same roundings.
        Guarded<float> expected(M * N), out(M * N);
        product(linear, M, x.data(), K, nullptr, nullptr, expected.data(), interrupt);
        {
          const FlushToZero guard;
          table.apply(silu, expected.data(), expected.data(), M * N);
        }
        product(linear, M, x.data(), K, &silu, nullptr, out.data(), interrupt);
        CHECK(first_difference(out, expected, M * N) == -1);
        for (std::int64_t i = 0; i < M * N; ++i) expected[i] += residual[i];
        product(linear, M, x.data(), K, &silu, residual.data(), out.data(), interrupt);
        CHECK(first_difference(out, expected, M * N) == -1);
        // Without a function, the residual may be where the result goes.
        product(linear, M, x.data(), K, nullptr, residual.data(), expected.data(), interrupt);
        std::copy(residual.data(), residual.data() + M * N, out.begin());
        product(linear, M, x.data(), K, nullptr, out.data(), out.data(), interrupt);
        CHECK(first_difference(out, expected, M * N) == -1);
      }
    }
  });
}

TEST_CASE("a function, times a factor, then a residual") {
  for_each_isa([](const KernelTable& table) {
    const std::int64_t lanes = table.lanes;
    const Activation functions[] = {{ActivationFunction::silu, 0, 0},
                                    {ActivationFunction::relu, 0, 0}};
    for (const std::int64_t M : {1, 3, 14}) {
      for (const std::int64_t N : {std::int64_t{1}, lanes + 1, 4 * lanes, 9 * lanes - 1}) {
        for (const Activation* f : {functions, functions + 1, static_cast<const Activation*>(0)}) {
          CAPTURE(M);
          CAPTURE(N);
          constexpr std::int64_t K = 13;
          const Guarded<float> x(random_floats(M * K, 1)), w(random_floats(N * K, 2)),
              factor(random_floats(M * N, 3)), residual(random_floats(M * N, 4));
          const Linear linear(table, N, K, w.data(), nullptr);
          Interrupt interrupt(nullptr);
          Guarded<float> expected(M * N), out(M * N);
          product(linear, M, x.data(), K, f, nullptr, expected.data(), interrupt);
          for (std::int64_t i = 0; i < M * N; ++i) expected[i] *= factor[i];
          for (std::int64_t i = 0; i < M * N; ++i) expected[i] += residual[i];
          std::vector<const float*> from, by, add;
          std::vector<float*> to;
          for (std::int64_t m = 0; m < M; ++m) {
            from.push_back(x.data() + m * K);
            by.push_back(factor.data() + m * N);
            add.push_back(residual.data() + m * N);
            to.push_back(out.data() + m * N);
          }
          ProductRows rows{M, from.data(), to.data(), f, add.data(), nullptr};
          rows.factor = by.data();
          Team team(1, 0, interrupt);
          team.run([&](Team::Member& member) { linear.run(member, rows); });
          CHECK(first_difference(out, expected, M * N) == -1);
        }
      }
    }
  });
}

TEST_CASE("the same bits on any number of threads") {
  const int before = num_threads();
  for (const std::int64_t M : {1, 8, 500}) {
    const std::int64_t N = M == 500 ? 130 : 3000, K = 200;
    const std::vector<float> x = random_floats(M * K, 1), w = random_floats(N * K, 2);
    std::vector<float> alone(M * N), out(M * N);
    set_num_threads(1);
    run(kernels(), M, N, K, x.data(), K, w.data(), nullptr, alone.data());
    for (const int threads : {2, 3}) {
      set_num_threads(threads);
      run(kernels(), M, N, K, x.data(), K, w.data(), nullptr, out.data());
      CHECK(first_difference(out, alone, M * N) == -1);
    }
  }
  set_num_threads(before);
}

TEST_CASE("nothing to do is done") {
  const std::vector<float> w(9);
  run(kernels(), 0, 3, 3, nullptr, 3, w.data(), nullptr, nullptr);
  run(kernels(), 3, 0, 3, w.data(), 3, nullptr, nullptr, nullptr);
}

}  // namespace
}  // namespace treadle

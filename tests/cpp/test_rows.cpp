// kernels/rows.h: layer norm and softmax on every ISA level against their definitions in double.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "guarded.h"
#include "runtime/flush_to_zero.h"
#include "values.h"

namespace treadle {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kLargest = std::numeric_limits<float>::max();
constexpr double kUnit = 0x1p-24;  // of one rounding
constexpr std::int64_t kRows = 3;

const std::int64_t kSizes[] = {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 65, 100, 384};

RowArgs contiguous(std::int64_t rows, std::int64_t size, const float* x, float* out) {
  RowArgs a{};
  a.rows = rows;
  a.size = a.x_stride = a.residual_stride = a.out_stride = size;
  a.x = x;
  a.out = out;
  a.eps = 1e-5f;
  return a;
}

// The largest error as a multiple of its bound.
double layer_norm_error(const RowArgs& a, const std::vector<float>& x,
                        const std::vector<float>& residual, const float* out) {
  const std::int64_t N = a.size;
  double worst = 0;
  for (std::int64_t row = 0; row < a.rows; ++row) {
    std::vector<double> t(N);
    double mean = 0, largest = 0, variance = 0;
    for (std::int64_t i = 0; i < N; ++i) {
      t[i] = x[row * N + i] + (a.residual ? static_cast<double>(residual[row * N + i]) : 0);
      mean += t[i] / N;
      largest = std::max(largest, std::fabs(t[i]));
    }
    for (const double v : t) variance += (v - mean) * (v - mean) / N;
    const double scale = 1 / std::sqrt(variance + a.eps);
    for (std::int64_t i = 0; i < N; ++i) {
      const double weight = a.weight ? a.weight[i] : 1, bias = a.bias ? a.bias[i] : 0;
      const double y = (t[i] - mean) * scale * weight + bias;
      // The sum, its terms and the mean; then the variance and a few more.
      const double moved = (N + 3) * kUnit * largest * scale;
      const double bound = (moved + std::fabs(t[i] - mean) * scale * (moved + (N + 10) * kUnit)) *
                               std::fabs(weight) +
                           3 * kUnit * (std::fabs(y) + std::fabs(bias));
      const double error = std::fabs(out[row * N + i] - y);
      if (error != 0) worst = std::max(worst, std::isnan(error) ? INFINITY : error / bound);
    }
  }
  return worst;
}

TEST_CASE("layer norm: every size, with and without a residual, weight and bias") {
  for_each_isa([](const KernelTable& table) {
    const FlushToZero guard;
    for (const std::int64_t N : kSizes) {
      CAPTURE(N);
      for (const float middle : {0.0f, 30.0f}) {
        std::vector<float> x = random_floats(kRows * N, 1);
        for (float& v : x) v += middle;
        const std::vector<float> residual = random_floats(kRows * N, 2);
        const Guarded<float> in(x), add(residual), weight(random_floats(N, 3)),
            bias(random_floats(N, 4));
        for (const bool with_residual : {false, true}) {
          for (const bool affine : {false, true}) {
            Guarded<float> out(kRows * N);
            RowArgs a = contiguous(kRows, N, in.data(), out.data());
            if (with_residual) a.residual = add.data();
            if (affine) {
              a.weight = weight.data();
              a.bias = bias.data();
            }
            table.layer_norm(a);
            CHECK(layer_norm_error(a, x, residual, out.data()) <= 1);
            Guarded<float> same_place(x);
            a.x = a.out = same_place.data();
            table.layer_norm(a);
            CHECK(first_difference(same_place, out, kRows * N) == -1);
          }
        }
      }
    }
  });
}

TEST_CASE("layer norm: equal numbers become the bias; NaN and infinity stay in their row") {
  for_each_isa([](const KernelTable& table) {
    const FlushToZero guard;
    constexpr std::int64_t N = 21;
    const std::vector<float> bias = random_floats(N, 1);
    std::vector<float> x(kRows * N, 0.5f), out(kRows * N), plain(kRows * N);
    RowArgs a = contiguous(kRows, N, x.data(), plain.data());
    a.bias = bias.data();
    table.layer_norm(a);
    for (std::int64_t i = 0; i < kRows * N; ++i) CHECK(plain[i] == bias[i % N]);
    a.out = out.data();
    for (const float bad : {kNan, kInfinity, -kInfinity}) {
      for (std::int64_t i = 0; i < N; ++i) {
        x[N + i] = bad;
        table.layer_norm(a);
        x[N + i] = 0.5f;
        for (std::int64_t j = 0; j < N; ++j) CHECK(std::isnan(out[N + j]));
        CHECK(first_difference(out, plain, N) == -1);
        CHECK(first_difference(out.data() + 2 * N, plain.data() + 2 * N, N) == -1);
      }
    }
  });
}

void check_softmax(const KernelTable& table, const float* x, std::int64_t N, const float* out) {
  const bool fused = table.isa != std::string("portable");
  double most = -INFINITY, total = 0;
  for (std::int64_t i = 0; i < N; ++i) most = std::max(most, static_cast<double>(x[i]));
  for (std::int64_t i = 0; i < N; ++i) total += std::exp(x[i] - most);
  for (std::int64_t i = 0; i < N; ++i) {
    const double y = std::exp(x[i] - most) / total;
    // The bound adds the errors of the exponent (its own rounding and that of log2(e); without fma
    // that of x log2(e) as well), of 2^x, and of the sum.
    const double product = fused ? 0 : 2 * (std::fabs(x[i]) + std::fabs(most));
    const double bound = y * kUnit * (2 * (most - x[i]) + product + N + 12) +
                         std::numeric_limits<float>::min();  // less than that is flushed
    CAPTURE(i);
    REQUIRE(std::fabs(out[i] - y) <= bound);
  }
}

TEST_CASE("log_softmax: the logarithm of softmax, in place too; rows of -infinity stay") {
  for_each_isa([](const KernelTable& table) {
    const FlushToZero guard;
    for (const std::int64_t N : kSizes) {
      CAPTURE(N);
      for (const float scale : {1.0f, 1000.0f}) {
        const std::vector<float> x = random_floats(kRows * N, 5, scale);
        const Guarded<float> in(x);
        Guarded<float> out(kRows * N), same_place(x);
        table.log_softmax(contiguous(kRows, N, in.data(), out.data()));
        table.log_softmax(contiguous(kRows, N, same_place.data(), same_place.data()));
        CHECK(first_difference(same_place.data(), out, kRows * N) == -1);
        for (std::int64_t row = 0; row < kRows; ++row) {
          double most = -INFINITY, total = 0;
          for (std::int64_t i = 0; i < N; ++i)
            most = std::max(most, static_cast<double>(x[row * N + i]));
          for (std::int64_t i = 0; i < N; ++i) total += std::exp(x[row * N + i] - most);
          for (std::int64_t i = 0; i < N; ++i) {
            const double y = x[row * N + i] - most - std::log(total);
            // The bound adds the errors of two differences, of the logarithm, and of the sum. A
            // term e^-u of the sum has the error of softmax, of which u e^-u < 1/2 counts.
            const double bound = kUnit * (3 * std::fabs(y) + (most - x[row * N + i]) + N + 16);
            CAPTURE(i);
            REQUIRE(std::fabs(out[row * N + i] - y) <= bound);
          }
        }
        std::vector<float> nothing(N, -INFINITY);
        table.log_softmax(contiguous(1, N, nothing.data(), nothing.data()));
        for (std::int64_t i = 0; i < N; ++i) CHECK(nothing[i] == -INFINITY);
      }
    }
  });
}

TEST_CASE("softmax: every size, in place too") {
  for_each_isa([](const KernelTable& table) {
    const FlushToZero guard;
    for (const std::int64_t N : kSizes) {
      CAPTURE(N);
      for (const float scale : {1.0f, 30.0f, 1000.0f}) {
        for (const Edge edge : {Edge::end, Edge::begin}) {
          const std::vector<float> x = random_floats(kRows * N, 5, scale);
          const Guarded<float> in(x, edge);
          Guarded<float> out(kRows * N, edge), same_place(x, edge);
          table.softmax(contiguous(kRows, N, in.data(), out.data()));
          for (std::int64_t row = 0; row < kRows; ++row) {
            check_softmax(table, x.data() + row * N, N, out.data() + row * N);
          }
          table.softmax(contiguous(kRows, N, same_place.data(), same_place.data()));
          CHECK(first_difference(same_place, out, kRows * N) == -1);
        }
      }
    }
  });
}

TEST_CASE("softmax: infinities, NaN and the largest numbers") {
  for_each_isa([](const KernelTable& table) {
    const FlushToZero guard;
    for (const std::int64_t N : {1, 3, 8, 16, 21, 40}) {
      CAPTURE(N);
      std::vector<float> x(N, -kInfinity), out(N, 9.0f);
      const RowArgs a = contiguous(1, N, x.data(), out.data());
      table.softmax(a);
      for (const float y : out) REQUIRE(same(y, 0.0f));
      for (std::int64_t i = 0; i < N; ++i) {
        for (const float only : {0.0f, -1000.0f, 1e30f, kLargest, -kLargest}) {
          CAPTURE(only);
          x[i] = only;
          table.softmax(a);
          for (std::int64_t j = 0; j < N; ++j) REQUIRE(out[j] == (i == j ? 1.0f : 0.0f));
        }
        for (const float bad : {kNan, kInfinity}) {
          x[i] = bad;
          table.softmax(a);
          for (const float y : out) REQUIRE(std::isnan(y));
        }
        x[i] = -kInfinity;
      }
      // A mask of the lowest number hides nothing from itself.
      for (const float value : {-kLargest, kLargest}) {
        std::fill(x.begin(), x.end(), value);
        table.softmax(a);
        for (const float y : out) REQUIRE(y == doctest::Approx(1.0 / N));
      }
    }
  });
}

TEST_CASE("rows may lie anywhere, and do not depend on their neighbours") {
  for_each_isa([](const KernelTable& table) {
    const FlushToZero guard;
    constexpr std::int64_t M = 7, N = 37, kStride = 41;
    const std::vector<float> x = random_floats(M * kStride, 6), residual = random_floats(N, 7);
    for (const auto kernel : {table.layer_norm, table.softmax}) {
      std::vector<float> one(N), all(M * kStride, 9.0f);
      RowArgs a = contiguous(M, N, x.data() + (M - 1) * kStride, all.data());
      a.x_stride = -kStride;
      a.out_stride = kStride;
      if (kernel == table.layer_norm) a.residual = residual.data();
      a.residual_stride = 0;
      kernel(a);
      for (std::int64_t m = 0; m < M; ++m) {
        RowArgs b = contiguous(1, N, x.data() + (M - 1 - m) * kStride, one.data());
        b.residual = a.residual;
        kernel(b);
        CHECK(first_difference(one, all.data() + m * kStride, N) == -1);
        for (std::int64_t i = N; i < kStride; ++i) CHECK(all[m * kStride + i] == 9.0f);
      }
    }
  });
}

}  // namespace
}  // namespace treadle

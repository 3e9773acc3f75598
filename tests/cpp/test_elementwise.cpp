// engine/product/elementwise and its kernels on every ISA level, on arrays that end at a page
// nobody may touch.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "engine/product/elementwise.h"
#include "guarded.h"
#include "runtime/flush_to_zero.h"
#include "runtime/thread_pool.h"
#include "values.h"

namespace treadle {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

double exact(UnaryFunction f, double x) {
  switch (f) {
    case UnaryFunction::negative:
      return -x;
    case UnaryFunction::abs:
      return std::fabs(x);
    case UnaryFunction::sign:
      return x > 0 ? 1 : x < 0 ? -1 : x == 0 ? 0 : x;
    case UnaryFunction::square:
      return x * x;
    case UnaryFunction::sqrt:
      return std::sqrt(x);
    case UnaryFunction::reciprocal:
      return 1 / x;
    case UnaryFunction::floor:
      return std::floor(x);
    case UnaryFunction::ceil:
      return std::ceil(x);
    case UnaryFunction::round:
      return std::nearbyint(x);
    case UnaryFunction::log:
      return std::log(x);
  }
  return kNan;
}

constexpr UnaryFunction kUnary[] = {
    UnaryFunction::negative, UnaryFunction::abs,        UnaryFunction::sign,  UnaryFunction::square,
    UnaryFunction::sqrt,     UnaryFunction::reciprocal, UnaryFunction::floor, UnaryFunction::ceil,
    UnaryFunction::round,    UnaryFunction::log};

TEST_CASE("functions of one number are correctly rounded, and the logarithm nearly so") {
  std::vector<float> x = random_floats(4000, 1, 100.0f);
  for (std::size_t i = 0; i < x.size(); i += 3) x[i] = std::round(2 * x[i]) / 2;  // middles
  for (std::size_t i = 1; i < x.size(); i += 3) x[i] = 1 + x[i] / 1e6f;           // near 1
  for (std::size_t i = 2; i < x.size(); i += 6) x[i] = std::ldexp(x[i], static_cast<int>(i) % 90);
  for (const float v : {0.0f, -0.0f, 1.0f, -1.0f, kInfinity, -kInfinity, kNan, 8388607.5f,
                        4194304.5f, -8388607.5f, 16777216.0f, 3e38f, 1.5e-38f}) {
    x.push_back(v);
  }
  for_each_isa([&](const KernelTable& table) {
    const FlushToZero guard;
    for (const UnaryFunction f : kUnary) {
      CAPTURE(static_cast<int>(f));
      for (const std::int64_t n : {std::int64_t{1}, std::int64_t{7}, std::int64_t{33},
                                   static_cast<std::int64_t>(x.size())}) {
        const Guarded<float> in(std::vector<float>(x.end() - n, x.end()));
        Guarded<float> out(n);
        table.unary(f, in.data(), out.data(), n);
        for (std::int64_t i = 0; i < n; ++i) {
          const float y = static_cast<float>(exact(f, in[i]));
          CAPTURE(in[i]);
          if (f == UnaryFunction::log && std::isfinite(y)) {
            const double one = std::nextafter(std::fabs(y), kInfinity) - std::fabs(y);
            REQUIRE(std::fabs(out[i] - exact(f, in[i])) <= 3 * one);
          } else if (std::fabs(y) >= std::numeric_limits<float>::min() || y == 0) {
            REQUIRE(same(out[i], y));
          }
        }
      }
    }
  });
}

float exact(BinaryFunction f, float a, float b) {
  switch (f) {
    case BinaryFunction::add:
      return a + b;
    case BinaryFunction::subtract:
      return a - b;
    case BinaryFunction::multiply:
      return a * b;
    case BinaryFunction::divide:
      return a / b;
    case BinaryFunction::min:
      return std::isnan(a) || std::isnan(b) ? kNan : std::min(a, b);
    case BinaryFunction::max:
      return std::isnan(a) || std::isnan(b) ? kNan : std::max(a, b);
  }
  return kNan;
}

struct Shapes {
  std::vector<std::int64_t> a, b;
};

std::int64_t count(const std::vector<std::int64_t>& sizes) {
  std::int64_t result = 1;
  for (const std::int64_t n : sizes) result *= n;
  return result;
}

// Returns the element of an operand that element i of the result takes, axis by axis.
std::int64_t element(const std::vector<std::int64_t>& sizes, const Broadcast& shape,
                     std::int64_t i) {
  std::int64_t at = 0, stride = 1;
  for (int k = 1; k <= shape.rank; ++k) {
    const std::int64_t index = i % shape.sizes[shape.rank - k];
    i /= shape.sizes[shape.rank - k];
    if (k > static_cast<int>(sizes.size())) continue;
    const std::int64_t size = sizes[sizes.size() - static_cast<std::size_t>(k)];
    if (size > 1) at += index * stride;
    stride *= size;
  }
  return at;
}

const Shapes kShapes[] = {{{}, {}},
                          {{5}, {5}},
                          {{5}, {}},
                          {{}, {37}},
                          {{3, 37}, {37}},
                          {{3, 1}, {3, 37}},
                          {{3, 1}, {1, 5}},
                          {{2, 3, 4, 5}, {3, 1, 5}},
                          {{2, 1, 4, 1}, {3, 1, 5}},
                          {{2, 3, 4, 5}, {2, 3, 4, 5}},
                          {{1, 1, 1}, {1}},
                          {{0, 3}, {3}},
                          {{2, 0, 4}, {2, 1, 4}},
                          {{70000}, {70000}},
                          {{40000, 2}, {2}},
                          {{300, 1, 3}, {1, 300, 3}},
                          {{2, 40000}, {2, 1}},
                          {{1, 2, 1, 2, 1, 2, 1, 2}, {2, 1, 2, 1, 2, 1, 2, 1}}};

TEST_CASE("operands are broadcast as NumPy does it, with any number of threads") {
  for_each_isa([&](const KernelTable& table) {
    const FlushToZero guard;
    for (const Shapes& s : kShapes) {
      CAPTURE(&s - kShapes);
      Broadcast shape;
      REQUIRE(shape.set(s.a.data(), static_cast<int>(s.a.size()), s.b.data(),
                        static_cast<int>(s.b.size())));
      const std::int64_t n = count({shape.sizes, shape.sizes + shape.rank});
      std::vector<float> left = random_floats(count(s.a), 1), right = random_floats(count(s.b), 2);
      if (!left.empty()) left[left.size() / 2] = kNan;
      if (!right.empty()) right[right.size() / 3] = kNan;
      const Guarded<float> a(left), b(right);
      for (const int threads : {1, 2}) {
        set_num_threads(threads);
        Interrupt interrupt(nullptr);
        OwnTeams teams(interrupt);
        for (const BinaryFunction f :
             {BinaryFunction::add, BinaryFunction::subtract, BinaryFunction::multiply,
              BinaryFunction::divide, BinaryFunction::min, BinaryFunction::max}) {
          CAPTURE(static_cast<int>(f));
          Guarded<float> out(n);
          apply_binary(table, f, shape, a.data(), b.data(), out.data(), ParallelFor(teams));
          std::int64_t wrong = 0;
          for (std::int64_t i = 0; i < n; ++i) {
            wrong += !same(out[i], exact(f, a[element(s.a, shape, i)], b[element(s.b, shape, i)]));
          }
          REQUIRE(wrong == 0);
        }
        Guarded<float> out(n);
        apply_power(table, shape, a.data(), b.data(), out.data(), ParallelFor(teams));
        std::int64_t wrong = 0;
        for (std::int64_t i = 0; i < n; ++i) {
          wrong += !same(out[i], std::pow(a[element(s.a, shape, i)], b[element(s.b, shape, i)]));
        }
        REQUIRE(wrong == 0);
      }
    }
  });
}

TEST_CASE("powers of 2 and 1/2 are squares and roots") {
  const std::vector<float> x = random_floats(100, 1, 9.0f);
  const std::int64_t size = 100;
  Broadcast shape;
  REQUIRE(shape.set(&size, 1, nullptr, 0));
  for_each_isa([&](const KernelTable& table) {
    Interrupt interrupt(nullptr);
    OwnTeams teams(interrupt);
    for (const float exponent : {2.0f, 0.5f}) {
      std::vector<float> y(x.size());
      apply_power(table, shape, x.data(), &exponent, y.data(), ParallelFor(teams));
      for (std::size_t i = 0; i < x.size(); ++i) {
        REQUIRE(same(y[i], exponent == 2 ? x[i] * x[i] : std::sqrt(x[i])));
      }
    }
  });
}

TEST_CASE("shapes that do not fit are told") {
  const std::int64_t two[] = {2, 3}, other[] = {2, 4}, many[] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
  Broadcast shape;
  CHECK_FALSE(shape.set(two, 2, other, 2));
  CHECK_FALSE(shape.set(many, 9, two, 2));
  CHECK(shape.set(two, 2, two + 1, 1));
}

TEST_CASE("arrays of any length go through every function, in place too") {
  for_each_isa([](const KernelTable& table) {
    const FlushToZero guard;
    for (const int threads : {1, 2}) {
      set_num_threads(threads);
      Interrupt interrupt(nullptr);
      OwnTeams teams(interrupt);
      for (const std::int64_t n : {0, 1, 16, 50000}) {
        const std::vector<float> x = random_floats(n, 1);
        Guarded<float> y(x), z(x), w(x);
        const ParallelFor parallel_for(teams);
        apply_all(table, {ActivationFunction::tanh, 0, 0}, y.data(), y.data(), n, parallel_for);
        apply_all(table, UnaryFunction::square, z.data(), z.data(), n, parallel_for);
        apply_all([](float v) { return v + 1; }, w.data(), w.data(), n, parallel_for);
        std::int64_t wrong = 0;
        for (std::int64_t i = 0; i < n; ++i) {
          wrong +=
              std::fabs(y[i] - std::tanh(x[i])) > 1e-6 || z[i] != x[i] * x[i] || w[i] != x[i] + 1;
        }
        CHECK(wrong == 0);
      }
    }
  });
}

TEST_CASE("sums of rows and columns are within their rounding errors") {
  for_each_isa([](const KernelTable& table) {
    for (const std::int64_t rows : {0, 1, 3, 4, 63, 64, 65, 300}) {
      for (const std::int64_t columns : {1, 3, 4, 8, 16, 17, 33}) {
        CAPTURE(rows);
        CAPTURE(columns);
        const Guarded<float> x(random_floats(rows * columns, 1)), mean(random_floats(columns, 2));
        for (const bool squares : {false, true}) {
          Guarded<float> sums(columns);
          table.column_sums(
              {rows, columns, x.data(), columns, squares ? mean.data() : nullptr, sums.data()});
          for (std::int64_t c = 0; c < columns; ++c) {
            double sum = 0, magnitude = 0;
            for (std::int64_t r = 0; r < rows; ++r) {
              const double v = x[r * columns + c], d = v - mean[c];
              sum += squares ? d * d : v;
              magnitude += squares ? d * d + 2 * std::fabs(d) : std::fabs(v);
            }
            // A term is added at most 16 times within its block, twice to join four sums, and then
            // once for each block.
            REQUIRE(std::fabs(sums[c] - sum) <= 0x1p-24 * magnitude * (21 + rows / 64));
          }
          const std::int64_t n = rows * columns;
          const double got = table.row_sum(x.data(), n, mean[0], squares);
          double sum = 0, magnitude = 0;
          for (std::int64_t i = 0; i < n; ++i) {
            const double v = x[i], d = v - mean[0];
            sum += squares ? d * d : v;
            magnitude += squares ? d * d + 2 * std::fabs(d) : std::fabs(v);
          }
          REQUIRE(std::fabs(got - sum) <= 0x1p-24 * magnitude * 26);
        }
      }
    }
  });
}

TEST_CASE("rows are scaled by row and by column") {
  for_each_isa([](const KernelTable& table) {
    for (const std::int64_t rows : {1, 5}) {
      for (const std::int64_t columns : {1, 4, 16, 37}) {
        for (const bool by_column : {false, true}) {
          const std::int64_t factors = by_column ? columns : rows;
          const Guarded<float> x(random_floats(rows * columns, 1)), mean(random_floats(factors, 2));
          const Guarded<float> scale(random_floats(factors, 3)), shift(random_floats(factors, 4));
          for (const float* m : {static_cast<const float*>(nullptr), mean.data()}) {
            Guarded<float> out(rows * columns);
            table.scale_rows(
                {rows, columns, x.data(), out.data(), m, scale.data(), shift.data(), by_column});
            for (std::int64_t i = 0; i < rows * columns; ++i) {
              const std::int64_t k = by_column ? i % columns : i / columns;
              const float centered = x[i] - (m ? m[k] : 0.0f), scaled = centered * scale[k];
              REQUIRE(same(out[i], scaled + shift[k]));
            }
          }
        }
      }
    }
  });
}

}  // namespace
}  // namespace treadle

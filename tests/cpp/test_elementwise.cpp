// The kernels of single numbers are tested on every ISA level, on arrays that end at a page nobody
// may touch.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "guarded.h"
#include "kernels/table.h"
#include "runtime/flush_to_zero.h"
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

// An operand is a whole matrix, a column of one number a row, a row that is repeated, or a number.
struct Walk {
  bool every_row, every_column;
};
constexpr Walk kWalks[] = {{true, true}, {true, false}, {false, true}, {false, false}};

TEST_CASE("functions of two numbers are exact, whatever an operand repeats, in place too") {
  for_each_isa([](const KernelTable& table) {
    const FlushToZero guard;
    for (const std::int64_t rows : {1, 3}) {
      for (const std::int64_t columns : {0, 1, 7, 16, 33, 100}) {
        CAPTURE(rows);
        CAPTURE(columns);
        // Element [r, c] is number r * row + c * step of an operand.
        const auto operand = [&](const Walk& walk, int seed) {
          const std::int64_t n = (walk.every_row ? rows : 1) * (walk.every_column ? columns : 1);
          std::vector<float> values = random_floats(n, seed);
          if (n > 0) values[static_cast<std::size_t>(n / 2)] = kNan;
          return Guarded<float>(values);
        };
        const auto walked = [&](const Walk& walk, const float* data) -> BinaryOperand {
          const std::int64_t size = walk.every_column ? columns : 1;
          return {data, walk.every_row ? size : 0, walk.every_column ? 1 : 0};
        };
        for (const Walk& left : kWalks) {
          for (const Walk& right : kWalks) {
            const Guarded<float> x = operand(left, 1), y = operand(right, 2);
            const BinaryOperand a = walked(left, x.data()), b = walked(right, y.data());
            for (const BinaryFunction f :
                 {BinaryFunction::add, BinaryFunction::subtract, BinaryFunction::multiply,
                  BinaryFunction::divide, BinaryFunction::min, BinaryFunction::max}) {
              CAPTURE(static_cast<int>(f));
              Guarded<float> out(rows * columns), over = operand(left, 1);
              table.binary({f, rows, columns, a, b, out.data()});
              const bool whole = left.every_row && left.every_column;
              if (whole)
                table.binary({f, rows, columns, walked(left, over.data()), b, over.data()});
              std::int64_t wrong = 0;
              for (std::int64_t r = 0; r < rows; ++r) {
                for (std::int64_t c = 0; c < columns; ++c) {
                  const float want =
                      exact(f, a.data[r * a.row + c * a.step], b.data[r * b.row + c * b.step]);
                  wrong += !same(out[r * columns + c], want);
                  wrong += whole && !same(over[r * columns + c], want);
                }
              }
              REQUIRE(wrong == 0);
            }
          }
        }
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

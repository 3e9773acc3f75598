// This header has the arguments of the kernels of single numbers: functions of one array or two.
#pragma once

#include <cstdint>

namespace treadle {

// The functions of one number that are no activations (kernels/table.h has those).
enum class UnaryFunction : int {
  negative,
  abs,
  sign,  // -1, 0 or 1; NaN stays NaN
  square,
  sqrt,
  reciprocal,
  floor,
  ceil,
  round,  // to the nearest integer, in the middle to the even one
  log,    // -infinity of 0, NaN of negative numbers
};

// The result is NaN where either number is NaN, of min and max, too.
enum class BinaryFunction : int { add, subtract, multiply, divide, min, max };

// A BinaryOperand is a matrix: element [r, c] lies at data[r * row + c * step], where step is 1, or
// 0 for an operand that has one number in each row.
struct BinaryOperand {
  const float* data;
  std::int64_t row;
  int step;
};

// out[r, c] = f(a[r, c], b[r, c]). `out` is contiguous; it may be an operand that is contiguous,
// too, and overlaps nothing else.
struct BinaryArgs {
  BinaryFunction f;
  std::int64_t rows, columns;
  BinaryOperand a, b;
  float* out;
};

// out[r, c] = (x[r, c] - mean) * scale + shift. The three factors belong to the rows, or to the
// columns where `by_column` is true. `mean` may be null, which stands for zeros.
struct ScaleArgs {
  std::int64_t rows, columns;
  const float* x;
  float* out;  // may be x
  const float *mean, *scale, *shift;
  bool by_column;
};

// sums[c] = sum_r g(x[r, c]), where g(x) is x, or (x - mean[c])^2 unless `mean` is null. r goes up
// in blocks of kSumRows rows, each summed by itself and then added, four blocks apart from each
// other: a sum has the same bits wherever its rows lie.
constexpr std::int64_t kSumRows = 64;
struct ColumnSumArgs {
  std::int64_t rows, columns;
  const float* x;
  std::int64_t stride;  // floats from one row to the next
  const float* mean;
  float* sums;
};

}  // namespace treadle

// This header has the arguments of the kernels of whole rows.
#pragma once

#include <cstdint>

namespace treadle {

// Rows have N floats; out may be x. layer_norm brings x + residual to mean 0 and variance 1 (of N,
// with eps added), multiplies by weight, adds bias. rms_norm divides x by the root of eps and the
// mean of squares, and multiplies by weight; it has no residual and no bias. softmax turns a row of
// -infinity into zeros; log_softmax leaves it as it is.
struct RowArgs {
  std::int64_t rows, size;
  const float* x;
  std::int64_t x_stride;
  const float* residual;  // or null
  std::int64_t residual_stride;
  float* out;
  std::int64_t out_stride;
  const float *weight, *bias;  // [N], or null
  float eps;
};

// to[c, r] = from[r, c]; the rows of both are so many floats apart.
struct TransposeArgs {
  std::int64_t rows, columns;
  const float* from;
  std::int64_t from_stride;
  float* to;
  std::int64_t to_stride;
};

// `rotate` turns the pairs of numbers x[i] and x[half + i] of each head by the angles of a position
// (rotary positions). The heads are `stride` floats apart.
struct RotateArgs {
  std::int64_t heads, stride, half;
  float* x;
  const float* turns;  // [2 * half]: cosines, then sines
};

// `best` finds the k <= N largest of N numbers, in falling order; of equal ones the first come
// first, and NaN counts as -infinity. `lse` is the logarithm of the sum of e^x.
struct BestArgs {
  std::int64_t size, k;
  const float* x;
  float* values;      // [k]
  std::int64_t* ids;  // [k]
  float* lse;         // one float
};

// is_finite tells whether rows of floats, `stride` apart, are free of NaN and infinity.
struct FiniteArgs {
  const float* x;
  std::int64_t rows, size, stride;
};

}  // namespace treadle

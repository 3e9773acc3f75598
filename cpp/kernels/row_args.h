// This header has the arguments of the kernels of whole rows.
#pragma once

#include <cstdint>

namespace treadle {

// Rows have N floats; out may be x. layer_norm brings x + residual to mean 0 and variance 1 (of N,
// with eps added), multiplies by weight, adds bias. softmax turns a row of -infinity into zeros;
// log_softmax leaves it as it is.
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

// is_finite tells whether rows of floats, `stride` apart, are free of NaN and infinity.
struct FiniteArgs {
  const float* x;
  std::int64_t rows, size, stride;
};

}  // namespace treadle

// A convolution over arrays with channels first that turns nothing: pixels take the place of the
// outputs of a product, and a row of x that a tap meets takes that of its weights. It serves where
// rows fill the vectors; the results have the bits of Conv.
#pragma once

#include <cstdint>

#include "engine/conv/conv.h"

namespace treadle {

// Planes says where x [B, C, H, W] lies. Its last axis is contiguous.
struct Planes {
  std::int64_t batch, height, width;
  const float* x;
  std::int64_t image_stride, channel_stride, row_stride;
};

// Computes y [B, D, H', W'], contiguous, on the pool's threads, and returns true; or returns false
// where channels last are faster, or the dtype is not float32. `f` may be null.
bool convolve_planes(const Conv& conv, const Planes& in, const Activation* f, float* y,
                     Interrupt& interrupt);

}  // namespace treadle

// Arrays with channels first, as PyTorch and ONNX have them, are turned to channels last and back.
#pragma once

#include <cstdint>

#include "engine/conv/conv.h"
#include "engine/conv/conv_transpose.h"
#include "engine/conv/depthwise.h"

namespace treadle {

// Planes says where x [B, C, H, W] lies. Its last axis is contiguous.
struct Planes {
  std::int64_t batch, height, width;
  const float* x;
  std::int64_t image_stride, channel_stride, row_stride;
};

// These compute y [B, D, H', W'], contiguous, on the pool's threads; `f` may be null.
void convolve(const Conv& conv, const Planes& in, const Activation* f, float* y,
              Interrupt& interrupt);
void convolve(const ConvTranspose& conv, const Planes& in, const Activation* f, float* y,
              Interrupt& interrupt);
void convolve(const Depthwise& conv, const Planes& in, const Activation* f, float* y,
              Interrupt& interrupt);

// Computes a call of channels last on the pool's threads.
void convolve(const Depthwise& conv, const ConvCall& call, Interrupt& interrupt);

}  // namespace treadle

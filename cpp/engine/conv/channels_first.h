// Arrays with channels first, as PyTorch and ONNX have them, are turned to channels last and back,
// or read as they are (conv_planes.h).
#pragma once

#include <cstdint>

#include "engine/conv/conv_planes.h"
#include "engine/conv/conv_transpose.h"
#include "engine/conv/depthwise.h"

namespace treadle {

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

// Norms over the pixels of images, with channels first or last. A sum has the same bits whatever
// the batch and the threads are: it is cut at fixed numbers of pixels.
#pragma once

#include <cstdint>

#include "engine/schedule/parallel_for.h"
#include "kernels/table.h"

namespace treadle {

// NormArgs are the arrays of a norm over `batch` images of C channels and P pixels. x and y are
// [B, C, P] or, with channels last, [B, P, C]; weight and bias are [C], or null.
struct NormArgs {
  std::int64_t batch, channels, pixels;
  const float* x;
  const float *weight, *bias;
  float* y;  // may be x
  bool channels_last = false;
};

// y = (x - mean) / sqrt(variance + eps) * weight + bias, with mean and variance (of the population)
// over the C / groups channels of a group and all pixels of an image (Wu and He, arXiv:1803.08494).
// With as many groups as channels this is instance norm. `scratch` has group_norm_floats floats.
void group_norm(const KernelTable& table, const NormArgs& args, std::int64_t groups, float eps,
                float* scratch, const ParallelFor& parallel_for);
std::int64_t group_norm_floats(const NormArgs& args);

// Computes y = x * weight + bias: a batch norm whose statistics are in weight and bias, both given.
void scale_channels(const KernelTable& table, const NormArgs& args,
                    const ParallelFor& parallel_for);

}  // namespace treadle

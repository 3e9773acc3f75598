// Images of another size, by the nearest pixel or by a linear function of the nearest two along
// each axis, in one or two dimensions. Channels are last; an image [B, C, H, W] is a batch of B C
// images with one channel.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/schedule/parallel_for.h"
#include "kernels/table.h"

namespace treadle {

// These formulas tell where output pixel i lies in x, along an axis of n pixels in and m out. The
// names are ONNX's; a scale that the caller does not give is m / n.
enum class ResizeCoordinates {
  half_pixel,            // (i + 1/2) / scale - 1/2
  half_pixel_symmetric,  // the same, about the middle of x
  pytorch_half_pixel,    // the same, but 0 where m = 1
  asymmetric,            // i / scale
  align_corners          // i (n - 1) / (m - 1), or 0 where m = 1
};
enum class ResizeRounding { round_prefer_floor, round_prefer_ceil, floor, ceil };

struct ResizeAxis {
  std::int64_t inputs, outputs;  // n and m; x has pixels where there are outputs
  double scale = 0;              // 0 stands for m / n
};

// Returns the pixel of x that each output takes.
std::vector<std::int64_t> nearest_pixels(const ResizeAxis& axis, ResizeCoordinates coordinates,
                                         ResizeRounding rounding);
// Returns the pixels that PyTorch's "nearest" takes, computed in float32: floor(i n / m), or
// floor((i + 1/2) n / m) if `exact` is true.
std::vector<std::int64_t> torch_nearest_pixels(const ResizeAxis& axis, bool exact);
// Returns the two pixels of x that each output lies between, and how near it is to the second.
std::vector<BlendTap> linear_taps(const ResizeAxis& axis, ResizeCoordinates coordinates);

// Computes y [B, H', W', C] of x [B, H, W, C], both contiguous; `rows` and `columns` have H' and W'
// entries.
void resize_nearest(const std::vector<std::int64_t>& rows, const std::vector<std::int64_t>& columns,
                    std::int64_t batch, std::int64_t height, std::int64_t width,
                    std::int64_t channels, const float* x, float* y,
                    const ParallelFor& parallel_for);

struct LinearResize {
  std::int64_t batch, height, width, channels;  // of x
  const std::vector<BlendTap>&rows, &columns;   // H' and W' of them
  const float* x;
  float* y;
  // Returns the floats that a call needs beside its arrays: B H' W C.
  std::int64_t scratch_floats() const {
    return batch * static_cast<std::int64_t>(rows.size()) * width * channels;
  }
};
void resize_linear(const KernelTable& table, const LinearResize& args, float* scratch,
                   const ParallelFor& parallel_for);

}  // namespace treadle

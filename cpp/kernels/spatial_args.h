// This header has the arguments of the kernels of images, channels last. A call makes one row of
// pixels; a pixel is C floats. A sequence is an image with one row.
#pragma once

#include <cstdint>

namespace treadle {

// A depthwise convolution: each channel has its own taps.
//
//     out[i, c] = f(bias[c] + sum_j sum_k w[j, k, c] x[j, stride i + dilation k - before, c])
//
// where x is zero outside of its `width` pixels, and f keeps numbers in [low, high].
struct DepthwiseArgs {
  std::int64_t channels, width, outputs;  // some channels; the pixels of a row of x and of `out`
  const float* x;                         // the first pixel that the first row of taps meets
  std::int64_t tap_rows, row_stride;      // rows of taps inside of x, and floats between their rows
  std::int64_t taps, stride, dilation, before;  // along a row
  const float* weights;  // [tap_rows][taps][weight_stride]; the floats beyond C are read, not used
  std::int64_t weight_stride;  // a multiple of the lanes
  const float* bias;           // [weight_stride]
  float low, high;
  float* out;                 // [outputs], as far apart as those of x
  std::int64_t pixel_stride;  // C: floats from one pixel to the next
};

// A product over planes, whose pixels n lie side by side.
//
//     out[d, n] = f(bias[d] + sum_k w[k, d] x[k, n])
//
// k goes up in blocks of so many terms, each summed by itself and then added; f keeps numbers in
// [low, high].
struct PlanesArgs {
  std::int64_t k, columns, outputs;
  const float* const* x;  // [k] rows of `columns` floats, from x_offset on
  std::int64_t x_offset;
  const float* weights;  // [k] rows of `outputs` floats, weight_stride floats apart
  std::int64_t weight_stride;
  const float* bias;  // [outputs], or null
  std::int64_t block;
  float low, high;
  float* out;  // [outputs] rows of `columns` floats, out_stride floats apart
  std::int64_t out_stride;
};

// The pixels of one row of x that an output pixel of a pool sees.
struct PoolWindow {
  std::int64_t first, count;  // may be 0 pixels
  float share;                // of an average: the pixels by which its sum is divided
};

// out[i, c] = the largest, or the sum divided by `share`, of x[j, first + dilation k, c].
struct PoolArgs {
  std::int64_t channels, outputs;
  const float* x;
  std::int64_t rows, row_stride;  // rows of the window inside of x, and floats between them
  std::int64_t dilation;          // pixels from one of a window to the next
  const PoolWindow* windows;      // [outputs]
  float row_share;                // of an average: multiplies `share`
  float* out;                     // [outputs, C]; a window without pixels gives 0, or -infinity
};

// out[i, c] = (1 - t) x[from, c] + t x[to, c], where a tap is in pixels.
struct BlendTap {
  std::int64_t from, to;
  float t;
};
struct BlendArgs {
  std::int64_t channels, outputs;
  const float* x;
  const BlendTap* taps;  // [outputs]
  float* out;
};

}  // namespace treadle

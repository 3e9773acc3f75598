// A row of a depthwise convolution, channels last: spatial_args.h has the formula.
//
// A vector holds channels. kPixels output pixels are summed at once, so that a weight is loaded
// once for all of them; where the taps of a row are 3 or 5 side by side, a pixel of x is loaded
// once for all the taps that it meets, too: kPixels registers of sums, kTaps weights, one x. A
// block of pixels goes through all channels before the next one, as long as what it reads of x is
// still in L1. A pixel's sum begins with the bias and goes through the taps in their order, those
// outside of x left out; so it does not depend on the block that it is in.
#pragma once

#include "kernels/table.h"
#include "simd/math.h"

namespace treadle::TREADLE_ISA {
namespace {

// Adds the taps [begin, end) of one row of x to the sums of kPixels pixels, which are kStride
// pixels of x apart. With kTaps these are all taps, and neighbours.
template <int kPixels, int kTaps, int kStride, class Load>
TREADLE_INLINE void add_taps(const DepthwiseArgs& a, const float* x, const float* weights,
                             std::int64_t begin, std::int64_t end, Vec (&sums)[kPixels], Load get) {
  if constexpr (kTaps > 0) {
    Vec w[kTaps];
#pragma GCC unroll 8
    for (int k = 0; k < kTaps; ++k) w[k] = load(weights + k * a.weight_stride);
#pragma GCC unroll 32
    for (int pixel = 0; pixel < (kPixels - 1) * kStride + kTaps; ++pixel) {
      const Vec v = get(x + pixel * a.channels);
#pragma GCC unroll 8
      for (int p = 0; p < kPixels; ++p) {
        const int k = pixel - p * kStride;
        if (k >= 0 && k < kTaps) sums[p] = fma(v, w[k], sums[p]);
      }
    }
  } else {
    const std::int64_t step = a.stride * a.channels, tap_step = a.dilation * a.channels;
    for (std::int64_t k = begin; k < end; ++k) {
      const Vec w = load(weights + k * a.weight_stride);
      const float* from = x + k * tap_step;
#pragma GCC unroll 8
      for (int p = 0; p < kPixels; ++p) sums[p] = fma(get(from + p * step), w, sums[p]);
    }
  }
}

// Makes the output pixels [i, i + kPixels), all of which meet the taps [begin, end) of each row.
template <int kPixels, int kTaps, int kStride>
TREADLE_INLINE void depthwise_block(const DepthwiseArgs& a, std::int64_t i, std::int64_t begin,
                                    std::int64_t end) {
  const std::int64_t C = a.channels, row_weights = a.taps * a.weight_stride;
  const float* x = a.x + (i * a.stride - a.before) * C;
  float* out = a.out + i * C;
  const Vec low = broadcast(a.low), high = broadcast(a.high);
  const auto run = [&](std::int64_t c, auto get, auto put) {
    Vec sums[kPixels];
    const Vec bias = load(a.bias + c);
#pragma GCC unroll 8
    for (int p = 0; p < kPixels; ++p) sums[p] = bias;
    const float *from = x + c, *weights = a.weights + c;
    for (std::int64_t j = 0; j < a.tap_rows; ++j) {
      add_taps<kPixels, kTaps, kStride>(a, from, weights, begin, end, sums, get);
      from += a.row_stride;
      weights += row_weights;
    }
#pragma GCC unroll 8
    for (int p = 0; p < kPixels; ++p) put(out + p * C + c, clamp(low, high, sums[p]));
  };
  std::int64_t c = 0;
  for (; c + kLanes <= C; c += kLanes) run(c, load, store);
  if (c == C) return;
  const int left = static_cast<int>(C - c);
  run(
      c, [=](const float* p) { return load_partial(p, left); },
      [=](float* p, Vec v) { store_partial(p, v, left); });
}

// Makes the pixels [i, end), which meet all taps.
template <int kTaps, int kStride>
void depthwise_pixels(const DepthwiseArgs& a, std::int64_t i, std::int64_t end) {
  for (; i + 8 <= end; i += 8) depthwise_block<8, kTaps, kStride>(a, i, 0, a.taps);
  if (i + 4 <= end) {
    depthwise_block<4, kTaps, kStride>(a, i, 0, a.taps);
    i += 4;
  }
  if (i + 2 <= end) {
    depthwise_block<2, kTaps, kStride>(a, i, 0, a.taps);
    i += 2;
  }
  if (i < end) depthwise_block<1, kTaps, kStride>(a, i, 0, a.taps);
}

// Makes pixel i, of which some taps are outside of x.
__attribute__((noinline)) void depthwise_border(const DepthwiseArgs& a, std::int64_t i) {
  const std::int64_t first = i * a.stride - a.before, room = a.width - first;
  const std::int64_t begin = first >= 0 ? 0 : (-first + a.dilation - 1) / a.dilation;
  const std::int64_t end = room <= 0 ? 0 : (room + a.dilation - 1) / a.dilation;
  depthwise_block<1, 0, 0>(a, i, begin < a.taps ? begin : a.taps, end < a.taps ? end : a.taps);
}

void depthwise_row(const DepthwiseArgs& a) {
  // The pixels [inner, edge) meet all taps: stride i >= before, and the last tap is inside of x.
  const std::int64_t room = a.width - 1 + a.before - a.dilation * (a.taps - 1);
  std::int64_t edge = room < 0 ? 0 : room / a.stride + 1;
  edge = edge < a.outputs ? edge : a.outputs;
  std::int64_t inner = (a.before + a.stride - 1) / a.stride;
  inner = inner < edge ? inner : edge;
  for (std::int64_t i = 0; i < inner; ++i) depthwise_border(a, i);
  const bool near = a.dilation == 1 && (a.taps == 3 || a.taps == 5) && a.stride <= 2;
  if (!near) {
    depthwise_pixels<0, 0>(a, inner, edge);
  } else if (a.taps == 3) {
    a.stride == 1 ? depthwise_pixels<3, 1>(a, inner, edge) : depthwise_pixels<3, 2>(a, inner, edge);
  } else {
    a.stride == 1 ? depthwise_pixels<5, 1>(a, inner, edge) : depthwise_pixels<5, 2>(a, inner, edge);
  }
  for (std::int64_t i = edge; i < a.outputs; ++i) depthwise_border(a, i);
}

}  // namespace
}  // namespace treadle::TREADLE_ISA

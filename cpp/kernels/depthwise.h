// A row of a depthwise convolution, channels last: spatial_args.h has the formula.
//
// A vector holds channels. kPixels output pixels are summed at once, so that a weight is loaded
// once for all of them; where the taps of a row are 3 or 5 side by side, a pixel of x is loaded
// once for all the taps that it meets, too: kPixels registers of sums, kTaps weights, one x. A
// pixel's sum begins with the bias and goes through the taps in their order, those outside of x
// left out; so it does not depend on the block that it is in.
#pragma once

#include "kernels/table.h"
#include "simd/math.h"

namespace treadle::TREADLE_ISA {
namespace {

// A number as a type.
template <int N>
struct Count {
  static constexpr int value = N;
};

// A Reach is what a block of output pixels sees of a row of x: the taps [begin, end) or, counted
// from the first pixel of x that its first tap would meet, the pixels [begin, end).
struct Reach {
  std::int64_t begin, end;
};

// Adds the taps of one row of x to the sums of kPixels pixels, which are kStride pixels of x apart.
// With kTaps the reach is in pixels, and without in taps, which all pixels of the block share.
template <int kPixels, int kTaps, int kStride, class Load>
TREADLE_INLINE void add_taps(const DepthwiseArgs& a, const float* x, const float* weights,
                             const Reach& reach, Vec (&sums)[kPixels], Load get) {
  if constexpr (kTaps > 0) {
    Vec w[kTaps];
#pragma GCC unroll 8
    for (int k = 0; k < kTaps; ++k) w[k] = load(weights + k * a.weight_stride);
#pragma GCC unroll 32
    for (int pixel = 0; pixel < (kPixels - 1) * kStride + kTaps; ++pixel) {
      if (pixel < reach.begin || pixel >= reach.end) continue;
      const Vec v = get(x + pixel * a.pixel_stride);
#pragma GCC unroll 8
      for (int p = 0; p < kPixels; ++p) {
        const int k = pixel - p * kStride;
        if (k >= 0 && k < kTaps) sums[p] = fma(v, w[k], sums[p]);
      }
    }
  } else {
    const std::int64_t step = a.stride * a.pixel_stride, tap_step = a.dilation * a.pixel_stride;
    for (std::int64_t k = reach.begin; k < reach.end; ++k) {
      const Vec w = load(weights + k * a.weight_stride);
      const float* from = x + k * tap_step;
#pragma GCC unroll 8
      for (int p = 0; p < kPixels; ++p) sums[p] = fma(get(from + p * step), w, sums[p]);
    }
  }
}

// Makes the output pixels [i, i + kPixels).
template <int kPixels, int kTaps, int kStride>
TREADLE_INLINE void depthwise_block(const DepthwiseArgs& a, std::int64_t i, const Reach& reach) {
  const std::int64_t C = a.channels, row_weights = a.taps * a.weight_stride;
  const float* x = a.x + (i * a.stride - a.before) * a.pixel_stride;
  float* out = a.out + i * a.pixel_stride;
  const Vec low = broadcast(a.low), high = broadcast(a.high);
  const auto run = [&](std::int64_t c, auto get, auto put) {
    Vec sums[kPixels];
    const Vec bias = load(a.bias + c);
#pragma GCC unroll 8
    for (int p = 0; p < kPixels; ++p) sums[p] = bias;
    const float *from = x + c, *weights = a.weights + c;
    for (std::int64_t j = 0; j < a.tap_rows; ++j) {
      add_taps<kPixels, kTaps, kStride>(a, from, weights, reach, sums, get);
      from += a.row_stride;
      weights += row_weights;
    }
#pragma GCC unroll 8
    for (int p = 0; p < kPixels; ++p) put(out + p * a.pixel_stride + c, clamp(low, high, sums[p]));
  };
  std::int64_t c = 0;
  // A pointer to `load` itself would be called, without optimisation, and it is always inlined.
  const auto get = [](const float* p) { return load(p); };
  const auto put = [](float* p, Vec v) { store(p, v); };
  for (; c + kLanes <= C; c += kLanes) run(c, get, put);
  if (c == C) return;
  const int left = static_cast<int>(C - c);
  run(
      c, [=](const float* p) { return load_partial(p, left); },
      [=](float* p, Vec v) { store_partial(p, v, left); });
}

// Makes a row whose taps are kTaps side by side. Rows of many nets are multiples of 7 pixels.
template <int kTaps, int kStride>
void near_row(const DepthwiseArgs& a) {
  std::int64_t i = 0;
  const auto run = [&](auto pixels) {
    constexpr int kPixels = decltype(pixels)::value;
    const std::int64_t first = i * kStride - a.before;
    const Reach reach{first < 0 ? -first : 0, a.width - first};
    depthwise_block<kPixels, kTaps, kStride>(a, i, reach);
    i += kPixels;
  };
  if (a.outputs % 7 == 0) {
    while (i < a.outputs) run(Count<7>());
  }
  while (i + 8 <= a.outputs) run(Count<8>());
  if (i + 4 <= a.outputs) run(Count<4>());
  while (i < a.outputs) run(Count<1>());
}

// Makes pixel i, of which some taps are outside of x.
__attribute__((noinline)) void depthwise_border(const DepthwiseArgs& a, std::int64_t i) {
  const std::int64_t first = i * a.stride - a.before, room = a.width - first;
  const std::int64_t begin = first >= 0 ? 0 : (-first + a.dilation - 1) / a.dilation;
  const std::int64_t end = room <= 0 ? 0 : (room + a.dilation - 1) / a.dilation;
  depthwise_block<1, 0, 0>(a, i, {begin < a.taps ? begin : a.taps, end < a.taps ? end : a.taps});
}

// Makes a row of any taps.
void far_row(const DepthwiseArgs& a) {
  // The pixels [inner, edge) meet all taps: stride i >= before, and the last tap is inside of x.
  const std::int64_t room = a.width - 1 + a.before - a.dilation * (a.taps - 1);
  std::int64_t edge = room < 0 ? 0 : room / a.stride + 1;
  edge = edge < a.outputs ? edge : a.outputs;
  std::int64_t inner = (a.before + a.stride - 1) / a.stride;
  inner = inner < edge ? inner : edge;
  std::int64_t i = 0;
  for (; i < inner; ++i) depthwise_border(a, i);
  for (; i + 8 <= edge; i += 8) depthwise_block<8, 0, 0>(a, i, {0, a.taps});
  for (; i + 2 <= edge; i += 2) depthwise_block<2, 0, 0>(a, i, {0, a.taps});
  for (; i < a.outputs; ++i) depthwise_border(a, i);
}

void depthwise_row(const DepthwiseArgs& a) {
  if constexpr (!kFallback) {
    if (a.dilation == 1 && a.taps == 3 && a.stride == 1) return near_row<3, 1>(a);
    if (a.dilation == 1 && a.taps == 3 && a.stride == 2) return near_row<3, 2>(a);
    if (a.dilation == 1 && a.taps == 5 && a.stride == 1) return near_row<5, 1>(a);
    if (a.dilation == 1 && a.taps == 5 && a.stride == 2) return near_row<5, 2>(a);
  }
  far_row(a);
}

}  // namespace
}  // namespace treadle::TREADLE_ISA

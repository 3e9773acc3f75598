// A row of a depthwise convolution, channels last: spatial_args.h has the formula.
//
// A vector holds channels. kPixels output pixels are summed at once, so that a weight is loaded
// once for all of them: kPixels registers of sums, one weight, and x as the operand of the fma. A
// block of pixels goes through all channels before the next one, as long as what it reads of x is
// still in L1. A pixel's sum begins with the bias and goes through the taps in their order, those
// outside of x left out; so it does not depend on the block that it is in.
#pragma once

#include "kernels/table.h"
#include "simd/math.h"

namespace treadle::TREADLE_ISA {
namespace {

// Sums kPixels output pixels that `step` floats of x lie apart, for one vector of channels. All
// meet the taps [begin, end) of each row.
template <int kPixels, class Load>
TREADLE_INLINE void depthwise_sums(const DepthwiseArgs& a, const float* x, std::int64_t step,
                                   std::int64_t begin, std::int64_t end, std::int64_t c,
                                   Vec (&sums)[kPixels], Load get) {
  const std::int64_t tap_step = a.dilation * a.channels;
  const Vec bias = load(a.bias + c);
#pragma GCC unroll 8
  for (int p = 0; p < kPixels; ++p) sums[p] = bias;
  for (std::int64_t j = 0; j < a.tap_rows; ++j) {
    const float* from = x + j * a.row_stride + begin * tap_step;
    const float* weights = a.weights + (j * a.taps + begin) * a.weight_stride + c;
    for (std::int64_t k = begin; k < end; ++k) {
      const Vec w = load(weights);
#pragma GCC unroll 8
      for (int p = 0; p < kPixels; ++p) sums[p] = fma(get(from + p * step), w, sums[p]);
      from += tap_step;
      weights += a.weight_stride;
    }
  }
}

// Makes the output pixels [i, i + kPixels).
template <int kPixels>
TREADLE_INLINE void depthwise_block(const DepthwiseArgs& a, std::int64_t i, std::int64_t begin,
                                    std::int64_t end) {
  const std::int64_t C = a.channels, step = a.stride * C;
  const float* x = a.x + (i * a.stride - a.before) * C;
  float* out = a.out + i * C;
  const Vec low = broadcast(a.low), high = broadcast(a.high);
  Vec sums[kPixels];
  std::int64_t c = 0;
  for (; c + kLanes <= C; c += kLanes) {
    depthwise_sums(a, x + c, step, begin, end, c, sums, [](const float* p) { return load(p); });
#pragma GCC unroll 8
    for (int p = 0; p < kPixels; ++p) store(out + p * C + c, clamp(low, high, sums[p]));
  }
  if (c < C) {
    const int left = static_cast<int>(C - c);
    depthwise_sums(a, x + c, step, begin, end, c, sums,
                   [=](const float* p) { return load_partial(p, left); });
#pragma GCC unroll 8
    for (int p = 0; p < kPixels; ++p) {
      store_partial(out + p * C + c, clamp(low, high, sums[p]), left);
    }
  }
}

void depthwise_row(const DepthwiseArgs& a) {
  // Of the taps [0, taps) of output pixel i, those inside of x are [begin, end).
  const auto begin_of = [&](std::int64_t i) {
    const std::int64_t first = i * a.stride - a.before;
    const std::int64_t begin = first >= 0 ? 0 : (-first + a.dilation - 1) / a.dilation;
    return begin < a.taps ? begin : a.taps;
  };
  const auto end_of = [&](std::int64_t i) {
    const std::int64_t left = a.width - (i * a.stride - a.before);
    const std::int64_t end = left <= 0 ? 0 : (left + a.dilation - 1) / a.dilation;
    return end < a.taps ? end : a.taps;
  };
  for (std::int64_t i = 0; i < a.outputs;) {
    const std::int64_t begin = begin_of(i), end = end_of(i) > begin ? end_of(i) : begin;
    std::int64_t same = 1;  // pixels from i on that meet the same taps
    if (begin == 0 && end == a.taps) {
      while (same < 8 && i + same < a.outputs && end_of(i + same) == end) ++same;
    }
    if (same >= 8) {
      depthwise_block<8>(a, i, begin, end);
      i += 8;
    } else if (same >= 4) {
      depthwise_block<4>(a, i, begin, end);
      i += 4;
    } else if (same >= 2) {
      depthwise_block<2>(a, i, begin, end);
      i += 2;
    } else {
      depthwise_block<1>(a, i, begin, end);
      i += 1;
    }
  }
}

}  // namespace
}  // namespace treadle::TREADLE_ISA

// Pools and interpolation over pixels whose channels lie side by side: spatial_args.h has the
// formulas. A vector holds channels, and up to four of them are in registers at once.
#pragma once

#include "kernels/elementwise.h"

namespace treadle::TREADLE_ISA {
namespace {

// Combines the pixels of a window for `kVectors` vectors of channels, the last of `left` floats.
template <int kVectors, class Combine>
TREADLE_INLINE void pool_pixels(const PoolArgs& a, const PoolWindow& window, std::int64_t c,
                                std::int64_t left, Vec start, Vec (&result)[kVectors],
                                Combine combine) {
  const std::int64_t step = a.dilation * a.channels;
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) result[v] = start;
  for (std::int64_t j = 0; j < a.rows; ++j) {
    const float* x = a.x + j * a.row_stride + window.first * a.channels + c;
    for (std::int64_t k = 0; k < window.count; ++k, x += step) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        const bool whole = kVectors > 1 || left >= kLanes;
        result[v] = combine(result[v],
                            whole ? load(x + v * kLanes) : load_partial(x, static_cast<int>(left)));
      }
    }
  }
}

template <class Combine, class Finish>
TREADLE_INLINE void pool_row(const PoolArgs& a, Vec start, Combine combine, Finish finish) {
  const std::int64_t C = a.channels;
  for (std::int64_t i = 0; i < a.outputs; ++i) {
    const PoolWindow& window = a.windows[i];
    float* out = a.out + i * C;
    std::int64_t c = 0;
    for (; c + 4 * kLanes <= C; c += 4 * kLanes) {
      Vec result[4];
      pool_pixels(a, window, c, C - c, start, result, combine);
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) store(out + c + v * kLanes, finish(window, result[v]));
    }
    for (; c < C; c += kLanes) {
      Vec result[1];
      pool_pixels(a, window, c, C - c, start, result, combine);
      store_up_to(out + c, finish(window, result[0]), C - c);
    }
  }
}

void max_pool_row(const PoolArgs& a) {
  pool_row(
      a, broadcast(-__builtin_inff()), [](Vec most, Vec x) { return max_or_nan(most, x); },
      [](const PoolWindow&, Vec most) { return most; });
}

// A window without a pixel has the sum 0, which stays 0.
void average_pool_row(const PoolArgs& a) {
  pool_row(
      a, Vec{}, [](Vec sum, Vec x) { return sum + x; },
      [&](const PoolWindow& window, Vec sum) {
        const float share = window.share * a.row_share;
        return share == 0 ? sum : sum / broadcast(share);
      });
}

void blend_pixels(const BlendArgs& a) {
  const std::int64_t C = a.channels;
  for (std::int64_t i = 0; i < a.outputs; ++i) {
    const BlendTap& tap = a.taps[i];
    const float *from = a.x + tap.from * C, *to = a.x + tap.to * C;
    float* out = a.out + i * C;
    if (C == 1) {
      *out = (1.0f - tap.t) * *from + tap.t * *to;
      continue;
    }
    const Vec s = broadcast(1.0f - tap.t), t = broadcast(tap.t);
    for (std::int64_t c = 0; c < C; c += kLanes) {
      const Vec y = s * load_up_to(from + c, C - c) + t * load_up_to(to + c, C - c);
      store_up_to(out + c, y, C - c);
    }
  }
}

}  // namespace
}  // namespace treadle::TREADLE_ISA

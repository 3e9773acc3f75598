// out[m, n] = f(bias[n] + sum_t sum_k x[t, m, k] w[n, t, k]) factor[m, n] + residual[m, n]
// or, with residual_first, f of all of it.
//
// Used for convolutions, whose taps t read rows of their own, and with a single tap for the input
// part of a chunk of time steps (columns padded: the panel layout is kept, and
// the step continues the sums), for the LSTM's projection, for functional.linear and for every
// product of a transformer.
#pragma once

#include "kernels/activation.h"
#include "kernels/gemm.h"
#include "kernels/low_precision.h"
#include "kernels/narrow.h"
#include "kernels/unpacked_columns.h"

namespace treadle::TREADLE_ISA {
namespace {

// The sums of a tile without bias begin with these: of two panels of four vectors.
alignas(64) constexpr float kNoBias[8 * kLanes] = {};

// A Clipping is the bounds of relu or clip; of any other function they are infinite.
struct Clipping {
  float least = -__builtin_inff(), most = __builtin_inff();
  bool whole = false;  // nothing else is to be done

  TREADLE_INLINE explicit Clipping(const Activation* f) {
    if (!f) return;
    whole = f->function == ActivationFunction::relu || f->function == ActivationFunction::clip;
    if (f->function == ActivationFunction::relu) least = 0;
    if (f->function == ActivationFunction::clip) {
      least = f->alpha;
      most = f->beta;
    }
  }
};

// out = f(out) factor + residual over a tile that was just stored, and is in L1: the constants of f
// would not fit into registers beside the sums.
__attribute__((noinline)) void activate_tile(const LinearArgs& a, bool low_precision,
                                             std::int64_t row, int rows, std::int64_t column,
                                             std::int64_t columns) {
  const std::int64_t left = a.columns - column, n = columns < left ? columns : left;
  const auto run = [&](auto f) {
    for (int r = 0; r < rows; ++r) {
      float* out = a.out[row + r] + a.out_offset + column;
      const bool adds = a.residual && !a.residual_first;
      const float* residual = adds ? a.residual[row + r] + column : nullptr;
      const float* factor = a.factor ? a.factor[row + r] + column : nullptr;
      for (std::int64_t i = 0; i < n; i += kLanes) {
        Vec y = f(load_up_to(out + i, n - i));
        if (factor) y = y * load_up_to(factor + i, n - i);
        if (residual) y = y + load_up_to(residual + i, n - i);
        store_up_to(out + i, y, n - i);
      }
    }
  };
  if (low_precision && a.f->function == ActivationFunction::gelu) {
    return run([](Vec x) { return low_precision_gelu(x); });
  }
  with_function(*a.f, run);
}

// Stores the sums of a tile, `vectors` of each row, that has residuals or factors, or whose last
// vector is cut. All tiles share it. If `after`, a function is to come that adds and multiplies.
__attribute__((noinline)) void store_tile(const LinearArgs& a, const Clipping& clipping, bool after,
                                          std::int64_t row, int rows, std::int64_t column,
                                          int vectors, const float* sums) {
  for (int r = 0; r < rows; ++r) {
    float* out = a.out[row + r] + a.out_offset;
    for (int i = 0; i < vectors; ++i, sums += kLanes) {
      const std::int64_t at = column + i * kLanes, rest = a.columns - at;
      Vec y = load(sums), residual{};
      if (a.residual) residual = load_up_to(a.residual[row + r] + at, rest);
      if (a.residual && a.residual_first) y = y + residual;
      y = max(broadcast(clipping.least), min(broadcast(clipping.most), y));
      if (a.factor && !after) y = y * load_up_to(a.factor[row + r] + at, rest);
      if (a.residual && !a.residual_first && !after) y = y + residual;
      store_up_to(out + at, y, rest);
    }
  }
}

// acc[r][i] += sum_t sum_k x[t, row + r, k] w[t, k][i], as `accumulate` adds one operand. The sums
// of `tap_block` taps stay in registers before they are added to those of all.
template <class Format, int R, int P, int V, class Next>
TREADLE_INLINE void accumulate_taps(Vec (&acc)[R][P * V], const LinearArgs& a, std::int64_t row,
                                    const Word* w, Next&& next) {
  constexpr std::int64_t kBlockWords = words(Format::kDtype, kSumBlock);
  const std::int64_t all = words(Format::kDtype, a.k);
  typename Format::Sum sum[R][P * V] = {};
  std::int64_t summed = 0;  // taps in `sum`
  for (std::int64_t tap = 0; tap < a.taps; ++tap) {
    const Word* const* rows = a.x + tap * a.tap_stride + row;
    std::int64_t head = a.x_offset;  // of the block, in a row
    for (std::int64_t k = 0; k < all; k += kBlockWords) {
      const std::int64_t count = all - k < kBlockWords ? all - k : kBlockWords;
      const Word* x[R];
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) x[r] = rows[r] + head + Format::kHead;
      if constexpr (P * V <= 2) {
        multiply_few<R, P, V, Format>(sum, x, count, w, a.panel_stride, next);
      } else {
        multiply<R, P, V, Format>(sum, x, count, w, a.panel_stride, next);
      }
      w += count * V * kLanes;
      if (++summed < a.tap_block && tap + 1 < a.taps) continue;
      summed = 0;
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
        for (int i = 0; i < P * V; ++i) {
          Format::add(acc[r][i], sum[r][i], rows[r] + head,
                      w + i / V * a.panel_stride + i % V * kLanes, V * kLanes);
          sum[r][i] = typename Format::Sum{};
        }
      }
      head += Format::kHead + count;
      w += Format::kTail * V * kLanes;
    }
  }
}

template <class Format>
struct Linear {
  template <int V>
  struct Tile {
    template <int R, int P>
    static void tile(const LinearArgs& a, std::int64_t row, std::int64_t panel) {
      const std::int64_t width = static_cast<std::int64_t>(a.vectors) * kLanes;  // of a full panel
      const std::int64_t column = panel * width;
      const float* const same = a.bias ? a.bias + column : kNoBias;
      Vec acc[R][P * V];
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const float* start = a.start ? a.start[row + r] + a.start_offset + column : same;
#pragma GCC unroll 8
        for (int i = 0; i < P * V; ++i) acc[r][i] = load(start + i * kLanes);
      }
      // A clipping function is applied in registers, and no function clips to all numbers.
      const Clipping clipping(a.f);
      const bool after = a.f && !clipping.whole;  // `activate_tile` is to come
      const Word* weights = a.weights + panel * a.panel_stride;
      const std::int64_t left = a.rows - row;
      const Word* ahead = panel + 1 < a.panel_end ? weights + a.panel_stride : a.next;
      if constexpr (R > 1 && R <= kMaxRows) {
        // The last two tiles of a panel fetch the next one, a half each.
        const bool fetches = a.rows > kMaxRows && left <= 2 * kMaxRows && ahead;
        const std::int64_t half = left > kMaxRows ? 0 : a.panel_stride / 2;
        NextPanelPrefetch next{fetches ? ahead + half : nullptr, fetches ? V * kLanes / 2 : 0};
        accumulate_taps<Format, R, P, V>(acc, a, row, weights, next);
      } else {
        accumulate_taps<Format, R, P, V>(acc, a, row, weights, NoPrefetch());
      }
      if (a.residual || (a.factor && !after) || a.columns - column < P * V * kLanes) {
        const TileSums<R, P * V> sums(acc);
        store_tile(a, clipping, after, row, R, column, P * V, sums.values);
      } else {
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
          float* out = a.out[row + r] + a.out_offset + column;
#pragma GCC unroll 8
          for (int i = 0; i < P * V; ++i) {
            const Vec y = min(broadcast(clipping.most), acc[r][i]);
            store(out + i * kLanes, max(broadcast(clipping.least), y));
          }
        }
      }
      if (after) {
        activate_tile(a, Format::kDtype != Dtype::float32, row, R, column, P * V * kLanes);
      }
    }
  };
};

template <class Format>
void linear(const LinearArgs& a) {
  if constexpr (Format::kDtype == Dtype::float32) {
    if (a.unpacked) return unpacked_columns<Format>(a);
    if (is_narrow(a)) {
      const Clipping clipping(a.f);
      const bool after = a.f && !clipping.whole;
      return narrow(a, [&](std::int64_t row, int rows, const float* sums) {
        store_tile(a, clipping, after, row, rows, 0, 1, sums);
        if (after) activate_tile(a, false, row, rows, 0, kLanes);
      });
    }
  }
  for_each_plain_tile<Linear<Format>::template Tile, 2 * kMaxRows>(a, a.columns, a.vectors);
}

}  // namespace
}  // namespace treadle::TREADLE_ISA

// RNN: out = g(W x + R h + b). A panel is up to four vectors of hidden units; the last may
// have fewer.
#pragma once

#include "kernels/activation.h"
#include "kernels/low_precision.h"
#include "kernels/step.h"

namespace treadle::TREADLE_ISA {
namespace {

constexpr int kRnnVectors = 4;

template <RnnKind Kind>
TREADLE_INLINE Vec rnn_activation(const CellOptions& o, Vec x) {
  if (Kind == RnnKind::tanh) return tanh(x);
  if (Kind == RnnKind::relu) return max(Vec{}, x);
  return activate(o.g, clip(o.clip, x));
}

// The units of one row, whose sums lie in `sums`, `vectors` of them. Behind products of low
// precision nothing is saved.
template <RnnKind Kind, bool LowPrecision>
TREADLE_INLINE void rnn_row(const StepArgs& a, std::int64_t row, std::int64_t unit, int vectors,
                            const float* sums) {
  for (int i = 0; i < vectors; ++i, unit += kLanes) {
    const std::int64_t left = a.hidden_size - unit;
    const Vec x = load(sums + i * kLanes);
    if (!LowPrecision && Kind == RnnKind::general && a.saved) {
      store_up_to(a.saved[row] + unit, x, left);
    }
    const Vec y = LowPrecision && Kind == RnnKind::tanh ? low_precision_tanh(x)
                                                        : rnn_activation<Kind>(*a.options, x);
    store_up_to(a.out[row] + unit, y, left);
  }
}

// Finishes a step for rows whose sums lie one after another: behind products of low precision, and
// for the activations of float32 that the tiles do not have.
template <bool LowPrecision>
__attribute__((noinline)) void rnn_units(const StepArgs& a, std::int64_t row, int rows,
                                         std::int64_t unit, int vectors, const float* sums) {
  const RnnKind kind = rnn_kind(*a.options);
  for (int r = 0; r < rows; ++r, sums += vectors * kLanes) {
    if (LowPrecision && kind == RnnKind::tanh) {
      rnn_row<RnnKind::tanh, LowPrecision>(a, row + r, unit, vectors, sums);
    } else if (LowPrecision && kind == RnnKind::relu) {
      rnn_row<RnnKind::relu, LowPrecision>(a, row + r, unit, vectors, sums);
    } else {
      rnn_row<RnnKind::general, LowPrecision>(a, row + r, unit, vectors, sums);
    }
  }
}

template <class Format>
struct Rnn {
  template <int V>
  struct Tile {
    template <int R, int P>
    static void tile(const StepArgs& a, std::int64_t row, std::int64_t panel) {
      constexpr std::int64_t kWidth = kRnnVectors * kLanes;
      Vec acc[R][P * V];
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const float* from =
            (a.partial ? a.partial[row + r] + a.partial_offset : a.bias) + panel * kWidth;
#pragma GCC unroll 8
        for (int i = 0; i < P * V; ++i) acc[r][i] = load(from + i * kLanes);
      }
      accumulate_parts<Format, R, P, V>(acc, a, row, panel);
      if constexpr (kInlined<Format>) {
        const RnnKind kind = rnn_kind(*a.options);
        if (kind == RnnKind::tanh) return finish<RnnKind::tanh, R, P * V>(acc, a, row, panel);
        if (kind == RnnKind::relu) return finish<RnnKind::relu, R, P * V>(acc, a, row, panel);
      }
      const TileSums<R, P * V> sums(acc);
      rnn_units<!kInlined<Format>>(a, row, R, panel * kWidth, P * V, sums.values);
    }

    // Finishes the step in registers.
    template <RnnKind Kind, int R, int N>
    static TREADLE_INLINE void finish(const Vec (&acc)[R][N], const StepArgs& a, std::int64_t row,
                                      std::int64_t panel) {
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        float* out = a.out[row + r];
#pragma GCC unroll 8
        for (int i = 0; i < N; ++i) {
          const std::int64_t unit = (panel * kRnnVectors + i) * kLanes;
          const Vec y = rnn_activation<Kind>(*a.options, acc[r][i]);
          store_up_to(out + unit, y, a.hidden_size - unit);
        }
      }
    }
  };
};

template <class Format>
void rnn_step(const StepArgs& a) {
  for_each_plain_tile<Rnn<Format>::template Tile, kMaxRows, kPairedRows>(a, a.hidden_size,
                                                                         kRnnVectors);
}

}  // namespace
}  // namespace treadle::TREADLE_ISA

// RNN: out = g(W x + R h + b). A panel is up to four vectors of hidden units; the last may
// have fewer.
#pragma once

#include "kernels/activation.h"
#include "kernels/gemm.h"
#include "kernels/low_precision.h"

namespace treadle::TREADLE_ISA {
namespace {

constexpr int kRnnVectors = 4;

template <RnnKind Kind>
TREADLE_INLINE Vec rnn_activation(const CellOptions& o, Vec x) {
  if (Kind == RnnKind::tanh) return tanh(x);
  if (Kind == RnnKind::relu) return max(Vec{}, x);
  return activate(o.g, clip(o.clip, x));
}

// The units of one row, behind a product of low precision, whose sums lie in `sums`, `vectors` of
// them. Nothing is saved.
template <RnnKind Kind>
void rnn_row(const StepArgs& a, std::int64_t row, std::int64_t unit, int vectors,
             const float* sums) {
  for (int i = 0; i < vectors; ++i, unit += kLanes) {
    const std::int64_t left = a.hidden_size - unit;
    const Vec x = load(sums + i * kLanes);
    const Vec y =
        Kind == RnnKind::tanh ? low_precision_tanh(x) : rnn_activation<Kind>(*a.options, x);
    store_up_to(a.out[row] + unit, y, left);
  }
}

// Finishes a step for rows whose sums lie one after another.
__attribute__((noinline)) void rnn_units(const StepArgs& a, std::int64_t row, int rows,
                                         std::int64_t unit, int vectors, const float* sums) {
  const RnnKind kind = rnn_kind(*a.options);
  for (int r = 0; r < rows; ++r, sums += vectors * kLanes) {
    if (kind == RnnKind::tanh) {
      rnn_row<RnnKind::tanh>(a, row + r, unit, vectors, sums);
    } else if (kind == RnnKind::relu) {
      rnn_row<RnnKind::relu>(a, row + r, unit, vectors, sums);
    } else {
      rnn_row<RnnKind::general>(a, row + r, unit, vectors, sums);
    }
  }
}

template <class Format, RnnKind Kind>
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
      const Word* w = a.weights + panel * a.panel_stride;
      if (!a.partial) {
        accumulate<Format, R, P, V, V, V - 1>(acc, a.x + row, a.input_size, w, a.panel_stride);
      }
      accumulate<Format, R, P, V, V, V - 1>(acc, a.h + row, a.state_size,
                                            w + state_part<Format, V>(a), a.panel_stride);
      if constexpr (!kInlined<Format>) {
        rnn_units(a, row, R, panel * kWidth, P * V, TileSums<R, P * V>(acc).values);
        return;
      }
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        float* out = a.out[row + r];
#pragma GCC unroll 8
        for (int i = 0; i < P * V; ++i) {
          const std::int64_t unit = panel * kWidth + i * kLanes, left = a.hidden_size - unit;
          if (Kind == RnnKind::general && a.saved)
            store_up_to(a.saved[row + r] + unit, acc[r][i], left);
          store_up_to(out + unit, rnn_activation<Kind>(*a.options, acc[r][i]), left);
        }
      }
    }
  };
};

template <class Format>
void rnn_step(const StepArgs& a) {
  const auto run = [&](auto rnn) {
    for_each_plain_tile<decltype(rnn)::template Tile>(a, a.hidden_size, kRnnVectors);
  };
  if constexpr (kInlined<Format>) {
    const RnnKind kind = rnn_kind(*a.options);
    if (kind == RnnKind::tanh) return run(Rnn<Format, RnnKind::tanh>{});
    if (kind == RnnKind::relu) return run(Rnn<Format, RnnKind::relu>{});
  }
  run(Rnn<Format, RnnKind::general>{});
}

}  // namespace
}  // namespace treadle::TREADLE_ISA

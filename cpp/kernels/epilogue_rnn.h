// RNN: out = g(W x + R h + b). A panel is up to four vectors of hidden units; the last may be
// narrower.
#pragma once

#include "kernels/activation.h"
#include "kernels/gemm.h"

namespace weft::WEFT_ISA {
namespace {

constexpr int kRnnVectors = 4;

WEFT_INLINE Vec rnn_activation(const CellOptions& o, Vec x) {
  if (o.g.function == Function::tanh && !(o.clip > 0)) return tanh(x);
  return activate(o.g, clip(o.clip, x));
}

template <int V>
struct RnnTile {
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
    const float* w = a.weights + panel * a.panel_stride;
    if (!a.partial) {
      accumulate<R, P, V, V, V - 1>(acc, a.x + row, a.input_size, w, a.panel_stride);
    }
    accumulate<R, P, V, V, V - 1>(acc, a.h + row, a.state_size, w + a.input_size * V * kLanes,
                                  a.panel_stride);
    for (int r = 0; r < R; ++r) {
      float* out = a.out[row + r];
      for (int i = 0; i < P * V; ++i) {
        const std::int64_t unit = panel * kWidth + i * kLanes;
        store_up_to(out + unit, rnn_activation(*a.options, acc[r][i]), a.hidden_size - unit);
      }
    }
  }
};

void rnn_panels(const StepArgs& a, int vectors, std::int64_t begin, std::int64_t end) {
  switch (vectors) {
    case 1:
      return for_each_tile<RnnTile<1>>(a, begin, end);
    case 2:
      return for_each_tile<RnnTile<2>>(a, begin, end);
    case 3:
      return for_each_tile<RnnTile<3>>(a, begin, end);
    case 4:
      return for_each_tile<RnnTile<4>>(a, begin, end);
  }
}

void rnn_step(const StepArgs& a) {
  const std::int64_t total = (a.hidden_size + kLanes - 1) / kLanes;
  const std::int64_t full = total / kRnnVectors;
  const std::int64_t end = a.panel_end < full ? a.panel_end : full;
  if (a.panel_begin < end) rnn_panels(a, kRnnVectors, a.panel_begin, end);
  if (a.panel_end > full) rnn_panels(a, static_cast<int>(total % kRnnVectors), full, full + 1);
}

}  // namespace
}  // namespace weft::WEFT_ISA

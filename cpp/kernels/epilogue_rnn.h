// RNN: out = g(W x + R h + b). A panel is up to four vectors of hidden units; the last may be
// narrower.
#pragma once

#include "kernels/activation.h"
#include "kernels/gemm.h"

namespace weft::WEFT_ISA {
namespace {

constexpr int kRnnVectors = 4;

template <RnnKind Kind>
WEFT_INLINE Vec rnn_activation(const CellOptions& o, Vec x) {
  if (Kind == RnnKind::tanh) return tanh(x);
  if (Kind == RnnKind::relu) return max(Vec{}, x);
  return activate(o.g, clip(o.clip, x));
}

template <RnnKind Kind, int V>
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

template <int V>
using RnnTanh = RnnTile<RnnKind::tanh, V>;
template <int V>
using RnnRelu = RnnTile<RnnKind::relu, V>;
template <int V>
using RnnGeneral = RnnTile<RnnKind::general, V>;

void rnn_step(const StepArgs& a) {
  switch (rnn_kind(*a.options)) {
    case RnnKind::tanh:
      return for_each_plain_tile<RnnTanh>(a, a.hidden_size, kRnnVectors);
    case RnnKind::relu:
      return for_each_plain_tile<RnnRelu>(a, a.hidden_size, kRnnVectors);
    case RnnKind::general:
      return for_each_plain_tile<RnnGeneral>(a, a.hidden_size, kRnnVectors);
  }
}

}  // namespace
}  // namespace weft::WEFT_ISA

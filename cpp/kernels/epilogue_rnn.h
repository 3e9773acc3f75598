// RNN: out = g(W x + R h + b). A panel is up to four vectors of hidden units; the last may be
// narrower.
#pragma once

#include "kernels/activation.h"
#include "kernels/gemm.h"

namespace weft::WEFT_ISA {
namespace {

constexpr int kRnnVectors = 4;

// PyTorch's two activations are inlined; any other, or clipping, takes the general path.
enum class RnnKind { tanh, relu, general };

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
        const std::int64_t unit = panel * kWidth + i * kLanes;
        store_up_to(out + unit, rnn_activation<Kind>(*a.options, acc[r][i]), a.hidden_size - unit);
      }
    }
  }
};

template <RnnKind Kind>
void rnn_panels(const StepArgs& a, int vectors, std::int64_t begin, std::int64_t end) {
  switch (vectors) {
    case 1:
      return for_each_tile<RnnTile<Kind, 1>>(a, begin, end);
    case 2:
      return for_each_tile<RnnTile<Kind, 2>>(a, begin, end);
    case 3:
      return for_each_tile<RnnTile<Kind, 3>>(a, begin, end);
    case 4:
      return for_each_tile<RnnTile<Kind, 4>>(a, begin, end);
  }
}

template <RnnKind Kind>
void rnn_step_of(const StepArgs& a) {
  const std::int64_t total = (a.hidden_size + kLanes - 1) / kLanes;
  const std::int64_t full = total / kRnnVectors;
  const std::int64_t end = a.panel_end < full ? a.panel_end : full;
  if (a.panel_begin < end) rnn_panels<Kind>(a, kRnnVectors, a.panel_begin, end);
  if (a.panel_end > full && a.panel_begin < a.panel_end) {
    rnn_panels<Kind>(a, static_cast<int>(total % kRnnVectors), full, full + 1);
  }
}

void rnn_step(const StepArgs& a) {
  const bool plain = !(a.options->clip > 0);
  if (plain && a.options->g.function == Function::tanh) return rnn_step_of<RnnKind::tanh>(a);
  if (plain && a.options->g.function == Function::relu) return rnn_step_of<RnnKind::relu>(a);
  rnn_step_of<RnnKind::general>(a);
}

}  // namespace
}  // namespace weft::WEFT_ISA

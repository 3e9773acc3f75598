// GRU: r, z = f(.); out = n + z (h - n), that is (1 - z) n + z h.
//
// Reset after (PyTorch, cuDNN, Keras' default): n = g(W x + b_in + r (R h + b_hn)). A panel holds
// r, z and n of kLanes units; the candidate's input part (slot 2) and state part (slot 3) are
// summed apart. Reset before (ONNX's default): n = g(W x + b + R (r h)), two dependent products.
// gru_gates writes r h and z, gru_candidate goes on from there.
#pragma once

#include "kernels/activation.h"
#include "kernels/gemm.h"

namespace weft::WEFT_ISA {
namespace {

WEFT_INLINE Vec gru_blend(Vec n, Vec z, Vec h) { return fma(z, h - n, n); }

template <bool Standard>
struct GruTile {
  template <int R, int P>
  static void tile(const StepArgs& a, std::int64_t row, std::int64_t panel) {
    Vec acc[R][P * 4];
    start<R, P, 3, 4>(acc, a, row, panel);
#pragma GCC unroll 2
    for (int p = 0; p < P; ++p) {
      const Vec bias = load(a.bias_hidden + (panel + p) * kLanes);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) acc[r][p * 4 + 3] = bias;
    }
    const float* w = a.weights + panel * a.panel_stride;
    if (!a.partial) accumulate<R, P, 3, 4, 2>(acc, a.x + row, a.input_size, w, a.panel_stride);
    accumulate<R, P, 3, 4, 3>(acc, a.h + row, a.state_size, w + a.input_size * 3 * kLanes,
                              a.panel_stride);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
      for (int p = 0; p < P; ++p) {
        const std::int64_t unit = (panel + p) * kLanes, left = a.hidden_size - unit;
        const Vec* gates = acc[r] + p * 4;
        const Vec h = load_up_to(a.blend[row + r] + unit, left);
        Vec reset, z, n;
        if (Standard) {
          reset = sigmoid(gates[0]);
          z = sigmoid(gates[1]);
          n = tanh(fma(reset, gates[3], gates[2]));
        } else {
          const CellOptions& o = *a.options;
          reset = activate(o.f, clip(o.clip, gates[0]));
          z = activate(o.f, clip(o.clip, gates[1]));
          n = activate(o.g, clip(o.clip, fma(reset, gates[3], gates[2])));
        }
        store_up_to(a.out[row + r] + unit, gru_blend(n, z, h), left);
      }
    }
  }
};

void gru_step(const StepArgs& a) {
  const CellOptions& o = *a.options;
  const bool standard =
      o.f.function == Function::sigmoid && o.g.function == Function::tanh && !(o.clip > 0);
  if (standard) {
    for_each_tile<GruTile<true>>(a, a.panel_begin, a.panel_end);
  } else {
    for_each_tile<GruTile<false>>(a, a.panel_begin, a.panel_end);
  }
}

// Candidate false: vectors r, z; writes r h and z. Candidate true: vector n; writes the blend.
template <bool Candidate>
struct GruBeforeTile {
  static constexpr int V = Candidate ? 1 : 2;
  template <int R, int P>
  static void tile(const StepArgs& a, std::int64_t row, std::int64_t panel) {
    Vec acc[R][P * V];
    start<R, P, V, V>(acc, a, row, panel);
    const float* w = a.weights + panel * a.panel_stride;
    if (!a.partial) {
      accumulate<R, P, V, V, V - 1>(acc, a.x + row, a.input_size, w, a.panel_stride);
    }
    accumulate<R, P, V, V, V - 1>(acc, a.h + row, a.state_size, w + a.input_size * V * kLanes,
                                  a.panel_stride);
    const CellOptions& o = *a.options;
    for (int r = 0; r < R; ++r) {
      for (int p = 0; p < P; ++p) {
        const std::int64_t unit = (panel + p) * kLanes, left = a.hidden_size - unit;
        const Vec h = load_up_to(a.blend[row + r] + unit, left);
        float* z = a.c[row + r] + unit;
        float* out = a.out[row + r] + unit;
        if (Candidate) {
          const Vec n = activate(o.g, clip(o.clip, acc[r][p]));
          store_up_to(out, gru_blend(n, load_up_to(z, left), h), left);
        } else {
          const Vec reset = activate(o.f, clip(o.clip, acc[r][p * V]));
          store_up_to(out, reset * h, left);
          store_up_to(z, activate(o.f, clip(o.clip, acc[r][p * V + V - 1])), left);
        }
      }
    }
  }
};

void gru_gates(const StepArgs& a) {
  for_each_tile<GruBeforeTile<false>>(a, a.panel_begin, a.panel_end);
}
void gru_candidate(const StepArgs& a) {
  for_each_tile<GruBeforeTile<true>>(a, a.panel_begin, a.panel_end);
}

}  // namespace
}  // namespace weft::WEFT_ISA

// GRU: r, z = f(.); out = n + z (h - n), that is (1 - z) n + z h.
//
// Reset after (PyTorch, cuDNN, Keras' default): n = g(W x + b_in + r (R h + b_hn)). A panel holds
// r, z and n of kLanes units; the candidate's input part (slot 2) and state part (slot 3) are
// summed apart. Reset before (ONNX's default): n = g(W x + b + R (r h)), two dependent products.
// gru_gates writes r h and z, gru_candidate goes on from there.
#pragma once

#include "kernels/activation.h"
#include "kernels/gemm.h"
#include "kernels/low_precision.h"

namespace treadle::TREADLE_ISA {
namespace {

TREADLE_INLINE Vec gru_blend(Vec n, Vec z, Vec h) { return fma(z, h - n, n); }

// Updates one row's units of a panel from its pre-activations; nx and nh are the candidate's two
// parts.
template <bool Standard>
TREADLE_INLINE void gru_store(const StepArgs& a, std::int64_t row, std::int64_t panel, Vec r, Vec z,
                              Vec nx, Vec nh) {
  const std::int64_t H = a.hidden_size, unit = panel * kLanes, left = H - unit;
  const Vec h = load_up_to(a.blend[row] + unit, left);
  const auto save = [&](int i, Vec v) {
    if (a.saved) store_up_to(a.saved[row] + i * H + unit, v, left);
  };
  Vec n;
  if (Standard) {
    r = sigmoid(r);
    z = sigmoid(z);
    n = tanh(fma(r, nh, nx));
    save(0, n);
    save(1, r);
    save(2, z);
  } else {
    const CellOptions& o = *a.options;
    save(1, r);
    save(2, z);
    r = activate(o.f, clip(o.clip, r));
    z = activate(o.f, clip(o.clip, z));
    n = fma(r, nh, nx);
    save(0, n);
    n = activate(o.g, clip(o.clip, n));
  }
  save(3, nh);
  store_up_to(a.out[row] + unit, gru_blend(n, z, h), left);
}

// Updates one row's units of a panel behind products of low precision.
TREADLE_INLINE void gru_store_low_precision(const StepArgs& a, std::int64_t row, std::int64_t panel,
                                            const Vec (&gates)[4]) {
  const std::int64_t unit = panel * kLanes, left = a.hidden_size - unit;
  const Vec h = load_up_to(a.blend[row] + unit, left);
  store_up_to(a.out[row] + unit, low_precision_gru(gates[0], gates[1], gates[2], gates[3], h),
              left);
}

// Does the same and saves the gates. The step divides once for several functions, so that the gates
// are those of the step but for rounding.
__attribute__((noinline)) void gru_save_low_precision(const StepArgs& a, std::int64_t row,
                                                      std::int64_t panel, const Vec (&gates)[4]) {
  const std::int64_t H = a.hidden_size, unit = panel * kLanes, left = H - unit;
  const Vec r = low_precision_sigmoid(gates[0]), z = low_precision_sigmoid(gates[1]);
  float* saved = a.saved[row] + unit;
  store_up_to(saved, low_precision_tanh(fma(r, gates[3], gates[2])), left);
  store_up_to(saved + H, r, left);
  store_up_to(saved + 2 * H, z, left);
  store_up_to(saved + 3 * H, gates[3], left);
  gru_store_low_precision(a, row, panel, gates);
}

// Finishes a step for rows and panels whose sums lie one after another, four vectors each. It is
// called behind products of low precision.
__attribute__((noinline)) void gru_units(const StepArgs& a, std::int64_t row, int rows,
                                         std::int64_t panel, int panels, const float* sums) {
  const bool standard = standard_gru(*a.options), usual = standard && !a.saved;
  for (int i = 0; i < rows * panels; ++i, sums += 4 * kLanes) {
    const Vec gates[] = {load(sums), load(sums + kLanes), load(sums + 2 * kLanes),
                         load(sums + 3 * kLanes)};
    const std::int64_t r = row + i / panels, p = panel + i % panels;
    if (usual) {
      gru_store_low_precision(a, r, p, gates);
    } else if (!standard) {
      gru_store<false>(a, r, p, gates[0], gates[1], gates[2], gates[3]);
    } else {
      gru_save_low_precision(a, r, p, gates);
    }
  }
}

template <class Format, bool Standard>
struct Gru {
  struct Tile {
    template <int R, int P>
    static void tile(const StepArgs& a, std::int64_t row, std::int64_t panel) {
      Vec acc[R][P * 4];
      fetch_saved<4, R, P>(a, row, panel);
      start<R, P, 3, 4>(acc, a, row, panel);
#pragma GCC unroll 2
      for (int p = 0; p < P; ++p) {
        const Vec bias = load(a.bias_hidden + (panel + p) * kLanes);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) acc[r][p * 4 + 3] = bias;
      }
      const Word* w = a.weights + panel * a.panel_stride;
      if (!a.partial)
        accumulate<Format, R, P, 3, 4, 2>(acc, a.x + row, a.input_size, w, a.panel_stride);
      accumulate<Format, R, P, 3, 4, 3>(acc, a.h + row, a.state_size, w + state_part<Format, 3>(a),
                                        a.panel_stride);
      if constexpr (!kInlined<Format>) {
        gru_units(a, row, R, panel, P, TileSums<R, P * 4>(acc).values);
        return;
      }
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
        for (int p = 0; p < P; ++p) {
          const Vec* gates = acc[r] + p * 4;
          gru_store<Standard>(a, row + r, panel + p, gates[0], gates[1], gates[2], gates[3]);
        }
      }
    }
  };

  // The candidate's columns hold nx now; they start anew from b_hn before the state is added.
  template <int V>
  struct Shared {
    template <int R, int P>
    static void tile(const StepArgs& a, std::int64_t row, std::int64_t panel) {
      Vec acc[R][P * V];
      start<R, P, V, V, 3>(acc, a, row, panel);
      const Word* w = a.weights + panel * a.panel_stride;
      if (!a.partial) {
        accumulate<Format, R, P, V, V, V - 1>(acc, a.x + row, a.input_size, w, a.panel_stride);
      }
      const Vec bias = load(a.bias_hidden + panel * kLanes);
      Vec nx[R];
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        SharedGates<V> gates;
        gates.put(acc[r]);
        nx[r] = gates.gate(2);
        store_partial(gates.columns + 2 * gates.kWidth, bias, gates.kWidth);
        for (int v = 0; v < V; ++v) acc[r][v] = load(gates.columns + v * kLanes);
      }
      accumulate<Format, R, P, V, V, V - 1>(acc, a.h + row, a.state_size,
                                            w + state_part<Format, V>(a), a.panel_stride);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        SharedGates<V> gates;
        gates.put(acc[r]);
        const Vec all[1][4] = {{gates.gate(0), gates.gate(1), nx[r], gates.gate(2)}};
        if constexpr (kInlined<Format>) {
          gru_store<Standard>(a, row + r, panel, all[0][0], all[0][1], all[0][2], all[0][3]);
        } else {
          gru_units(a, row + r, 1, panel, 1, TileSums<1, 4>(all).values);
        }
      }
    }
  };
};

template <class Format>
void gru_step(const StepArgs& a) {
  if constexpr (kInlined<Format>) {
    if (standard_gru(*a.options)) return for_each_gated<Gru<Format, true>>(a);
  }
  for_each_gated<Gru<Format, false>>(a);
}

// Candidate false: vectors r, z; writes r h and z. Candidate true: vector n; writes the blend.
template <class Format, bool Candidate>
struct GruBeforeTile {
  static constexpr int V = Candidate ? 1 : 2;
  template <int R, int P>
  static void tile(const StepArgs& a, std::int64_t row, std::int64_t panel) {
    Vec acc[R][P * V];
    start<R, P, V, V>(acc, a, row, panel);
    const Word* w = a.weights + panel * a.panel_stride;
    if (!a.partial) {
      accumulate<Format, R, P, V, V, V - 1>(acc, a.x + row, a.input_size, w, a.panel_stride);
    }
    accumulate<Format, R, P, V, V, V - 1>(acc, a.h + row, a.state_size,
                                          w + state_part<Format, V>(a), a.panel_stride);
    const CellOptions& o = *a.options;
    for (int r = 0; r < R; ++r) {
      for (int p = 0; p < P; ++p) {
        const std::int64_t unit = (panel + p) * kLanes, left = a.hidden_size - unit;
        const Vec h = load_up_to(a.blend[row + r] + unit, left);
        float* z = a.c[row + r] + unit;
        float* out = a.out[row + r] + unit;
        for (int i = 0; a.saved && i < V; ++i) {
          float* saved = a.saved[row + r] + (Candidate ? 0 : 1 + i) * a.hidden_size;
          store_up_to(saved + unit, acc[r][p * V + i], left);
        }
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

template <class Format>
void gru_gates(const StepArgs& a) {
  for_each_tile<GruBeforeTile<Format, false>>(a, a.panel_begin, a.panel_end);
}
template <class Format>
void gru_candidate(const StepArgs& a) {
  for_each_tile<GruBeforeTile<Format, true>>(a, a.panel_begin, a.panel_end);
}

}  // namespace
}  // namespace treadle::TREADLE_ISA

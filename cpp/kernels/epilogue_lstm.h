// LSTM: i, f, o = f(.), g = g(.); c' = f c + i g; out = o h(c').
//
// A panel holds the four gates of kLanes units: the cell is updated while the gates are in
// registers. Peepholes (ONNX): i and f see c, o sees c'. input_forget: f = 1 - i. clip: on
// pre-activations.
#pragma once

#include "kernels/activation.h"
#include "kernels/gemm.h"

namespace weft::WEFT_ISA {
namespace {

struct LstmState {
  Vec h, c;
};

WEFT_INLINE LstmState lstm_cell(Vec i, Vec f, Vec g, Vec o, Vec c) {
  c = fma(sigmoid(f), c, sigmoid(i) * tanh(g));
  return {sigmoid(o) * tanh(c), c};
}

// Every option there is; the usual cell does not come here.
LstmState lstm_cell_general(const CellOptions& options, std::int64_t panel, Vec i, Vec f, Vec g,
                            Vec o, Vec c) {
  const float* peephole = options.peepholes ? options.peepholes + panel * 3 * kLanes : nullptr;
  if (peephole) {
    i = fma(load(peephole), c, i);
    f = fma(load(peephole + kLanes), c, f);
  }
  i = activate(options.f, clip(options.clip, i));
  f = options.input_forget ? broadcast(1.0f) - i : activate(options.f, clip(options.clip, f));
  g = activate(options.g, clip(options.clip, g));
  c = fma(f, c, i * g);
  if (peephole) o = fma(load(peephole + 2 * kLanes), c, o);
  o = activate(options.f, clip(options.clip, o));
  return {o * activate(options.h, c), c};
}

// Updates one row's units of a panel from its pre-activations.
template <bool Standard>
WEFT_INLINE void lstm_store(const StepArgs& a, std::int64_t row, std::int64_t panel, Vec i, Vec f,
                            Vec g, Vec o) {
  const std::int64_t unit = panel * kLanes, left = a.hidden_size - unit;
  float* c = a.c[row] + unit;
  const Vec old = load_up_to(c, left);
  const LstmState now =
      Standard ? lstm_cell(i, f, g, o, old) : lstm_cell_general(*a.options, panel, i, f, g, o, old);
  store_up_to(c, now.c, left);
  store_up_to(a.out[row] + unit, now.h, left);
}

// The sums of R rows and P panels of V vectors, panels before them having four.
template <int R, int P, int V>
WEFT_INLINE void lstm_sums(Vec (&acc)[R][P * V], const StepArgs& a, std::int64_t row,
                           std::int64_t panel) {
  start<R, P, V, V, 4>(acc, a, row, panel);
  const float* w = a.weights + panel * a.panel_stride;
  if (!a.partial) accumulate<R, P, V, V, V - 1>(acc, a.x + row, a.input_size, w, a.panel_stride);
  accumulate<R, P, V, V, V - 1>(acc, a.h + row, a.state_size, w + a.input_size * V * kLanes,
                                a.panel_stride);
}

template <bool Standard>
struct Lstm {
  struct Tile {
    template <int R, int P>
    static void tile(const StepArgs& a, std::int64_t row, std::int64_t panel) {
      Vec acc[R][P * 4];
      lstm_sums<R, P, 4>(acc, a, row, panel);
      // Unrolled, so that the gates stay in registers.
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
        for (int p = 0; p < P; ++p) {
          const Vec* gates = acc[r] + p * 4;
          lstm_store<Standard>(a, row + r, panel + p, gates[0], gates[1], gates[2], gates[3]);
        }
      }
    }
  };

  template <int V>
  struct Shared {
    template <int R, int P>
    static void tile(const StepArgs& a, std::int64_t row, std::int64_t panel) {
      Vec acc[R][P * V];
      lstm_sums<R, P, V>(acc, a, row, panel);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        SharedGates<V> gates;
        gates.put(acc[r]);
        lstm_store<Standard>(a, row + r, panel, gates.gate(0), gates.gate(1), gates.gate(2),
                             gates.gate(3));
      }
    }
  };
};

void lstm_step(const StepArgs& a) {
  const CellOptions& o = *a.options;
  const bool standard = o.f.function == Function::sigmoid && o.g.function == Function::tanh &&
                        o.h.function == Function::tanh && !(o.clip > 0) && !o.input_forget &&
                        !o.peepholes;
  if (standard) {
    for_each_gated_tile<Lstm<true>::Tile, Lstm<true>::Shared>(a);
  } else {
    for_each_gated_tile<Lstm<false>::Tile, Lstm<false>::Shared>(a);
  }
}

}  // namespace
}  // namespace weft::WEFT_ISA

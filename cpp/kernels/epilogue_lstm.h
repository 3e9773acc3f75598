// LSTM: i, f, o = f(.), g = g(.); c' = f c + i g; out = o h(c').
//
// A panel holds the four gates of kLanes units: the cell is updated while the gates are in
// registers. Peepholes (ONNX): i and f see c, o sees c'. input_forget: f = 1 - i. clip: on
// pre-activations.
#pragma once

#include "kernels/activation.h"
#include "kernels/low_precision.h"
#include "kernels/step.h"

namespace treadle::TREADLE_ISA {
namespace {

// The values that a step computes, which it may save for the backward pass.
struct LstmUnits {
  Vec i, f, g, o, c, h;
};

template <LstmKind Kind>
TREADLE_INLINE Vec lstm_function(Vec x) {
  return Kind == LstmKind::relu ? max(Vec{}, x) : tanh(x);
}

// Computes all of a cell but h from its gates before activation.
template <LstmKind Kind>
TREADLE_INLINE LstmUnits lstm_gates(Vec i, Vec f, Vec g, Vec o, Vec c) {
  i = sigmoid(i);
  f = sigmoid(f);
  g = lstm_function<Kind>(g);
  o = sigmoid(o);
  return {i, f, g, o, fma(f, c, i * g), Vec{}};
}

// Computes a cell with any options from its gates before activation; the other kinds have
// lstm_cell.
LstmUnits lstm_cell_general(const CellOptions& options, std::int64_t panel, Vec i, Vec f, Vec g,
                            Vec o, Vec c) {
  const float* peephole = options.peepholes ? options.peepholes + panel * 3 * kLanes : nullptr;
  if (peephole) {
    i = fma(load(peephole), c, i);
    f = fma(load(peephole + kLanes), c, f);
  }
  const Vec in = activate(options.f, clip(options.clip, i));
  const Vec forget =
      options.input_forget ? broadcast(1.0f) - in : activate(options.f, clip(options.clip, f));
  c = fma(forget, c, in * activate(options.g, clip(options.clip, g)));
  if (peephole) o = fma(load(peephole + 2 * kLanes), c, o);
  return {i, f, g, o, c, activate(options.f, clip(options.clip, o)) * activate(options.h, c)};
}

// Updates c of one row's units of a panel from their pre-activations, saves the gates and returns
// all values; h is missing, unless the kind is general.
template <LstmKind Kind>
TREADLE_INLINE LstmUnits lstm_update(const StepArgs& a, std::int64_t row, std::int64_t panel, Vec i,
                                     Vec f, Vec g, Vec o) {
  const std::int64_t H = a.hidden_size, unit = panel * kLanes, left = H - unit;
  float* c = a.c[row] + unit;
  const Vec old = load_up_to(c, left);
  const LstmUnits now = Kind == LstmKind::general
                            ? lstm_cell_general(*a.options, panel, i, f, g, o, old)
                            : lstm_gates<Kind>(i, f, g, o, old);
  store_up_to(c, now.c, left);
  if (a.saved_c) store_up_to(a.saved_c[row] + unit, now.c, left);
  if (!a.saved) return now;
  float* saved = a.saved[row] + unit;
  store_up_to(saved, now.i, left);
  store_up_to(saved + H, now.f, left);
  store_up_to(saved + 2 * H, now.g, left);
  store_up_to(saved + 3 * H, now.o, left);
  return now;
}

// Writes h of one row's units of a panel.
template <LstmKind Kind>
TREADLE_INLINE void lstm_output(const StepArgs& a, std::int64_t row, std::int64_t panel,
                                const LstmUnits& now) {
  const std::int64_t unit = panel * kLanes;
  const Vec h = Kind == LstmKind::general ? now.h : now.o * lstm_function<Kind>(now.c);
  store_up_to(a.out[row] + unit, h, a.hidden_size - unit);
}

// Updates one row's units of a panel from their pre-activations.
template <LstmKind Kind>
TREADLE_INLINE void lstm_store(const StepArgs& a, std::int64_t row, std::int64_t panel, Vec i,
                               Vec f, Vec g, Vec o) {
  lstm_output<Kind>(a, row, panel, lstm_update<Kind>(a, row, panel, i, f, g, o));
}

// Saves the new c and the gates behind products of low precision. The step divides once for two
// functions, so that the gates are those of the step but for rounding.
__attribute__((noinline)) void lstm_save_low_precision(const StepArgs& a, std::int64_t row,
                                                       std::int64_t panel, const Vec (&gates)[4],
                                                       Vec c) {
  const std::int64_t H = a.hidden_size, unit = panel * kLanes, left = H - unit;
  store_up_to(a.saved_c[row] + unit, c, left);
  if (!a.saved) return;
  float* saved = a.saved[row] + unit;
  store_up_to(saved, low_precision_sigmoid(gates[0]), left);
  store_up_to(saved + H, low_precision_sigmoid(gates[1]), left);
  store_up_to(saved + 2 * H, low_precision_tanh(gates[2]), left);
  store_up_to(saved + 3 * H, low_precision_sigmoid(gates[3]), left);
}

// Behind products of low precision: o before its activation, and the new c.
struct LowPrecisionLstm {
  Vec o, c;
};

TREADLE_INLINE LowPrecisionLstm lstm_update_low_precision(const StepArgs& a, std::int64_t row,
                                                          std::int64_t panel,
                                                          const Vec (&gates)[4]) {
  const std::int64_t unit = panel * kLanes, left = a.hidden_size - unit;
  float* const c = a.c[row] + unit;
  const Vec now = low_precision_lstm_c(gates[0], gates[1], gates[2], load_up_to(c, left));
  store_up_to(c, now, left);
  if (a.saved_c) lstm_save_low_precision(a, row, panel, gates, now);
  return {gates[3], now};
}

TREADLE_INLINE void lstm_output_low_precision(const StepArgs& a, std::int64_t row,
                                              std::int64_t panel, const LowPrecisionLstm& now) {
  const std::int64_t unit = panel * kLanes;
  store_up_to(a.out[row] + unit, low_precision_lstm_h(now.o, now.c), a.hidden_size - unit);
}

// Updates the units of the rows and panels of a tile.
template <LstmKind Kind>
TREADLE_INLINE void lstm_store_rows(const StepArgs& a, std::int64_t row, int rows,
                                    std::int64_t panel, int panels, const float* sums) {
  end_in_two_parts(
      row, rows, panel, panels, sums,
      [&](std::int64_t r, std::int64_t p, const Vec(&gates)[4]) {
        return lstm_update<Kind>(a, r, p, gates[0], gates[1], gates[2], gates[3]);
      },
      [&](std::int64_t r, std::int64_t p, const LstmUnits& now) {
        lstm_output<Kind>(a, r, p, now);
      });
}

// Finishes a step for rows and panels whose sums lie one after another, four vectors each: behind
// products of low precision, and for the cells of float32 whose tiles have no epilogue of their
// own.
template <bool LowPrecision>
__attribute__((noinline)) void lstm_units(const StepArgs& a, std::int64_t row, int rows,
                                          std::int64_t panel, int panels, const float* sums) {
  const LstmKind kind = lstm_kind(*a.options);
  if (kind == LstmKind::general || (LowPrecision && kind == LstmKind::relu)) {
    return lstm_store_rows<LstmKind::general>(a, row, rows, panel, panels, sums);
  }
  if constexpr (!LowPrecision) {
    if (kind == LstmKind::relu) {
      return lstm_store_rows<LstmKind::relu>(a, row, rows, panel, panels, sums);
    }
    return lstm_store_rows<LstmKind::tanh>(a, row, rows, panel, panels, sums);
  }
  end_in_two_parts(
      row, rows, panel, panels, sums,
      [&](std::int64_t r, std::int64_t p, const Vec(&gates)[4]) {
        return lstm_update_low_precision(a, r, p, gates);
      },
      [&](std::int64_t r, std::int64_t p, const LowPrecisionLstm& now) {
        lstm_output_low_precision(a, r, p, now);
      });
}

// A tile holds the sums of R rows and P panels of V vectors; the panels before have four vectors.
template <class Format, int R, int P, int V>
TREADLE_INLINE void lstm_sums(Vec (&acc)[R][P * V], const StepArgs& a, std::int64_t row,
                              std::int64_t panel) {
  start<R, P, V, V, 4>(acc, a, row, panel);
  accumulate_parts<Format, R, P, V>(acc, a, row, panel);
}

template <class Format>
struct Lstm {
  struct Tile {
    template <int R, int P>
    static void tile(const StepArgs& a, std::int64_t row, std::int64_t panel) {
      Vec acc[R][P * 4];
      fetch_saved<4, R, P>(a, row, panel);
      lstm_sums<Format, R, P, 4>(acc, a, row, panel);
      if (!kInlined<Format> || lstm_kind(*a.options) != LstmKind::tanh) {
        const TileSums<R, P * 4> sums(acc);
        return lstm_units<!kInlined<Format>>(a, row, R, panel, P, sums.values);
      }
      // All rows get their c before any gets its h, which waits long for it: so the functions of
      // several rows run at the same time. Unrolled, so that all values stay in registers.
      LstmUnits now[R][P];
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
        for (int p = 0; p < P; ++p) {
          const Vec* gates = acc[r] + p * 4;
          now[r][p] = lstm_update<LstmKind::tanh>(a, row + r, panel + p, gates[0], gates[1],
                                                  gates[2], gates[3]);
        }
      }
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
        for (int p = 0; p < P; ++p) {
          lstm_output<LstmKind::tanh>(a, row + r, panel + p, now[r][p]);
        }
      }
    }
  };

  template <int V>
  struct Shared {
    template <int R, int P>
    static void tile(const StepArgs& a, std::int64_t row, std::int64_t panel) {
      Vec acc[R][P * V];
      lstm_sums<Format, R, P, V>(acc, a, row, panel);
      float sums[R * 4 * kLanes];
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        SharedGates<V> gates;
        gates.put(acc[r]);
#pragma GCC unroll 4
        for (int g = 0; g < 4; ++g) store(sums + (r * 4 + g) * kLanes, gates.gate(g));
      }
      lstm_units<!kInlined<Format>>(a, row, R, panel, 1, sums);
    }
  };
};

template <class Format>
void lstm_step(const StepArgs& a) {
  for_each_gated<Lstm<Format>>(a);
}

}  // namespace
}  // namespace treadle::TREADLE_ISA

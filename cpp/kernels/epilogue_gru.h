// GRU: r, z = f(.); out = n + z (h - n), that is (1 - z) n + z h.
//
// Reset after (PyTorch, cuDNN, Keras' default): n = g(W x + b_in + r (R h + b_hn)). A panel holds
// r, z and n of kLanes units; the candidate's input part (slot 2) and state part (slot 3) are
// summed apart. Reset before (ONNX's default): n = g(W x + b + R (r h)), two dependent products.
// gru_gates writes r h and z, gru_candidate goes on from there.
#pragma once

#include "kernels/activation.h"
#include "kernels/low_precision.h"
#include "kernels/step.h"

namespace treadle::TREADLE_ISA {
namespace {

TREADLE_INLINE Vec gru_blend(Vec n, Vec z, Vec h) { return fma(z, h - n, n); }

// The values of one row's units of a panel between the two parts of a step's end.
struct GruUnits {
  Vec n, z;  // n before its activation
};

// Saves number i of what the backward pass needs of one row's units of a panel.
TREADLE_INLINE void gru_save(const StepArgs& a, std::int64_t row, std::int64_t panel, int i,
                             Vec v) {
  const std::int64_t H = a.hidden_size, unit = panel * kLanes;
  if (a.saved) store_up_to(a.saved[row] + i * H + unit, v, H - unit);
}

// Computes the gates of one row's units of a panel from their pre-activations; nx and nh are the
// candidate's two parts.
template <bool Standard>
TREADLE_INLINE GruUnits gru_update(const StepArgs& a, std::int64_t row, std::int64_t panel, Vec r,
                                   Vec z, Vec nx, Vec nh) {
  if (!Standard) {
    const CellOptions& o = *a.options;
    gru_save(a, row, panel, 1, r);
    gru_save(a, row, panel, 2, z);
    r = activate(o.f, clip(o.clip, r));
    z = activate(o.f, clip(o.clip, z));
  } else {
    r = sigmoid(r);
    z = sigmoid(z);
    gru_save(a, row, panel, 1, r);
    gru_save(a, row, panel, 2, z);
  }
  gru_save(a, row, panel, 3, nh);
  return {fma(r, nh, nx), z};
}

// Writes the output of one row's units of a panel.
template <bool Standard>
TREADLE_INLINE void gru_output(const StepArgs& a, std::int64_t row, std::int64_t panel,
                               const GruUnits& now) {
  const std::int64_t unit = panel * kLanes, left = a.hidden_size - unit;
  const CellOptions& o = *a.options;
  const Vec n = Standard ? tanh(now.n) : activate(o.g, clip(o.clip, now.n));
  gru_save(a, row, panel, 0, Standard ? n : now.n);
  store_up_to(a.out[row] + unit, gru_blend(n, now.z, load_up_to(a.blend[row] + unit, left)), left);
}

// Updates one row's units of a panel from their pre-activations.
template <bool Standard>
TREADLE_INLINE void gru_store(const StepArgs& a, std::int64_t row, std::int64_t panel, Vec r, Vec z,
                              Vec nx, Vec nh) {
  gru_output<Standard>(a, row, panel, gru_update<Standard>(a, row, panel, r, z, nx, nh));
}

// Saves the gates behind products of low precision. The step divides once for several functions, so
// that the gates are those of the step but for rounding.
__attribute__((noinline)) void gru_save_low_precision(const StepArgs& a, std::int64_t row,
                                                      std::int64_t panel, const Vec (&gates)[4]) {
  const Vec r = low_precision_sigmoid(gates[0]);
  gru_save(a, row, panel, 0, low_precision_tanh(fma(r, gates[3], gates[2])));
  gru_save(a, row, panel, 1, r);
  gru_save(a, row, panel, 2, low_precision_sigmoid(gates[1]));
  gru_save(a, row, panel, 3, gates[3]);
}

// As gru_update and gru_output, behind products of low precision: z is before its activation, too.
TREADLE_INLINE GruUnits gru_update_low_precision(const StepArgs& a, std::int64_t row,
                                                 std::int64_t panel, const Vec (&gates)[4]) {
  if (a.saved) gru_save_low_precision(a, row, panel, gates);
  return {low_precision_gru_n(gates[0], gates[2], gates[3]), gates[1]};
}

TREADLE_INLINE void gru_output_low_precision(const StepArgs& a, std::int64_t row,
                                             std::int64_t panel, const GruUnits& now) {
  const std::int64_t unit = panel * kLanes, left = a.hidden_size - unit;
  const Vec h = load_up_to(a.blend[row] + unit, left);
  store_up_to(a.out[row] + unit, low_precision_gru_h(now.n, now.z, h), left);
}

// Updates the units of the rows and panels of a tile.
template <bool Standard>
TREADLE_INLINE void gru_store_rows(const StepArgs& a, std::int64_t row, int rows,
                                   std::int64_t panel, int panels, const float* sums) {
  end_in_two_parts(
      row, rows, panel, panels, sums,
      [&](std::int64_t r, std::int64_t p, const Vec(&gates)[4]) {
        return gru_update<Standard>(a, r, p, gates[0], gates[1], gates[2], gates[3]);
      },
      [&](std::int64_t r, std::int64_t p, const GruUnits& now) {
        gru_output<Standard>(a, r, p, now);
      });
}

// Finishes a step for rows and panels whose sums lie one after another, four vectors each: behind
// products of low precision, and for the cells of float32 whose tiles have no epilogue of their
// own.
template <bool LowPrecision>
__attribute__((noinline)) void gru_units(const StepArgs& a, std::int64_t row, int rows,
                                         std::int64_t panel, int panels, const float* sums) {
  if (!standard_gru(*a.options)) {
    return gru_store_rows<false>(a, row, rows, panel, panels, sums);
  }
  if constexpr (!LowPrecision) return gru_store_rows<true>(a, row, rows, panel, panels, sums);
  end_in_two_parts(
      row, rows, panel, panels, sums,
      [&](std::int64_t r, std::int64_t p, const Vec(&gates)[4]) {
        return gru_update_low_precision(a, r, p, gates);
      },
      [&](std::int64_t r, std::int64_t p, const GruUnits& now) {
        gru_output_low_precision(a, r, p, now);
      });
}

template <class Format>
struct Gru {
  // The last vector of a panel is the candidate's, whose two parts are sums of their own: slot 3
  // holds the part that is summed up, slot 2 the other.
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
        for (int r = 0; r < R; ++r) {
          acc[r][p * 4 + 3] = acc[r][p * 4 + 2];
          acc[r][p * 4 + 2] = bias;
        }
      }
      accumulate_parts<Format, R, P, 3, 4, 3>(acc, a, row, panel, [&] {
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
          for (int p = 0; p < P; ++p) {
            const Vec input = acc[r][p * 4 + 3];
            acc[r][p * 4 + 3] = acc[r][p * 4 + 2];
            acc[r][p * 4 + 2] = input;
          }
        }
      });
      if (!kInlined<Format> || !standard_gru(*a.options)) {
        const TileSums<R, P * 4> sums(acc);
        return gru_units<!kInlined<Format>>(a, row, R, panel, P, sums.values);
      }
      // All rows get their gates before any gets its candidate, which waits long for them: so the
      // functions of several rows run at the same time. Unrolled, so that all values stay in
      // registers.
      GruUnits now[R][P];
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
        for (int p = 0; p < P; ++p) {
          const Vec* gates = acc[r] + p * 4;
          now[r][p] =
              gru_update<true>(a, row + r, panel + p, gates[0], gates[1], gates[2], gates[3]);
        }
      }
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
        for (int p = 0; p < P; ++p) gru_output<true>(a, row + r, panel + p, now[r][p]);
      }
    }
  };

  // The candidate's columns hold nx after the input part; they start anew from b_hn before the
  // state is added.
  template <int V>
  struct Shared {
    template <int R, int P>
    static void tile(const StepArgs& a, std::int64_t row, std::int64_t panel) {
      Vec acc[R][P * V];
      start<R, P, V, V, 3>(acc, a, row, panel);
      float sums[R * 4 * kLanes];
      const Vec bias = load(a.bias_hidden + panel * kLanes);
      accumulate_parts<Format, R, P, V, V, V - 1>(acc, a, row, panel, [&] {
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
          SharedGates<V> gates;
          gates.put(acc[r]);
          store(sums + (r * 4 + 2) * kLanes, gates.gate(2));
          store_partial(gates.columns + 2 * gates.kWidth, bias, gates.kWidth);
          for (int v = 0; v < V; ++v) acc[r][v] = load(gates.columns + v * kLanes);
        }
      });
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        SharedGates<V> gates;
        gates.put(acc[r]);
        store(sums + r * 4 * kLanes, gates.gate(0));
        store(sums + (r * 4 + 1) * kLanes, gates.gate(1));
        store(sums + (r * 4 + 3) * kLanes, gates.gate(2));
      }
      gru_units<!kInlined<Format>>(a, row, R, panel, 1, sums);
    }
  };
};

template <class Format>
void gru_step(const StepArgs& a) {
  for_each_gated<Gru<Format>>(a);
}

// Finishes a step with the reset before the product, from the sums of rows and panels. Candidate
// false: vectors r, z; writes r h and z. Candidate true: vector n; writes the blend.
template <bool Candidate>
__attribute__((noinline)) void gru_before_units(const StepArgs& a, std::int64_t row, int rows,
                                                std::int64_t panel, int panels, const float* sums) {
  constexpr int V = Candidate ? 1 : 2;
  const CellOptions& o = *a.options;
  for (std::int64_t r = row; r < row + rows; ++r) {
    for (std::int64_t p = panel; p < panel + panels; ++p, sums += V * kLanes) {
      const std::int64_t unit = p * kLanes, left = a.hidden_size - unit;
      const Vec h = load_up_to(a.blend[r] + unit, left);
      float* z = a.c[r] + unit;
      float* out = a.out[r] + unit;
      for (int i = 0; a.saved && i < V; ++i) {
        float* saved = a.saved[r] + (Candidate ? 0 : 1 + i) * a.hidden_size;
        store_up_to(saved + unit, load(sums + i * kLanes), left);
      }
      if (Candidate) {
        const Vec n = activate(o.g, clip(o.clip, load(sums)));
        store_up_to(out, gru_blend(n, load_up_to(z, left), h), left);
      } else {
        const Vec reset = activate(o.f, clip(o.clip, load(sums)));
        store_up_to(out, reset * h, left);
        store_up_to(z, activate(o.f, clip(o.clip, load(sums + kLanes))), left);
      }
    }
  }
}

template <class Format, bool Candidate>
struct GruBeforeTile {
  static constexpr int V = Candidate ? 1 : 2;
  template <int R, int P>
  static void tile(const StepArgs& a, std::int64_t row, std::int64_t panel) {
    Vec acc[R][P * V];
    start<R, P, V, V>(acc, a, row, panel);
    accumulate_parts<Format, R, P, V>(acc, a, row, panel);
    const TileSums<R, P * V> sums(acc);
    gru_before_units<Candidate>(a, row, R, panel, P, sums.values);
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

// A time step back: the product that brings the gradient from the next step, and then, for each
// hidden unit, from the gradient of the output to those of the pre-activations.
//
// The sums of a tile go through L1 to the epilogue, which would not fit beside them into registers;
// at 4 H terms a sum that costs little.
#pragma once

#include "kernels/derivative.h"
#include "kernels/gemm.h"

namespace weft::WEFT_ISA {
namespace {

// A vector of units of one row, from `unit` on, `left` of them or more.
struct BackUnits {
  const BackArgs& a;
  std::int64_t row, unit, left;

  WEFT_INLINE Vec read(const float* const* rows, int part = 0) const {
    return load_up_to(rows[row] + part * a.hidden_size + unit, left);
  }
  WEFT_INLINE void write(float* const* rows, Vec v, int part = 0) const {
    store_up_to(rows[row] + part * a.hidden_size + unit, v, left);
  }
};

// Epilogue::units(units, d) for all units of a tile.
template <class Epilogue>
__attribute__((noinline)) void back_units(const BackArgs& a, std::int64_t row, int rows,
                                          std::int64_t unit, const float* sums,
                                          std::int64_t columns) {
  for (int r = 0; r < rows; ++r) {
    for (std::int64_t i = 0; i < columns && unit + i < a.hidden_size; i += kLanes) {
      const BackUnits u{a, row + r, unit + i, a.hidden_size - unit - i};
      Vec d = load(sums + r * columns + i);
      if (a.dy) d = d + u.read(a.dy);
      if (a.carry) d = d + u.read(a.carry);
      Epilogue::units(u, d);
    }
  }
}

template <class Epilogue>
struct Back {
  template <int V>
  struct Tile {
    template <int R, int P>
    static void tile(const BackArgs& a, std::int64_t row, std::int64_t panel) {
      constexpr std::int64_t kColumns = P * V * kLanes;
      Vec acc[R][P * V] = {};
      if (a.next) {
        accumulate<R, P, V, V, V - 1>(acc, a.next + row, a.depth,
                                      a.weights + panel * a.panel_stride, a.panel_stride);
      }
      float sums[R][kColumns];
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
        for (int i = 0; i < P * V; ++i) store(sums[r] + i * kLanes, acc[r][i]);
      }
      back_units<Epilogue>(a, row, R, panel * kBackVectors * kLanes, sums[0], kColumns);
    }
  };

  static void step(const BackArgs& a) { for_each_plain_tile<Tile>(a, a.hidden_size, kBackVectors); }
};

template <RnnKind Kind>
struct RnnBack {
  static WEFT_INLINE void units(const BackUnits& u, Vec d) {
    const Vec s = u.read(u.a.saved), one = broadcast(1.0f);
    if (Kind == RnnKind::tanh) d = d * (one - s * s);
    if (Kind == RnnKind::relu) d = s <= Vec{} ? Vec{} : d;
    if (Kind == RnnKind::general) d = through(u.a.options->g, u.a.options->clip, s, d);
    u.write(u.a.out, d);
  }
};

void rnn_back(const BackArgs& a) {
  switch (rnn_kind(*a.options)) {
    case RnnKind::tanh:
      return Back<RnnBack<RnnKind::tanh>>::step(a);
    case RnnKind::relu:
      return Back<RnnBack<RnnKind::relu>>::step(a);
    case RnnKind::general:
      return Back<RnnBack<RnnKind::general>>::step(a);
  }
}

struct LstmBack {
  static WEFT_INLINE void units(const BackUnits& u, Vec d) {
    const BackArgs& a = u.a;
    const Vec one = broadcast(1.0f), i = u.read(a.saved), f = u.read(a.saved, 1),
              g = u.read(a.saved, 2), o = u.read(a.saved, 3), h = tanh(u.read(a.saved, 4));
    const Vec dc = fma(d * o, one - h * h, u.read(a.dc));
    if (a.hidden) u.write(a.hidden, o * h);
    u.write(a.out, dc * g * (i * (one - i)));
    u.write(a.out, dc * u.read(a.old) * (f * (one - f)), 1);
    u.write(a.out, dc * i * (one - g * g), 2);
    u.write(a.out, d * h * (o * (one - o)), 3);
    u.write(a.dc, dc * f);
  }
};

struct LstmBackGeneral {
  static void units(const BackUnits& u, Vec d) {
    const BackArgs& a = u.a;
    const CellOptions& options = *a.options;
    const auto value = [&](const Activation& f, Vec x) {
      return activate(f, clip(options.clip, x));
    };
    const auto back = [&](const Activation& f, Vec x, Vec grad) {
      return through(f, options.clip, x, grad);
    };
    const Vec x_i = u.read(a.saved), x_f = u.read(a.saved, 1), x_g = u.read(a.saved, 2),
              x_o = u.read(a.saved, 3), c = u.read(a.saved, 4), old = u.read(a.old);
    const Vec i = value(options.f, x_i), g = value(options.g, x_g), o = value(options.f, x_o);
    const Vec f = options.input_forget ? broadcast(1.0f) - i : value(options.f, x_f);
    const Vec h = activate(options.h, c);
    if (a.hidden) u.write(a.hidden, o * h);
    const float* peephole =
        options.peepholes ? options.peepholes + u.unit / kLanes * 3 * kLanes : nullptr;
    const Vec d_o = back(options.f, x_o, d * h);
    Vec dc = fma(d * o, derivative(options.h, c), u.read(a.dc));
    if (peephole) dc = fma(d_o, load(peephole + 2 * kLanes), dc);
    const Vec d_f = options.input_forget ? Vec{} : back(options.f, x_f, dc * old);
    const Vec d_i = back(options.f, x_i, dc * (options.input_forget ? g - old : g));
    u.write(a.out, d_i);
    u.write(a.out, d_f, 1);
    u.write(a.out, back(options.g, x_g, dc * i), 2);
    u.write(a.out, d_o, 3);
    dc = dc * f;
    if (peephole) dc = fma(d_i, load(peephole), fma(d_f, load(peephole + kLanes), dc));
    u.write(a.dc, dc);
  }
};

void lstm_back(const BackArgs& a) {
  if (standard_lstm(*a.options)) return Back<LstmBack>::step(a);
  Back<LstmBackGeneral>::step(a);
}

template <bool Standard>
struct GruBack {
  static WEFT_INLINE void units(const BackUnits& u, Vec d) {
    const BackArgs& a = u.a;
    const CellOptions& options = *a.options;
    const Vec one = broadcast(1.0f), nh = u.read(a.saved, 3), h = u.read(a.old);
    Vec r = u.read(a.saved), z = u.read(a.saved, 1), n = u.read(a.saved, 2), d_n, d_r, d_z;
    if (Standard) {
      d_n = d * (one - z) * (one - n * n);
      d_r = d_n * nh * (r * (one - r));
      d_z = d * (h - n) * (z * (one - z));
    } else {
      const auto value = [&](const Activation& f, Vec x) {
        return activate(f, clip(options.clip, x));
      };
      const auto back = [&](const Activation& f, Vec x, Vec grad) {
        return through(f, options.clip, x, grad);
      };
      const Vec x_r = r, x_z = z, x_n = n;
      r = value(options.f, x_r);
      z = value(options.f, x_z);
      n = value(options.g, x_n);
      d_n = back(options.g, x_n, d * (one - z));
      d_r = back(options.f, x_r, d_n * nh);
      d_z = back(options.f, x_z, d * (h - n));
    }
    u.write(a.out, d_n);
    u.write(a.out, d_r, 1);
    u.write(a.out, d_z, 2);
    u.write(a.out, d_n * r, 3);
    u.write(a.keep, d * z);
  }
};

void gru_back(const BackArgs& a) {
  if (standard_gru(*a.options)) return Back<GruBack<true>>::step(a);
  Back<GruBack<false>>::step(a);
}

// Reset before: n and z.
struct GruBackGates {
  static void units(const BackUnits& u, Vec d) {
    const BackArgs& a = u.a;
    const CellOptions& o = *a.options;
    const Vec x_z = u.read(a.saved, 1), x_n = u.read(a.saved, 2);
    const Vec z = activate(o.f, clip(o.clip, x_z)), n = activate(o.g, clip(o.clip, x_n));
    u.write(a.out, through(o.g, o.clip, x_n, d * (broadcast(1.0f) - z)));
    u.write(a.out, through(o.f, o.clip, x_z, d * (u.read(a.old) - n)), 2);
    u.write(a.keep, d * z);
  }
};

// Then r, d being the gradient of r h.
struct GruBackReset {
  static void units(const BackUnits& u, Vec d) {
    const BackArgs& a = u.a;
    const CellOptions& o = *a.options;
    const Vec x_r = u.read(a.saved), r = activate(o.f, clip(o.clip, x_r));
    u.write(a.out, through(o.f, o.clip, x_r, d * u.read(a.old)), 1);
    if (a.hidden) u.write(a.hidden, r * u.read(a.old));
    u.write(a.keep, fma(d, r, u.read(a.keep)));
  }
};

void gru_back_gates(const BackArgs& a) { Back<GruBackGates>::step(a); }
void gru_back_reset(const BackArgs& a) { Back<GruBackReset>::step(a); }

}  // namespace
}  // namespace weft::WEFT_ISA

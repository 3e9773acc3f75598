// GRU back: d is the gradient of the output (1 - z) n + z h, slopes of activations have a prime.
//
//     da_n = d (1 - z) n'    da_z = d (h - n) z'    kept for the step before: d z
//
// Reset after: da_r = da_n (R h + b_hn) r', and the gradient of R h + b_hn is da_n r. Reset before:
// two dependent products. gru_backward_gates does n and z; the candidate's weights then bring e,
// the gradient of r h, to gru_backward_reset: da_r = e h r', and e r is kept, too.
#pragma once

#include "kernels/backward.h"
#include "kernels/derivative.h"

namespace treadle::TREADLE_ISA {
namespace {

template <bool Standard>
struct GruBackward {
  static constexpr int kParts = 4;
  static TREADLE_INLINE void units(const BackwardUnits& u, Vec d) {
    const BackwardArgs& a = u.a;
    const CellOptions& options = *a.options;
    const Vec one = broadcast(1.0f), nh = u.read(a.saved, 3), h = u.read(a.old);
    Vec n = u.read(a.saved), r = u.read(a.saved, 1), z = u.read(a.saved, 2), d_n, d_r, d_z;
    if (Standard) {
      d_n = d * (one - z) * (one - n * n);
      d_r = d_n * nh * (r * (one - r));
      d_z = d * (h - n) * (z * (one - z));
    } else {
      const auto value = [&](const Activation& f, Vec x) {
        return activate(f, clip(options.clip, x));
      };
      const auto backward = [&](const Activation& f, Vec x, Vec grad) {
        return through(f, options.clip, x, grad);
      };
      const Vec x_r = r, x_z = z, x_n = n;
      r = value(options.f, x_r);
      z = value(options.f, x_z);
      n = value(options.g, x_n);
      d_n = backward(options.g, x_n, d * (one - z));
      d_r = backward(options.f, x_r, d_n * nh);
      d_z = backward(options.f, x_z, d * (h - n));
    }
    u.write(a.out, d_n);
    u.write(a.out, d_r, 1);
    u.write(a.out, d_z, 2);
    u.write(a.out, d_n * r, 3);
    u.write(a.keep, d * z);
  }
};

void gru_backward(const BackwardArgs& a) {
  if (standard_gru(*a.options)) return backward_step<GruBackward<true>>(a);
  backward_step<GruBackward<false>>(a);
}

// With the reset before the product, this epilogue comes first and does n and z.
struct GruBackwardGates {
  static constexpr int kParts = 3;
  static void units(const BackwardUnits& u, Vec d) {
    const BackwardArgs& a = u.a;
    const CellOptions& o = *a.options;
    const Vec x_n = u.read(a.saved), x_z = u.read(a.saved, 2);
    const Vec z = activate(o.f, clip(o.clip, x_z)), n = activate(o.g, clip(o.clip, x_n));
    u.write(a.out, through(o.g, o.clip, x_n, d * (broadcast(1.0f) - z)));
    u.write(a.out, through(o.f, o.clip, x_z, d * (u.read(a.old) - n)), 2);
    u.write(a.keep, d * z);
  }
};

// This epilogue comes second and does r; d is then the gradient of r h.
struct GruBackwardReset {
  static constexpr int kParts = 3;
  static void units(const BackwardUnits& u, Vec d) {
    const BackwardArgs& a = u.a;
    const CellOptions& o = *a.options;
    const Vec x_r = u.read(a.saved, 1), r = activate(o.f, clip(o.clip, x_r));
    u.write(a.out, through(o.f, o.clip, x_r, d * u.read(a.old)), 1);
    if (a.hidden) u.write(a.hidden, r * u.read(a.old));
    u.write(a.keep, fma(d, r, u.read(a.keep)));
  }
};

void gru_backward_gates(const BackwardArgs& a) { backward_step<GruBackwardGates>(a); }
void gru_backward_reset(const BackwardArgs& a) { backward_step<GruBackwardReset>(a); }

}  // namespace
}  // namespace treadle::TREADLE_ISA

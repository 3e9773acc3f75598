// RNN back: d a = f'(a) d, of the output y = f(a) where that says it, else of a.
#pragma once

#include "kernels/back.h"
#include "kernels/derivative.h"

namespace treadle::TREADLE_ISA {
namespace {

template <RnnKind Kind>
struct RnnBack {
  static constexpr int kParts = 1;
  static TREADLE_INLINE void units(const BackUnits& u, Vec d) {
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

}  // namespace
}  // namespace treadle::TREADLE_ISA

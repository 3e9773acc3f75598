// RNN back: d a = f'(a) d, of the output y = f(a) where that says it, else of a.
#pragma once

#include "kernels/backward.h"
#include "kernels/derivative.h"

namespace treadle::TREADLE_ISA {
namespace {

template <RnnKind Kind>
struct RnnBackward {
  static constexpr int kParts = 1;
  static TREADLE_INLINE void units(const BackwardUnits& u, Vec d) {
    const Vec s = u.read(u.a.saved), one = broadcast(1.0f);
    if (Kind == RnnKind::tanh) d = d * (one - s * s);
    if (Kind == RnnKind::relu) d = s <= Vec{} ? Vec{} : d;
    if (Kind == RnnKind::general) d = through(u.a.options->g, u.a.options->clip, s, d);
    u.write(u.a.out, d);
  }
};

void rnn_backward(const BackwardArgs& a) {
  switch (rnn_kind(*a.options)) {
    case RnnKind::tanh:
      return backward_step<RnnBackward<RnnKind::tanh>>(a);
    case RnnKind::relu:
      return backward_step<RnnBackward<RnnKind::relu>>(a);
    case RnnKind::general:
      return backward_step<RnnBackward<RnnKind::general>>(a);
  }
}

}  // namespace
}  // namespace treadle::TREADLE_ISA

// Functions behind products in bfloat16 and int8. Beside the rounding of those (2^-9 and more) an
// absolute error of 2^-20 of a result is nothing, and the functions of simd/math.h would take an
// eighth of the time of a step of 32 rows: a shorter exponential, and one division for a product of
// two functions. A gate is never below 2^-60: right for |c|, |R h + b_hn| < 2^40 and |h| < 2^67.
//
//     sigmoid(x) = 1 / (1 + E),  tanh(x) = (1 - E^2) / (1 + E^2)  with E = e^-x
//     gelu(x) = max(x, 0) - t Phi(-t),  Phi(-t) = 2^(-1 - t P(t))  with t = |x|
#pragma once

#include "simd/math.h"

namespace treadle::TREADLE_ISA {
namespace {

// e^(-factor x) within 2^-60 and 2^60: of two, neither the product nor a quotient is lost to
// float32.
template <int Factor>
TREADLE_INLINE Vec low_precision_exp(Vec x) {
  const Vec limit = broadcast(60.0f);
  return exp2_between(clamp(-limit, limit, x * broadcast(-Factor * kLog2e)));
}

// Returns c' of an LSTM's step.
TREADLE_INLINE Vec low_precision_lstm_c(Vec i, Vec f, Vec g, Vec c) {
  const Vec one = broadcast(1.0f);
  const Vec ei = low_precision_exp<1>(i), ef = low_precision_exp<1>(f),
            eg = low_precision_exp<2>(g);
  return c / (one + ef) + (one - eg) / ((one + ei) * (one + eg));
}
// Returns h' from the gate o and c'.
TREADLE_INLINE Vec low_precision_lstm_h(Vec o, Vec c) {
  const Vec one = broadcast(1.0f);
  const Vec eo = low_precision_exp<1>(o), ec = low_precision_exp<2>(c);
  return (one - ec) / ((one + eo) * (one + ec));
}

// Returns a GRU's candidate before its activation, with the reset after the product.
TREADLE_INLINE Vec low_precision_gru_n(Vec r, Vec nx, Vec nh) {
  return nh / (broadcast(1.0f) + low_precision_exp<1>(r)) + nx;
}
// Returns the new state from it, the gate z and the state.
TREADLE_INLINE Vec low_precision_gru_h(Vec n, Vec z, Vec h) {
  const Vec one = broadcast(1.0f);
  const Vec en = low_precision_exp<2>(n), ez = low_precision_exp<1>(z);
  return fma(ez, one - en, h * (one + en)) / ((one + ez) * (one + en));
}

TREADLE_INLINE Vec low_precision_sigmoid(Vec x) {
  const Vec one = broadcast(1.0f);
  return one / (one + low_precision_exp<1>(x));
}

TREADLE_INLINE Vec low_precision_tanh(Vec x) {
  const Vec one = broadcast(1.0f), e = low_precision_exp<2>(x);
  return (one - e) / (one + e);
}

// P: cpp/simd/fit_constants.py, of degree 4 where gelu has 9. Phi(-16) is zero.
TREADLE_INLINE Vec low_precision_gelu(Vec x) {
  const Vec t = min(broadcast(16.0f), abs(x));
  Vec p = broadcast(0x1.ffcffp-12f);
  p = fma(p, t, broadcast(-0x1.d7c676p-8f));
  p = fma(p, t, broadcast(0x1.ab2f6ap-5f));
  p = fma(p, t, broadcast(0x1.d6a04ap-2f));
  p = fma(p, t, broadcast(0x1.26a7f8p+0f));
  return fma(-t, exp2_falling(fma(-p, t, broadcast(-1.0f))), max(Vec{}, x));
}

}  // namespace
}  // namespace treadle::TREADLE_ISA

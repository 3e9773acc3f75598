// exp, tanh, sigmoid, erf, log1p: written once over simd.h, the same polynomials on every ISA.
//
// Coefficients: cpp/simd/fit_constants.py (minimax by Lawson's algorithm). The reduction
// x = n ln2 + r with ln2 in two parts is Cody and Waite's (Software Manual for the Elementary
// Functions, 1980). NaN in gives NaN out, infinities give the limits; results below the smallest
// normal number are flushed to zero under the runtime's guard. Maximum errors are asserted, in ULP,
// by tests/native/test_activation.py.
#pragma once

#include "simd/simd.h"

namespace treadle::TREADLE_ISA {
namespace {

// e^x = scale * (1 + tail), |tail| < 0.42: callers that need e^x - 1 lose nothing to cancellation.
struct ExpParts {
  Vec scale, tail;
};

// x in [-88, 88] or NaN.
TREADLE_INLINE ExpParts exp_parts(Vec x) {
  const Vec shifter = broadcast(kShifter);
  const Vec shifted = fma(x, broadcast(0x1.715476p0f), shifter);  // 1 / ln2
  const Vec n = shifted - shifter;
  Vec r = fma(n, broadcast(-0x1.62e4p-1f), x);  // ln2, high part: 15 bits, n * it is exact
  r = fma(n, broadcast(-0x1.7f7d1cp-20f), r);   // ln2, low part
  const Vec scale = as_floats((as_ints(shifted) << 23) + as_ints(broadcast(1.0f)));
  Vec p = broadcast(0x1.6bec08p-10f);
  p = fma(p, r, broadcast(0x1.122768p-7f));
  p = fma(p, r, broadcast(0x1.555674p-5f));
  p = fma(p, r, broadcast(0x1.5554bp-3f));
  p = fma(p, r, broadcast(0x1.fffffep-2f));
  return {scale, fma(p, r * r, r)};
}

TREADLE_INLINE Vec clamp(Vec low, Vec high, Vec x) { return min(high, max(low, x)); }

// e^x. Above 88.72 the true value exceeds float32; below -87.34 it is under the smallest normal.
TREADLE_INLINE Vec exp(Vec x) {
  const ExpParts e = exp_parts(clamp(broadcast(-88.0f), broadcast(88.0f), x));
  Vec y = fma(e.scale, e.tail, e.scale);
  // Between 88 and the overflow the result is e^88 times e^(x - 88), by the same polynomial.
  const Vec over = clamp(broadcast(0.0f), broadcast(1.0f), x - broadcast(88.0f));
  const ExpParts rest = exp_parts(over);
  y = x > broadcast(88.0f) ? y * fma(rest.scale, rest.tail, rest.scale) : y;
  return x < broadcast(-87.33654f) ? Vec{} : y;
}

constexpr float kLog2e = 0x1.715476p0f;

// 2^x for x in [-127, 127]. Below -126 the result is smaller than the smallest normal number: zero,
// under the runtime's guard.
TREADLE_INLINE Vec exp2_between(Vec x) {
  const Vec n = nearest(x), r = x - n;
  Vec p = broadcast(0x1.5bba14p-10f);
  p = fma(p, r, broadcast(0x1.3cea88p-7f));
  p = fma(p, r, broadcast(0x1.c6b752p-5f));
  p = fma(p, r, broadcast(0x1.ebf9bcp-3f));
  p = fma(p, r, broadcast(0x1.62e42ap-1f));
  return times_power_of_2(fma(p, r, broadcast(1.0f)), n);
}
// 2^x for x <= 0 or hardly above, as softmax needs it.
TREADLE_INLINE Vec exp2_falling(Vec x) { return exp2_between(max(broadcast(-127.0f), x)); }

// e^x - 1.
TREADLE_INLINE Vec expm1(Vec x) {
  // Below -17.4 the result is -1 to the last bit; above 88 callers have no use for the difference.
  const ExpParts e = exp_parts(clamp(broadcast(-18.0f), broadcast(88.0f), x));
  return fma(e.scale, e.tail, e.scale - broadcast(1.0f));
}

// 1 / (1 + e^-x).
TREADLE_INLINE Vec sigmoid(Vec x) {
  const ExpParts e = exp_parts(clamp(broadcast(-88.0f), broadcast(88.0f), -x));
  return broadcast(1.0f) / (broadcast(1.0f) + fma(e.scale, e.tail, e.scale));
}

// tanh(x) = sign(x) u / (u + 2) with u = e^(2|x|) - 1; odd to the last bit.
TREADLE_INLINE Vec tanh(Vec x) {
  const ExpParts e = exp_parts(min(broadcast(19.0f), abs(x + x)));  // tanh(9.02) rounds to 1
  const Vec u = fma(e.scale, e.tail, e.scale - broadcast(1.0f));
  return copysign(u / (u + broadcast(2.0f)), x);
}

// log(1 + y) for y in [0, 1]: 2 atanh(s) with s = y / (2 + y) <= 1/3.
TREADLE_INLINE Vec log1p_unit(Vec y) {
  const Vec s = y / (broadcast(2.0f) + y);
  const Vec z = s * s;
  Vec p = broadcast(0x1.f1aee2p-3f);
  p = fma(p, z, broadcast(0x1.b6d6a4p-3f));
  p = fma(p, z, broadcast(0x1.250972p-2f));
  p = fma(p, z, broadcast(0x1.9996a8p-2f));
  p = fma(p, z, broadcast(0x1.555558p-1f));
  return fma(p * z, s, s + s);
}

// log(x) = e ln2 + log(m) with x = m 2^e, 1 <= m < 2, for x that is normal and positive; infinity
// and NaN as they come.
TREADLE_INLINE Vec log(Vec x) {
  const Ints bits = as_ints(x), one = as_ints(broadcast(1.0f));
  const Vec e = __builtin_convertvector(bits >> 23, Vec) - broadcast(127.0f);
  const Vec m = as_floats((bits & 0x7fffffu) | one);
  const Vec y = fma(e, broadcast(0x1.62e43p-1f), log1p_unit(m - broadcast(1.0f)));
  return x < broadcast(__builtin_inff()) ? y : x;
}

// log(x) of any number: -infinity of zero, NaN of negative numbers. With x = m 2^e and
// sqrt(1/2) <= m < sqrt(2), log(m) does not cancel e ln2 near 1, as it does in `log`.
TREADLE_INLINE Vec log_of_any(Vec x) {
  typedef std::int32_t SignedInts __attribute__((vector_size(kLanes * sizeof(float))));
  constexpr std::uint32_t kRootHalf = 0x3f3504f3;
  const Ints bits = as_ints(x) - kRootHalf;
  const Vec e = __builtin_convertvector(reinterpret_cast<SignedInts>(bits) >> 23, Vec);
  const Vec m = as_floats((bits & 0x7fffffu) + kRootHalf);
  const Vec y = fma(e, broadcast(0x1.62e43p-1f), log1p_unit(m - broadcast(1.0f)));
  const Vec finite = x < broadcast(__builtin_inff()) ? y : x;
  const Vec least = x == Vec{} ? broadcast(-__builtin_inff()) : broadcast(__builtin_nanf(""));
  return x <= Vec{} ? least : finite;
}

// log(1 + e^x) = max(x, 0) + log(1 + e^-|x|).
TREADLE_INLINE Vec softplus(Vec x) { return max(broadcast(0.0f), x) + log1p_unit(exp(-abs(x))); }

// erf(x): x + x P(x^2) below 0.92, 1 - e^(-t - t Q(t)) with t = |x| above.
TREADLE_INLINE Vec erf(Vec x) {
  const Vec t = min(broadcast(4.0f), abs(x));
  const Vec z = t * t;
  Vec p = broadcast(0x1.5cd0e8p-14f);
  p = fma(p, z, broadcast(-0x1.aa3e0cp-11f));
  p = fma(p, z, broadcast(0x1.54c7d4p-8f));
  p = fma(p, z, broadcast(-0x1.b80e8ep-6f));
  p = fma(p, z, broadcast(0x1.ce2e0ap-4f));
  p = fma(p, z, broadcast(-0x1.812742p-2f));
  p = fma(p, z, broadcast(0x1.06eba8p-3f));
  const Vec small = fma(p, t, t);
  Vec q = broadcast(0x1.57514ap-18f);
  q = fma(q, t, broadcast(-0x1.90817ap-15f));
  q = fma(q, t, broadcast(-0x1.438d2p-15f));
  q = fma(q, t, broadcast(0x1.7c12a4p-9f));
  q = fma(q, t, broadcast(-0x1.72afa2p-6f));
  q = fma(q, t, broadcast(0x1.aef6fp-4f));
  q = fma(q, t, broadcast(0x1.4573d4p-1f));
  q = fma(q, t, broadcast(0x1.07436ap-3f));
  const ExpParts e = exp_parts(-fma(q, t, t));  // of -19 at most: no need to clamp
  const Vec large = -fma(e.scale, e.tail, e.scale - broadcast(1.0f));
  return copysign(t < broadcast(0.92f) ? small : large, x);
}

// x sigmoid(x) (Ramachandran et al., arXiv:1710.05941).
TREADLE_INLINE Vec silu(Vec x) { return x * sigmoid(x); }

// x min(1, max(0, x / 6 + 1 / 2)) (Howard et al., arXiv:1905.02244).
TREADLE_INLINE Vec hard_swish(Vec x) {
  const Vec gate = fma(broadcast(0x1.555556p-3f), x, broadcast(0.5f));
  return x * clamp(broadcast(0.0f), broadcast(1.0f), gate);
}

// x Phi(x) (Hendrycks and Gimpel, arXiv:1606.08415) as max(x, 0) - t Phi(-t) with t = |x| and
// Phi(-t) = 2^(-t P(t)) / 2; P(16) takes it to zero.
TREADLE_INLINE Vec gelu(Vec x) {
  const Vec t = min(broadcast(16.0f), abs(x));
  Vec p = broadcast(-0x1.6b8f28p-25f);
  p = fma(p, t, broadcast(0x1.3444e4p-20f));
  p = fma(p, t, broadcast(-0x1.c51208p-17f));
  p = fma(p, t, broadcast(0x1.71ab3ep-14f));
  p = fma(p, t, broadcast(-0x1.453af4p-12f));
  p = fma(p, t, broadcast(0x1.7d36f6p-15f));
  p = fma(p, t, broadcast(0x1.c4d8fp-8f));
  p = fma(p, t, broadcast(-0x1.ad7a7ep-5f));
  p = fma(p, t, broadcast(-0x1.d63e8cp-2f));
  p = fma(p, t, broadcast(-0x1.26aec4p+0f));
  const Vec u = max(broadcast(-127.0f), p * t), n = nearest(u), r = u - n;
  Vec q = broadcast(0x1.41fbbcp-13f);  // one degree more than exp2_falling
  q = fma(q, r, broadcast(0x1.5f3e54p-10f));
  q = fma(q, r, broadcast(0x1.3b2d4cp-7f));
  q = fma(q, r, broadcast(0x1.c6aee8p-5f));
  q = fma(q, r, broadcast(0x1.ebfbdcp-3f));
  q = fma(q, r, broadcast(0x1.62e43p-1f));
  const Vec half = broadcast(0.5f) * x, positive = half + abs(half);
  const Vec tail = t * times_power_of_2(broadcast(0.5f), n);
  // Near zero, where n is 0, the difference is exact, and nothing is rounded beside 1.
  const Vec near = fma(-(tail * r), q, positive - tail);
  return n == Vec{} ? near : fma(-tail, fma(q, r, broadcast(1.0f)), positive);
}
// Their approximation by tanh: x / 2 (1 + tanh(u)) = x sigmoid(2 u) with
// u = sqrt(2 / pi) (x + 0.044715 x^3).
TREADLE_INLINE Vec gelu_tanh(Vec x) {
  const Vec cubic = fma(broadcast(0.044715f) * x * x, x, x);
  return x * sigmoid(broadcast(0x1.988454p0f) * cubic);  // 2 sqrt(2 / pi)
}

}  // namespace
}  // namespace treadle::TREADLE_ISA

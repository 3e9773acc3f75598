// 16-byte vectors that every x86-64 (SSE2) and aarch64 (NEON) CPU has. Included by simd.h only.
#pragma once

namespace treadle::TREADLE_ISA {
namespace {

TREADLE_INLINE Vec broadcast(float x) { return Vec{x, x, x, x}; }

TREADLE_INLINE Vec fma(Vec a, Vec b, Vec c) {
#if defined(__aarch64__)
  return vfmaq_f32(c, a, b);
#else
  return a * b + c;  // SSE2 has no fused form, and libm's is a hundred times slower
#endif
}

TREADLE_INLINE Vec min(Vec a, Vec b) { return a < b ? a : b; }
TREADLE_INLINE Vec max(Vec a, Vec b) { return a > b ? a : b; }
TREADLE_INLINE Vec nearest(Vec x) { return nearest_by_shift(x); }
TREADLE_INLINE Vec times_power_of_2(Vec x, Vec n) { return x * power_of_2(n); }

TREADLE_INLINE Wides multiply_even(Ints x, std::uint32_t y) {
  return (reinterpret_cast<Wides>(x) & 0xffffffff) * y;
}

TREADLE_INLINE Vec load_partial(const float* p, int n) {
  Vec v{};
  for (int i = 0; i < n; ++i) v[i] = p[i];
  return v;
}
TREADLE_INLINE void store_partial(float* p, Vec v, int n) {
  for (int i = 0; i < n; ++i) p[i] = v[i];
}

}  // namespace
}  // namespace treadle::TREADLE_ISA

// 16-byte vectors that every x86-64 (SSE2) and aarch64 (NEON) CPU has. Included by simd.h only.
#pragma once

namespace weft::WEFT_ISA {
namespace {

WEFT_INLINE Vec broadcast(float x) { return Vec{x, x, x, x}; }

WEFT_INLINE Vec fma(Vec a, Vec b, Vec c) {
#if defined(__aarch64__)
  return vfmaq_f32(c, a, b);
#else
  return a * b + c;  // SSE2 has no fused form, and libm's is a hundred times slower
#endif
}

WEFT_INLINE Vec min(Vec a, Vec b) { return a < b ? a : b; }
WEFT_INLINE Vec max(Vec a, Vec b) { return a > b ? a : b; }
WEFT_INLINE Vec nearest(Vec x) { return nearest_by_shift(x); }
WEFT_INLINE Vec times_power_of_2(Vec x, Vec n) { return x * power_of_2(n); }

WEFT_INLINE Wides multiply_even(Ints x, std::uint32_t y) {
  return (reinterpret_cast<Wides>(x) & 0xffffffff) * y;
}

WEFT_INLINE Vec load_partial(const float* p, int n) {
  Vec v{};
  for (int i = 0; i < n; ++i) v[i] = p[i];
  return v;
}
WEFT_INLINE void store_partial(float* p, Vec v, int n) {
  for (int i = 0; i < n; ++i) p[i] = v[i];
}

}  // namespace
}  // namespace weft::WEFT_ISA

// x86-64-v3: 8 lanes, 16 registers, FMA. Included by simd.h only.
#pragma once

namespace weft::WEFT_ISA {
namespace {

WEFT_INLINE Vec broadcast(float x) { return _mm256_set1_ps(x); }
WEFT_INLINE Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
WEFT_INLINE Vec min(Vec a, Vec b) { return _mm256_min_ps(a, b); }
WEFT_INLINE Vec max(Vec a, Vec b) { return _mm256_max_ps(a, b); }
WEFT_INLINE Vec nearest(Vec x) { return nearest_by_shift(x); }
WEFT_INLINE Vec times_power_of_2(Vec x, Vec n) { return x * power_of_2(n); }

WEFT_INLINE Wides multiply_even(Ints x, std::uint32_t y) {
  return reinterpret_cast<Wides>(
      _mm256_mul_epu32(reinterpret_cast<__m256i>(x), _mm256_set1_epi64x(y)));
}

WEFT_INLINE __m256i first_lanes(int n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
WEFT_INLINE Vec load_partial(const float* p, int n) {
  return _mm256_maskload_ps(p, first_lanes(n));
}
WEFT_INLINE void store_partial(float* p, Vec v, int n) {
  _mm256_maskstore_ps(p, first_lanes(n), v);
}

}  // namespace
}  // namespace weft::WEFT_ISA

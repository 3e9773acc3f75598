// x86-64-v3: 8 lanes, 16 registers, FMA. Included by simd.h only.
#pragma once

namespace treadle::TREADLE_ISA {
namespace {

TREADLE_INLINE Vec broadcast(float x) { return _mm256_set1_ps(x); }
TREADLE_INLINE Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
TREADLE_INLINE Vec min(Vec a, Vec b) { return _mm256_min_ps(a, b); }
TREADLE_INLINE Vec max(Vec a, Vec b) { return _mm256_max_ps(a, b); }
TREADLE_INLINE Vec nearest(Vec x) { return nearest_by_shift(x); }
TREADLE_INLINE Vec times_power_of_2(Vec x, Vec n) { return x * power_of_2(n); }

TREADLE_INLINE Wides multiply_even(Ints x, std::uint32_t y) {
  return reinterpret_cast<Wides>(
      _mm256_mul_epu32(reinterpret_cast<__m256i>(x), _mm256_set1_epi64x(y)));
}

TREADLE_INLINE __m256i first_lanes(int n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
TREADLE_INLINE Vec load_partial(const float* p, int n) {
  return _mm256_maskload_ps(p, first_lanes(n));
}
TREADLE_INLINE void store_partial(float* p, Vec v, int n) {
  _mm256_maskstore_ps(p, first_lanes(n), v);
}

}  // namespace
}  // namespace treadle::TREADLE_ISA

// x86-64-v4: 16 lanes, 32 registers, masked loads and stores. Included by simd.h only.
#pragma once

namespace treadle::TREADLE_ISA {
namespace {

TREADLE_INLINE Vec broadcast(float x) { return _mm512_set1_ps(x); }
TREADLE_INLINE Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
TREADLE_INLINE Vec min(Vec a, Vec b) { return _mm512_min_ps(a, b); }
TREADLE_INLINE Vec max(Vec a, Vec b) { return _mm512_max_ps(a, b); }
TREADLE_INLINE Vec nearest(Vec x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT); }
TREADLE_INLINE Vec times_power_of_2(Vec x, Vec n) { return _mm512_scalef_ps(x, n); }

TREADLE_INLINE Wides multiply_even(Ints x, std::uint32_t y) {
  return reinterpret_cast<Wides>(
      _mm512_mul_epu32(reinterpret_cast<__m512i>(x), _mm512_set1_epi64(y)));
}

TREADLE_INLINE Vec load_partial(const float* p, int n) {
  return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1), p);
}
TREADLE_INLINE void store_partial(float* p, Vec v, int n) {
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1), v);
}

}  // namespace
}  // namespace treadle::TREADLE_ISA

// Dot products of numbers that are smaller than a lane: two bfloat16 or four int8 in 32 bits.
//
//   dot_pairs(sum, x, w)    gives sum + x0 w0 + x1 w1 of bfloat16, in float32; the order and
//                           roundings are the CPU's where it has the instruction, which takes
//                           denormals for zero
//   dot_quads(sum, x, w)    gives sum + x0 w0 + x1 w1 + x2 w2 + x3 w3, w signed; exact. x is
//                           unsigned, or signed and kQuadOffset less
//   dot_quads_lane<L>       gives the same with lane L of x in every lane, where kQuadsByLane is
//                           true; with kFloatsByLane, fma reads a lane as well
//   matrix_quads(sum, x, w) adds the dot products of the halves of x and w, each of eight int8:
//                           x0 w0, x0 w1, x1 w0, x1 w1; exact; where kQuadMatrices is true
//   halves(v)               rounds floats to bfloat16, to the nearest, even in the middle, NaN to
//                           NaN, each in the low half of its lane
//   pairs(low, high)        makes one vector of bfloat16 of two of floats, in their order
//   store_pairs(p, v, n)    stores up to n floats as bfloat16 and fills up the last word with 0
//   store_quads(p, v, n)    stores up to n floats, integers -128 to 255, as bytes; likewise
//   widen(p)                reads kLanes floats, bfloat16 (of 16 bits) or int8 at p, as floats
//   widen_up_to(p, n)       reads up to n, with zeros above, and never past p + n
//
// The CPU's instruction, where there is one, takes denormals for zero here, too.
#pragma once

#include "simd/simd.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif
#if defined(TREADLE_ISA_neon)
#include "simd/neon_dot.h"
#endif

namespace treadle::TREADLE_ISA {
namespace {

typedef std::int32_t Signed __attribute__((vector_size(kLanes * sizeof(float))));

#if defined(TREADLE_ISA_avx512_bf16)

TREADLE_INLINE Vec dot_pairs(Vec sum, Ints x, Ints w) {
  return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(x), reinterpret_cast<__m512bh>(w));
}
TREADLE_INLINE Ints dot_quads(Ints sum, Ints x, Ints w) {
  return reinterpret_cast<Ints>(_mm512_dpbusd_epi32(
      reinterpret_cast<__m512i>(sum), reinterpret_cast<__m512i>(x), reinterpret_cast<__m512i>(w)));
}

#elif !defined(TREADLE_ISA_neon_bf16)

TREADLE_INLINE Vec dot_pairs(Vec sum, Ints x, Ints w) {
  const Ints high = Ints{} + 0xffff0000u;
  sum = fma(as_floats(x << 16), as_floats(w << 16), sum);
  return fma(as_floats(x & high), as_floats(w & high), sum);
}

#endif

#if !defined(TREADLE_ISA_neon)

constexpr bool kFloatsByLane = false, kQuadsByLane = false, kQuadMatrices = false;
constexpr int kQuadOffset = 0;

#if !defined(TREADLE_ISA_avx512_bf16)

// Bytes 0 and 2, and 1 and 3, become 16 bits each for two multiply-adds of pairs.
TREADLE_INLINE Ints dot_quads(Ints sum, Ints x, Ints w) {
  typedef std::int16_t Shorts __attribute__((vector_size(kLanes * sizeof(float))));
  const Ints low = Ints{} + 0x00ff00ffu;
  const auto shorts = [](Ints v) { return reinterpret_cast<Shorts>(v); };
  const auto sums = [](Shorts a, Shorts b) {
#if defined(TREADLE_ISA_avx512)
    return reinterpret_cast<Ints>(
        _mm512_madd_epi16(reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
#elif defined(TREADLE_ISA_avx2)
    return reinterpret_cast<Ints>(
        _mm256_madd_epi16(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
#elif defined(__SSE2__)
    return reinterpret_cast<Ints>(
        _mm_madd_epi16(reinterpret_cast<__m128i>(a), reinterpret_cast<__m128i>(b)));
#else
    const auto lower = [](Shorts v) { return (reinterpret_cast<Signed>(v) << 16) >> 16; };
    const auto upper = [](Shorts v) { return reinterpret_cast<Signed>(v) >> 16; };
    return reinterpret_cast<Ints>(lower(a) * lower(b) + upper(a) * upper(b));
#endif
  };
  const Shorts even = shorts(w << 8) >> 8, odd = shorts(w) >> 8;
  return sum + sums(shorts(x & low), even) + sums(shorts((x >> 8) & low), odd);
}

#endif
#endif

typedef std::uint16_t Halves __attribute__((vector_size(kLanes * 2)));

#if defined(TREADLE_ISA_avx512_bf16)
TREADLE_INLINE Halves to_bfloat16(Vec v) { return reinterpret_cast<Halves>(_mm512_cvtneps_pbh(v)); }
TREADLE_INLINE Ints halves(Vec v) { return __builtin_convertvector(to_bfloat16(v), Ints); }
TREADLE_INLINE Vec pairs(Vec low, Vec high) {
  return reinterpret_cast<Vec>(_mm512_cvtne2ps_pbh(high, low));
}
#elif defined(TREADLE_ISA_neon_bf16)
TREADLE_INLINE Halves to_bfloat16(Vec v) { return reinterpret_cast<Halves>(vcvt_bf16_f32(v)); }
TREADLE_INLINE Ints halves(Vec v) { return __builtin_convertvector(to_bfloat16(v), Ints); }
TREADLE_INLINE Vec pairs(Vec low, Vec high) {
  return reinterpret_cast<Vec>(vcvtq_high_bf16_f32(vcvtq_low_bf16_f32(low), high));
}
#else
TREADLE_INLINE Ints halves(Vec v) {
  const Ints bits = as_ints(v);
  const Ints even = bits + 0x7fffu + ((bits >> 16) & 1u);
  return ((v == v) ? even : (bits | 0x00400000u)) >> 16;
}
TREADLE_INLINE Halves to_bfloat16(Vec v) { return __builtin_convertvector(halves(v), Halves); }
TREADLE_INLINE Vec pairs(Vec low, Vec high) {
  const Halves both[2] = {to_bfloat16(low), to_bfloat16(high)};
  Vec words;
  std::memcpy(&words, both, sizeof(words));
  return words;
}
#endif

TREADLE_INLINE void store_pairs(Word* p, Vec v, std::int64_t n) {
  const Halves words = to_bfloat16(v);
  const std::int64_t count = n < kLanes ? (n + 1) / 2 : kLanes / 2;
  std::memcpy(p, &words, static_cast<std::size_t>(count) * sizeof(Word));
}

TREADLE_INLINE void store_quads(Word* p, Vec v, std::int64_t n) {
  typedef std::uint8_t Bytes __attribute__((vector_size(kLanes)));
  const Signed whole = __builtin_convertvector(v, Signed);
  const Bytes bytes = __builtin_convertvector(whole, Bytes);
  const std::int64_t count = n < kLanes ? (n + 3) / 4 : kLanes / 4;
  std::memcpy(p, &bytes, static_cast<std::size_t>(count) * sizeof(Word));
}

TREADLE_INLINE Vec widen(const float* p) { return load(p); }
TREADLE_INLINE Vec widen(const std::uint16_t* p) {
  Halves bits;
  std::memcpy(&bits, p, sizeof(bits));
  return as_floats(__builtin_convertvector(bits, Ints) << 16);
}
TREADLE_INLINE Vec widen(const std::int8_t* p) {
#if defined(TREADLE_ISA_avx512)
  const __m512i wide = _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return reinterpret_cast<Vec>(_mm512_cvtepi32_ps(wide));
#elif defined(TREADLE_ISA_avx2)
  const __m256i wide = _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  return reinterpret_cast<Vec>(_mm256_cvtepi32_ps(wide));
#elif defined(TREADLE_ISA_neon)
  std::uint32_t bits;
  std::memcpy(&bits, p, sizeof(bits));
  const int16x8_t wide = vmovl_s8(vreinterpret_s8_u32(vdup_n_u32(bits)));
  return vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide)));
#else
  // Each byte goes to the top of its lane and comes back with its sign.
  std::uint32_t bits;
  std::memcpy(&bits, p, sizeof(bits));
  const Ints shifts = {24, 16, 8, 0};
  return __builtin_convertvector(reinterpret_cast<Signed>((Ints{} + bits) << shifts) >> 24, Vec);
#endif
}
template <class T>
TREADLE_INLINE Vec widen_up_to(const T* p, std::int64_t n) {
  if (n >= kLanes) return widen(p);
  T some[kLanes] = {};
  for (std::int64_t i = 0; i < n; ++i) some[i] = p[i];
  return widen(some);
}
TREADLE_INLINE Vec widen_up_to(const float* p, std::int64_t n) { return load_up_to(p, n); }

}  // namespace
}  // namespace treadle::TREADLE_ISA

// Dot products of numbers that are narrower than a lane: two bfloat16 or four int8 in 32 bits.
//
//   dot_pairs(sum, x, w)    sum + x0 w0 + x1 w1 of bfloat16, in float32; the order and the roundings are
//                           the CPU's where it has the instruction, which takes denormals for zero
//   dot_quads(sum, x, w)    sum + x0 w0 + x1 w1 + x2 w2 + x3 w3, x unsigned and w signed: exact
//   store_pairs(p, v, n)    up to n floats as bfloat16, to the nearest, even in the middle; NaN stays;
//                           the last word is filled up with zero
//   store_quads(p, v, n)    up to n floats, integers 0 to 255, as bytes; likewise
#pragma once

#include "simd/simd.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace weft::WEFT_ISA {
namespace {

typedef std::int32_t Signed __attribute__((vector_size(kLanes * sizeof(float))));

#if defined(WEFT_ISA_avx512_bf16)

WEFT_INLINE Vec dot_pairs(Vec sum, Ints x, Ints w) {
  return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(x), reinterpret_cast<__m512bh>(w));
}
WEFT_INLINE Ints dot_quads(Ints sum, Ints x, Ints w) {
  return reinterpret_cast<Ints>(_mm512_dpbusd_epi32(
      reinterpret_cast<__m512i>(sum), reinterpret_cast<__m512i>(x), reinterpret_cast<__m512i>(w)));
}

#else

WEFT_INLINE Vec dot_pairs(Vec sum, Ints x, Ints w) {
  const Ints high = Ints{} + 0xffff0000u;
  sum = fma(as_floats(x << 16), as_floats(w << 16), sum);
  return fma(as_floats(x & high), as_floats(w & high), sum);
}

// Bytes 0 and 2, and 1 and 3, as 16 bits each: two multiply-adds of pairs.
WEFT_INLINE Ints dot_quads(Ints sum, Ints x, Ints w) {
  typedef std::int16_t Halves __attribute__((vector_size(kLanes * sizeof(float))));
  const Ints low = Ints{} + 0x00ff00ffu;
  const auto halves = [](Ints v) { return reinterpret_cast<Halves>(v); };
  const auto pairs = [](Halves a, Halves b) {
#if defined(WEFT_ISA_avx512)
    return reinterpret_cast<Ints>(
        _mm512_madd_epi16(reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
#elif defined(WEFT_ISA_avx2)
    return reinterpret_cast<Ints>(
        _mm256_madd_epi16(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
#elif defined(__SSE2__)
    return reinterpret_cast<Ints>(
        _mm_madd_epi16(reinterpret_cast<__m128i>(a), reinterpret_cast<__m128i>(b)));
#else
    const auto lower = [](Halves v) { return (reinterpret_cast<Signed>(v) << 16) >> 16; };
    const auto upper = [](Halves v) { return reinterpret_cast<Signed>(v) >> 16; };
    return reinterpret_cast<Ints>(lower(a) * lower(b) + upper(a) * upper(b));
#endif
  };
  const Halves even = halves(w << 8) >> 8, odd = halves(w) >> 8;
  return sum + pairs(halves(x & low), even) + pairs(halves((x >> 8) & low), odd);
}

#endif

// The upper halves of floats after rounding, each in the low half of a lane.
WEFT_INLINE Ints rounded_halves(Vec v) {
  const Ints bits = as_ints(v);
  const Ints even = bits + 0x7fffu + ((bits >> 16) & 1u);
  return ((v == v) ? even : (bits | 0x00400000u)) >> 16;
}

WEFT_INLINE void store_pairs(Word* p, Vec v, std::int64_t n) {
  typedef std::uint16_t Narrow __attribute__((vector_size(kLanes * 2)));
  const Narrow narrow = __builtin_convertvector(rounded_halves(v), Narrow);
  const std::int64_t count = n < kLanes ? (n + 1) / 2 : kLanes / 2;
  std::memcpy(p, &narrow, static_cast<std::size_t>(count) * sizeof(Word));
}

WEFT_INLINE void store_quads(Word* p, Vec v, std::int64_t n) {
  typedef std::uint8_t Narrow __attribute__((vector_size(kLanes)));
  const Signed whole = __builtin_convertvector(v, Signed);
  const Narrow narrow = __builtin_convertvector(whole, Narrow);
  const std::int64_t count = n < kLanes ? (n + 3) / 4 : kLanes / 4;
  std::memcpy(p, &narrow, static_cast<std::size_t>(count) * sizeof(Word));
}

}  // namespace
}  // namespace weft::WEFT_ISA

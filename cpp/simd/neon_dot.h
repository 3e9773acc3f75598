// Dot products of bfloat16 and int8 on 64-bit Arm, as dot.h describes them. Included by dot.h only.
//
// The levels add one extension each: neon_dotprod has SDOT, neon_i8mm SMMLA, neon_bf16 BFMLAL.
#pragma once

namespace treadle::TREADLE_ISA {
namespace {

TREADLE_INLINE int8x16_t as_bytes(Ints v) { return reinterpret_cast<int8x16_t>(v); }
TREADLE_INLINE int32x4_t as_signed(Ints v) { return reinterpret_cast<int32x4_t>(v); }

constexpr bool kFloatsByLane = true;

// SMULL, SDOT and SMMLA multiply signed bytes by signed ones. USDOT would take a row's bytes as
// they are, but came three years after SDOT; it is no faster.
constexpr int kQuadOffset = 128;

#if defined(TREADLE_ISA_neon_dotprod)
constexpr bool kQuadsByLane = true;
TREADLE_INLINE Ints dot_quads(Ints sum, Ints x, Ints w) {
  return reinterpret_cast<Ints>(vdotq_s32(as_signed(sum), as_bytes(w), as_bytes(x)));
}
template <int Lane>
TREADLE_INLINE Ints dot_quads_lane(Ints sum, Ints x, Ints w) {
  return reinterpret_cast<Ints>(vdotq_laneq_s32(as_signed(sum), as_bytes(w), as_bytes(x), Lane));
}
#else
constexpr bool kQuadsByLane = false;
// A product of two bytes fits into 16 bits; the sum of two of them may not.
TREADLE_INLINE Ints dot_quads(Ints sum, Ints x, Ints w) {
  const int8x16_t a = as_bytes(x), b = as_bytes(w);
  const int32x4_t low = vpaddlq_s16(vmull_s8(vget_low_s8(a), vget_low_s8(b)));
  const int32x4_t high = vpaddlq_s16(vmull_high_s8(a, b));
  return sum + reinterpret_cast<Ints>(vpaddq_s32(low, high));
}
#endif

// SMMLA does twice the work of SDOT. The words of two steps are its operand once they are zipped:
// for the outputs 0 and 1, then for 2 and 3. A single row gains nothing from it.
#if defined(TREADLE_ISA_neon_i8mm)
constexpr bool kQuadMatrices = true;
TREADLE_INLINE Ints matrix_quads(Ints sum, Vec x, Vec w) {
  return reinterpret_cast<Ints>(
      vmmlaq_s32(as_signed(sum), as_bytes(as_ints(x)), as_bytes(as_ints(w))));
}
#else
constexpr bool kQuadMatrices = false;
#endif

// BFDOT and BFMMLA would do two and four times the work, but round every sum to odd: an error of up
// to a unit in the last place, where rounding to nearest has half of one. K = 3 terms and a bias
// then pass more than the K + 1 roundings of half a unit by which a product is bounded
// (docs/internals/numerics.md; tests/cpp/test_linear.cpp has such numbers). BFMLALB and BFMLALT
// multiply exactly and round each sum to nearest, and so have the bits of the level neon. Their
// forms with a lane have 16 registers for it, and GCC 12 takes others (the assembler refuses them).
#if defined(TREADLE_ISA_neon_bf16)
TREADLE_INLINE Vec dot_pairs(Vec sum, Ints x, Ints w) {
  const auto a = reinterpret_cast<bfloat16x8_t>(w), b = reinterpret_cast<bfloat16x8_t>(x);
  return vbfmlaltq_f32(vbfmlalbq_f32(sum, a, b), a, b);
}
#endif

}  // namespace
}  // namespace treadle::TREADLE_ISA

// 64-bit Arm: 4 lanes, 32 registers, FMA. Included by simd.h only.
#pragma once

namespace treadle::TREADLE_ISA {
namespace {

TREADLE_INLINE Vec broadcast(float x) { return vdupq_n_f32(x); }
TREADLE_INLINE Vec fma(Vec a, Vec b, Vec c) { return vfmaq_f32(c, a, b); }
// FMIN and FMAX return a NaN wherever it stands, so these compare and select.
TREADLE_INLINE Vec min(Vec a, Vec b) { return a < b ? a : b; }
TREADLE_INLINE Vec max(Vec a, Vec b) { return a > b ? a : b; }
TREADLE_INLINE Vec nearest(Vec x) { return vrndnq_f32(x); }
TREADLE_INLINE Vec times_power_of_2(Vec x, Vec n) { return x * power_of_2(n); }

TREADLE_INLINE Wides multiply_even(Ints x, std::uint32_t y) {
  return reinterpret_cast<Wides>(
      vmull_u32(vmovn_u64(reinterpret_cast<uint64x2_t>(x)), vdup_n_u32(y)));
}

TREADLE_INLINE Vec load_partial(const float* p, int n) {
  if (n >= kLanes) return load(p);
  float32x2_t low = vdup_n_f32(0), high = low;
  if (n >= 2) low = vld1_f32(p);
  if (n == 3) high = vld1_lane_f32(p + 2, high, 0);
  if (n == 1) low = vld1_lane_f32(p, low, 0);
  return vcombine_f32(low, high);
}
TREADLE_INLINE void store_partial(float* p, Vec v, int n) {
  if (n >= kLanes) return store(p, v);
  if (n >= 2) vst1_f32(p, vget_low_f32(v));
  if (n == 3) vst1q_lane_f32(p + 2, v, 2);
  if (n == 1) vst1q_lane_f32(p, v, 0);
}

}  // namespace
}  // namespace treadle::TREADLE_ISA

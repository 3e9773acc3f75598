// Both attention kernels treat the scores of a query by this: scale, cap, ALiBi, mask, softmax.
//
// A row of scores lies in a small buffer that stays in L1. It becomes the probabilities of the
// softmax, up to a factor: 2^(score - maximum), the maximum so far; what was summed before for a
// lower maximum is multiplied by what `online_softmax` returns (Milakov and Gimelshein,
// arXiv:1805.02867). The difference comes before the scale, which would take the largest scores to
// infinity; it makes the probability of the maximum exactly 1.
#pragma once

#include "kernels/table.h"
#include "simd/math.h"

namespace treadle::TREADLE_ISA {
namespace {

constexpr float kLowest = -__builtin_inff();

// Returns bytes [0, n) of a bool mask as lanes: all ones if a key is hidden or lies beyond n.
TREADLE_INLINE Ints hidden(const unsigned char* mask, std::int64_t n) {
  typedef unsigned char Bytes __attribute__((vector_size(kLanes)));
  Bytes bytes{};
  std::memcpy(&bytes, mask, static_cast<std::size_t>(n < kLanes ? n : kLanes));
  return __builtin_convertvector(bytes, Ints) == 0;
}

bool is_finite(const FiniteArgs& a) {
  constexpr int kUnroll = 4;
  Vec zero[kUnroll] = {};  // zero times NaN or infinity is NaN, and stays so
  for (std::int64_t row = 0; row < a.rows; ++row) {
    const float* x = a.x + row * a.stride;
    std::int64_t i = 0;
    for (; i + kUnroll * kLanes <= a.size; i += kUnroll * kLanes) {
#pragma GCC unroll 4
      for (int n = 0; n < kUnroll; ++n) zero[n] = fma(load(x + i + n * kLanes), Vec{}, zero[n]);
    }
    for (; i < a.size; i += kLanes) zero[0] = fma(load_up_to(x + i, a.size - i), Vec{}, zero[0]);
  }
  return sum_lanes((zero[0] + zero[1]) + (zero[2] + zero[3])) == 0;
}

// Tells whether scores are more than scale q k, so that `modify_scores` has to see them.
TREADLE_INLINE bool modifies_scores(const AttentionArgs& a) {
  // The softmax takes the maximum before it multiplies by the scale, which must not turn the order.
  return a.softcap != 0 || a.slope || a.mask || !(a.scale > 0);
}

// The scores s[begin, end) of keys first + begin ..., whole vectors, after everything but the
// softmax. Not inlined: most attention has nothing to change.
__attribute__((noinline)) void modify_scores(const AttentionArgs& a, std::int64_t row, float* s,
                                             std::int64_t first, std::int64_t begin,
                                             std::int64_t end) {
  for (std::int64_t i = begin; i < end; i += kLanes) {
    const std::int64_t key = first + i;
    Vec x = load(s + i) * broadcast(a.scale);
    if (a.softcap != 0) x = broadcast(a.softcap) * tanh(x / broadcast(a.softcap));
    if (a.slope) {
      // Differences of positions are exact in float32 up to 2^24.
      const Vec offset = broadcast(static_cast<float>(key - a.position[row]));
      x = fma(broadcast(-a.slope[row]), abs(offset + __builtin_convertvector(lane_numbers(), Vec)),
              x);
    }
    if (a.mask && a.mask_adds) {
      const Vec added = load_up_to(static_cast<const float*>(a.mask[row]) + key, a.keys - key);
      // The score of a hidden key may be NaN.
      x = added == broadcast(kLowest) ? added : x + added;
    } else if (a.mask) {
      const auto* mask = static_cast<const unsigned char*>(a.mask[row]) + key;
      x = hidden(mask, a.keys - key) ? broadcast(a.hidden_score) : x;
    }
    store(s + i, x);
  }
}

// Returns the factor that turns a score into an exponent of 2.
TREADLE_INLINE float exponent_scale(const AttentionArgs& a, bool changed) {
  return changed ? kLog2e : a.scale * kLog2e;
}

// log(sum of e^score) of a row, of its (scaled) maximum and its sum relative to that: 0, or at
// least 1.
TREADLE_INLINE float log_sum(float maximum, float total) {
  if (total == 0.0f) return kLowest;
  return maximum + log(broadcast(total))[0];
}

// Hides s[begin, end), whole vectors, outside of [low, high).
TREADLE_INLINE void mask_range(float* s, std::int64_t begin, std::int64_t end, std::int64_t low,
                               std::int64_t high) {
  const auto outside = [&](std::int64_t i) {
    const Ints at = lane_numbers() + static_cast<std::uint32_t>(i);
    const auto hides =
        (at < static_cast<std::uint32_t>(low)) | (at >= static_cast<std::uint32_t>(high));
    store(s + i, hides ? broadcast(kLowest) : load(s + i));
  };
  for (std::int64_t i = begin; i < end && i < low; i += kLanes) outside(i);
  std::int64_t i = high - high % kLanes;
  for (i = i < begin ? begin : i; i < end; i += kLanes) outside(i);
}

// s[r][begin, end), whole vectors, becomes 2^(scale s - maximum[r]); their sums are added to
// total[r], one per lane. Raises the maxima (scaled) and gives the factors for earlier sums, which
// the totals have got already. The rows go side by side: their latencies overlap, and no branch
// asks whether a maximum has risen.
template <int R, std::int64_t Stride>
__attribute__((noinline)) void online_softmax(float (*s)[Stride], std::int64_t begin,
                                              std::int64_t end, float scale, float* maximum,
                                              float* total, float* factor) {
  Vec most[R];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) most[r] = broadcast(kLowest);
  for (std::int64_t i = begin; i < end; i += kLanes) {
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) most[r] = max(most[r], load(s[r] + i));
  }
  float from[R], fall[kLanes * ((R + kLanes - 1) / kLanes)] = {};
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    const float found = max_lanes(most[r]), before = maximum[r];
    maximum[r] = found <= before ? before : found;  // NaN counts as a rise
    // If all scores so far are -infinity, their difference would be NaN.
    from[r] = maximum[r] == kLowest ? 0.0f : maximum[r];
    fall[r] = (before - from[r]) * scale;
  }
#pragma GCC unroll 2
  for (int r = 0; r < R; r += kLanes) store(fall + r, exp2_falling(load(fall + r)));
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) factor[r] = fall[r];
  for (int r = 0; r < R; ++r) {
    Vec sum{};
    for (std::int64_t i = begin; i < end; i += kLanes) {
      const Vec p = exp2_falling((load(s[r] + i) - broadcast(from[r])) * broadcast(scale));
      sum = sum + p;
      store(s[r] + i, p);
    }
    float* to = total + r * kLanes;
    store(to, fma(load(to), broadcast(factor[r]), sum));
  }
}

}  // namespace
}  // namespace treadle::TREADLE_ISA

// This defines vectors. Compiled once per ISA level, inside namespace treadle::<isa> and an unnamed
// namespace: nothing here may be shared between object files built with different -m flags.
//
// Vec and Ints are GCC/Clang vector extensions, so + - * / < & << and ?: work lane by lane on every
// ISA. What the extension lacks comes from one small backend header per ISA:
//
//   fma(a, b, c)            a * b + c; one rounding where the hardware has it (portable x86: two)
//   min(a, b), max(a, b)    b where either is NaN, as x86 does: put what may be NaN second
//   broadcast(x)            x in every lane
//   nearest(x)              the nearest integer, even in the middle; |x| < 2^22
//   times_power_of_2(x, n)  x * 2^n for integers n from -127 (which may give 0) to 127
//   multiply_even(x, y)     64-bit products of lanes 0, 2, 4, ... of Ints x and a number y
//   load_partial(p, n)      0 <= n <= kLanes floats, zeros above; never touches memory past p + n
//   store_partial(p, v, n)  the counterpart
//
// load and store take any float-aligned address.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(TREADLE_ISA_avx512) || defined(TREADLE_ISA_avx2)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

// Small functions on registers must vanish into their callers at every optimisation level.
#define TREADLE_INLINE inline __attribute__((always_inline))

namespace treadle::TREADLE_ISA {
namespace {

#if defined(TREADLE_ISA_avx512)
constexpr int kLanes = 16;
#elif defined(TREADLE_ISA_avx2)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

// It is true on the level that few CPUs run, x86-64 without AVX2, whose code is to be small:
// kernels leave out what makes some shapes faster. The bits are the same.
#if defined(TREADLE_ISA_portable) && !defined(__aarch64__)
constexpr bool kFallback = true;
#else
constexpr bool kFallback = false;
#endif

typedef float Vec __attribute__((vector_size(kLanes * sizeof(float))));
typedef std::uint32_t Ints __attribute__((vector_size(kLanes * sizeof(float))));
typedef std::uint64_t Wides __attribute__((vector_size(kLanes * sizeof(float))));
typedef float LooseVec
    __attribute__((vector_size(kLanes * sizeof(float)), aligned(alignof(float)), may_alias));

TREADLE_INLINE Vec load(const float* p) { return *reinterpret_cast<const LooseVec*>(p); }
TREADLE_INLINE void store(float* p, Vec v) { *reinterpret_cast<LooseVec*>(p) = v; }

TREADLE_INLINE Ints as_ints(Vec v) { return reinterpret_cast<Ints>(v); }
TREADLE_INLINE Vec as_floats(Ints v) { return reinterpret_cast<Vec>(v); }

// For the backends without an instruction of their own. 1.5 * 2^23: adding it leaves the nearest
// integer in the low bits of the sum.
constexpr float kShifter = 0x1.8p23f;
TREADLE_INLINE Vec nearest_by_shift(Vec x) { return (x + kShifter) - kShifter; }
// At n = -127 all bits vanish.
TREADLE_INLINE Vec power_of_2(Vec n) {
  return as_floats((as_ints(n + kShifter) << 23) + (127u << 23));
}

}  // namespace
}  // namespace treadle::TREADLE_ISA

#if defined(TREADLE_ISA_avx512)
#include "simd/avx512.h"
#elif defined(TREADLE_ISA_avx2)
#include "simd/avx2.h"
#elif defined(TREADLE_ISA_neon)
#include "simd/neon.h"
#else
#include "simd/portable.h"
#endif

namespace treadle::TREADLE_ISA {
namespace {

// n may exceed the vector: the tail of a row and its body are the same call.
TREADLE_INLINE Vec load_up_to(const float* p, std::int64_t n) {
  return n >= kLanes ? load(p) : load_partial(p, static_cast<int>(n));
}
TREADLE_INLINE void store_up_to(float* p, Vec v, std::int64_t n) {
  if (n >= kLanes) {
    store(p, v);
  } else {
    store_partial(p, v, static_cast<int>(n));
  }
}

// 0, 1, 2, ...
TREADLE_INLINE Ints lane_numbers() {
  Ints numbers;
  for (int i = 0; i < kLanes; ++i) numbers[i] = static_cast<std::uint32_t>(i);
  return numbers;
}

// Vectors whose lanes come from two others, by compile-time rules.
template <int... I>
struct Lanes {
  // a0 b0 a1 b1 ...: of the lower or the upper halves of a and b.
  template <int From>
  static TREADLE_INLINE Vec interleave(Vec a, Vec b) {
    return __builtin_shufflevector(a, b, (I / 2 + From + I % 2 * kLanes)...);
  }
  // The same in each block of four lanes by itself: of the first or, From = 2, the last two lanes.
  template <int From>
  static TREADLE_INLINE Vec unpack(Vec a, Vec b) {
    return __builtin_shufflevector(a, b, (I / 4 * 4 + From + I % 4 / 2 + I % 2 * kLanes)...);
  }
  // Every second block of four lanes, from block First on: those of a, then those of b.
  template <int First>
  static TREADLE_INLINE Vec blocks(Vec a, Vec b) {
    constexpr int kHalf = kLanes / 2;
    return __builtin_shufflevector(
        a, b, (I / kHalf * kLanes + (I % kHalf / 4 * 2 + First) * 4 + I % 4)...);
  }
  // Lane i of a and lane i + Shift, round the corner, side by side.
  template <int Shift>
  static TREADLE_INLINE Vec rotate(Vec a) {
    return __builtin_shufflevector(a, a, ((I + Shift) % kLanes)...);
  }
};
template <int N, int... I>
struct FirstLanes : FirstLanes<N - 1, N - 1, I...> {};
template <int... I>
struct FirstLanes<0, I...> : Lanes<I...> {};
using AllLanes = FirstLanes<kLanes>;

// Lane i is the sum of the lanes i, i + N, i + 2 N, ... of v; halves first: one order for each
// width.
template <int N, int Shift = kLanes / 2>
TREADLE_INLINE Vec sum_every(Vec v) {
  if constexpr (Shift < N) {
    return v;
  } else {
    return sum_every<N, Shift / 2>(v + AllLanes::rotate<Shift>(v));
  }
}
// The sum of all lanes; and N of them at once, added in the same order: lane i is that of v[i].
TREADLE_INLINE float sum_lanes(Vec v) { return sum_every<1>(v)[0]; }
template <int N>
TREADLE_INLINE Vec fold_lanes(const Vec (&v)[N]) {
  if constexpr (N == 1) {
    return v[0];
  } else {
    Vec half[N / 2];
#pragma GCC unroll 8
    for (int i = 0; i < N / 2; ++i) {
      half[i] = AllLanes::interleave<0>(v[i], v[i + N / 2]) +
                AllLanes::interleave<kLanes / 2>(v[i], v[i + N / 2]);
    }
    return fold_lanes(half);
  }
}
template <int N>
TREADLE_INLINE Vec sum_lanes(const Vec (&v)[N]) {
  return sum_every<N>(fold_lanes(v));
}

// The largest lane.
template <int Shift = kLanes / 2>
TREADLE_INLINE float max_lanes(Vec v) {
  if constexpr (Shift == 0) {
    return v[0];
  } else {
    return max_lanes<Shift / 2>(max(v, AllLanes::rotate<Shift>(v)));
  }
}

// rows[i][j] becomes rows[j][i]: first blocks of four lanes change places, then the lanes of each
// four vectors, in their blocks.
TREADLE_INLINE void transpose(Vec (&rows)[kLanes]) {
  constexpr int kBlocks = kLanes / 4;
  Vec blocks[kBlocks][4];  // [c][i]: the blocks c of the rows i, i + 4, i + 8, ...
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    if constexpr (kBlocks == 1) {
      blocks[0][i] = rows[i];
    } else if constexpr (kBlocks == 2) {
      blocks[0][i] = AllLanes::blocks<0>(rows[i], rows[i + 4]);
      blocks[1][i] = AllLanes::blocks<1>(rows[i], rows[i + 4]);
    } else {
      const Vec even = AllLanes::blocks<0>(rows[i], rows[i + 4]),
                odd = AllLanes::blocks<1>(rows[i], rows[i + 4]),
                even_below = AllLanes::blocks<0>(rows[i + 8], rows[i + 12]),
                odd_below = AllLanes::blocks<1>(rows[i + 8], rows[i + 12]);
      blocks[0][i] = AllLanes::blocks<0>(even, even_below);
      blocks[1][i] = AllLanes::blocks<0>(odd, odd_below);
      blocks[2][i] = AllLanes::blocks<1>(even, even_below);
      blocks[3][i] = AllLanes::blocks<1>(odd, odd_below);
    }
  }
#pragma GCC unroll 4
  for (int c = 0; c < kBlocks; ++c) {
    const Vec low = AllLanes::unpack<0>(blocks[c][0], blocks[c][2]),
              high = AllLanes::unpack<2>(blocks[c][0], blocks[c][2]),
              low_next = AllLanes::unpack<0>(blocks[c][1], blocks[c][3]),
              high_next = AllLanes::unpack<2>(blocks[c][1], blocks[c][3]);
    rows[4 * c] = AllLanes::unpack<0>(low, low_next);
    rows[4 * c + 1] = AllLanes::unpack<2>(low, low_next);
    rows[4 * c + 2] = AllLanes::unpack<0>(high, high_next);
    rows[4 * c + 3] = AllLanes::unpack<2>(high, high_next);
  }
}

TREADLE_INLINE Vec abs(Vec x) { return as_floats(as_ints(x) & ~as_ints(broadcast(-0.0f))); }
TREADLE_INLINE Vec copysign(Vec magnitude, Vec sign) {
  const Ints mask = as_ints(broadcast(-0.0f));
  return as_floats((as_ints(magnitude) & ~mask) | (as_ints(sign) & mask));
}

}  // namespace
}  // namespace treadle::TREADLE_ISA

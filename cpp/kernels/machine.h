// These loops measure the machine's limits, the denominators of every "percent of limit".
#pragma once

#include "kernels/format.h"
#include "kernels/table.h"
#include "simd/simd.h"

namespace treadle::TREADLE_ISA {
namespace {

// Independent sums, enough to hide the latency of a multiply-add on every CPU so far: 6 cycles with
// 2 a cycle on x86-64, 4 with 4 on Arm.
#if defined(TREADLE_ISA_neon)
constexpr int kChains = 16;
#else
constexpr int kChains = 12;
#endif

// Operations of a round: a multiplication and an addition for each number of each lane; a matrix
// takes each for two rows.
template <class Format>
constexpr int kRoundFlops =
    2 * kChains * kLanes * (32 / Format::kBits) * (Format::kMatrices ? 2 : 1);

template <class Format>
TREADLE_INLINE typename Format::Sum multiply_add(typename Format::Sum sum, Word x, Vec w) {
  if constexpr (Format::kMatrices) {
    return Format::matrix(sum, broadcast(x), w);
  } else {
    return Format::step(sum, x, w);
  }
}

// The multiply-adds of a format, as its products do them, on registers. The factors come from L1
// and differ by a bit that the compiler does not know, so that no two sums or products are the
// same.
template <class Format>
float multiply_loop(std::int64_t rounds) {
  constexpr std::int64_t kVectors = 8;
  const std::uint32_t bits = Format::kBits == 8 ? 0x01020304u : 0x3f003f00u;  // 1 ... 4, or 0.5
  Word words[kVectors * kLanes];
  for (std::int64_t i = 0; i < kVectors * kLanes; ++i) {
    const std::uint32_t word = bits ^ static_cast<std::uint32_t>(rounds >> i % 16 & 1);
    std::memcpy(words + i, &word, sizeof word);
  }
  typename Format::Sum sum[kChains]{};
  for (std::int64_t n = 0; n < rounds; ++n) {
    const Vec w = load(words + n % kVectors * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < kChains; ++i) sum[i] = multiply_add<Format>(sum[i], words[i], w);
  }
  typename Format::Sum total{};
#pragma GCC unroll 16
  for (int i = 0; i < kChains; ++i) total = total + sum[i];
  return static_cast<float>(total[0]);
}

float read_loop(const float* p, std::int64_t floats) {
  Vec sum[8] = {};
  for (std::int64_t i = 0; i < floats; i += 8 * kLanes) {
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) {
      sum[j] = as_floats(as_ints(sum[j]) | as_ints(load(p + i + j * kLanes)));
    }
  }
  Vec total{};
#pragma GCC unroll 8
  for (int j = 0; j < 8; ++j) total = as_floats(as_ints(total) | as_ints(sum[j]));
  return total[0];
}

}  // namespace
}  // namespace treadle::TREADLE_ISA

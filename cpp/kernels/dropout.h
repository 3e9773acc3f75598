// Dropout of attention probabilities: which are kept follows from a seed and the probability's
// place alone, so that the backward pass finds the same again and no number is ever stored.
//
// Weight (row, key) takes word key % 64 / 16 of the Philox4x32 block whose counter is
// (key / 64 * 16 + key % 16, row), 64 bits each: whole vectors of counters give 64 keys that lie
// side by side, the same on every ISA. Philox: Salmon et al., "Parallel Random Numbers: As Easy as
// 1, 2, 3", SC11, with its multipliers and Weyl constants; seven rounds are its fewest that pass
// BigCrush.
#pragma once

#include "kernels/table.h"
#include "simd/simd.h"

namespace treadle::TREADLE_ISA {
namespace {

constexpr std::int64_t kDropoutKeys = 64;
constexpr int kPhiloxRounds = 7;

// The 64-bit products of each lane with a number: their upper and lower halves.
TREADLE_INLINE void multiply_wide(Ints x, std::uint32_t by, Ints& high, Ints& low) {
  const Wides even = multiply_even(x, by);
  const Wides odd = multiply_even(reinterpret_cast<Ints>(reinterpret_cast<Wides>(x) >> 32), by);
  constexpr std::uint64_t kLow = 0xffffffff;
  low = reinterpret_cast<Ints>((even & kLow) | (odd << 32));
  high = reinterpret_cast<Ints>((even >> 32) | (odd & ~kLow));
}

// Counters x, one for each lane, become four random words for each.
TREADLE_INLINE void philox(Ints (&x)[4], std::uint64_t seed) {
  std::uint32_t key[] = {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)};
#pragma GCC unroll 8
  for (int round = 0; round < kPhiloxRounds; ++round) {
    Ints high[2], low[2];
    multiply_wide(x[0], 0xD2511F53u, high[0], low[0]);
    multiply_wide(x[2], 0xCD9E8D57u, high[1], low[1]);
    x[0] = high[1] ^ x[1] ^ key[0];
    x[1] = low[1];
    x[2] = high[0] ^ x[3] ^ key[1];
    x[3] = low[0];
    key[0] += 0x9E3779B9u;
    key[1] += 0xBB67AE85u;
  }
}

// w[begin, end), whole vectors of the keys first + begin ..., times 0 or `factor`; `first` is a
// multiple of kDropoutKeys.
__attribute__((noinline)) void drop(const AttentionArgs& a, std::int64_t row, float* w,
                                    std::int64_t first, std::int64_t begin, std::int64_t end) {
  const Dropout& d = *a.dropout;
  const std::uint64_t number = static_cast<std::uint64_t>(a.number[row]);
  const auto all = [](std::uint64_t x) { return Ints{} + static_cast<std::uint32_t>(x); };
  for (std::int64_t at = begin - begin % kDropoutKeys; at < end; at += kDropoutKeys) {
    const std::uint64_t counter = static_cast<std::uint64_t>(first + at) / 4;  // 4 words each
    for (std::int64_t part = 0; part < kDropoutKeys / 4; part += kLanes) {
      Ints x[4] = {all(counter + part) + lane_numbers(), all(counter >> 32), all(number),
                   all(number >> 32)};
      philox(x, d.seed);
#pragma GCC unroll 4
      for (int word = 0; word < 4; ++word) {
        const std::int64_t i = at + word * (kDropoutKeys / 4) + part;
        if (i < begin || i >= end) continue;
        store(w + i, load(w + i) * (x[word] >= d.threshold ? broadcast(d.factor) : Vec{}));
      }
    }
  }
}

}  // namespace
}  // namespace treadle::TREADLE_ISA

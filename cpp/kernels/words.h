// The words of which rows and packed weights are made (table.h describes their formats).
#pragma once

#include <cstdint>

namespace treadle {

// A word is 32 bits of a row or of weights, held as a float32 whatever the bits mean.
using Word = float;
enum class Dtype { float32, bfloat16, int8 };
constexpr int kDtypes = 3;

// The rounding errors of a long sum grow with its partial sums. It is cut into blocks of so many
// terms, each summed by itself, and the blocks are added up: at K = 1024 half of the error, for
// half a percent of the time. The blocks depend on k alone, like everything that decides about
// bits.
constexpr std::int64_t kSumBlock = 256;

constexpr int kMostLanes = 16;  // no ISA has more

// Returns how many numbers a word holds.
constexpr int per_word(Dtype dtype) {
  return dtype == Dtype::float32 ? 1 : dtype == Dtype::bfloat16 ? 2 : 4;
}
constexpr std::int64_t words(Dtype dtype, std::int64_t K) {
  return (K + per_word(dtype) - 1) / per_word(dtype);
}
constexpr std::int64_t sum_blocks(std::int64_t K) { return (K + kSumBlock - 1) / kSumBlock; }
// Returns a row's words, or a panel's steps, for K numbers; int8 has two more in each block.
constexpr std::int64_t row_words(Dtype dtype, std::int64_t K) {
  return words(dtype, K) + (dtype == Dtype::int8 ? 2 * sum_blocks(K) : 0);
}

}  // namespace treadle

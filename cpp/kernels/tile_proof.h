// The proof that the machine's tiles do what the kernels expect of them.
//
// Rows are multiplied by tiles and by the vectors of the CPU, in the order and with the roundings
// of the manual (tile_instructions.h). Both must give the same bits, for 16 rows, for 5 and for
// one, for whole tiles and for a rest, for numbers of every sign and for products that are
// denormal. A level whose tiles give others does not exist.
#pragma once

#include <initializer_list>

#include "kernels/tile_sums.h"

namespace treadle::TREADLE_ISA {
namespace {

constexpr std::int64_t kProofColumns = 4 * kLanes;

// Returns 32 random bits (xorshift; Marsaglia, 2003).
inline std::uint32_t random_bits(std::uint32_t& state) {
  state ^= state << 13;
  state ^= state >> 17;
  return state ^= state << 5;
}

// Returns a word of random numbers: any int8, or bfloat16 from 2^-4 to 2^4 in magnitude; if `tiny`
// from 2^-65 to 2^-61, whose products are at the edge of float32.
template <class Format>
Word random_word(std::uint32_t& state, bool tiny) {
  std::uint32_t bits = random_bits(state);
  if (Format::kDtype == Dtype::bfloat16) {
    const std::uint32_t range = tiny ? 3 : 7, lowest = tiny ? 62 : 123;
    const auto exponent = [&](int shift) {
      return (lowest + (random_bits(state) & range)) << (shift + 7);
    };
    bits = (bits & 0x807f807fu) | exponent(0) | exponent(16);
  }
  Word word;
  std::memcpy(&word, &bits, sizeof word);
  return word;
}

// Returns sum + x w over up to kTileWords words along k, which begin at `x` and `w`.
inline Vec sum_by_vectors(BFloat16, Vec sum, const Word* x, const Word* w, std::int64_t count) {
  const Ints upper = Ints{} + 0xffff0000u;
  Vec first{}, second{};
  for (std::int64_t k = 0; k < count; ++k) {
    const Ints a = as_ints(broadcast(x[k])), b = as_ints(load(w + k * kProofColumns));
    first = fma(as_floats(a << 16), as_floats(b << 16), first);
    second = fma(as_floats(a & upper), as_floats(b & upper), second);
  }
  return sum + (first + second);
}
inline Ints sum_by_vectors(Int8, Ints sum, const Word* x, const Word* w, std::int64_t count) {
  for (std::int64_t k = 0; k < count; ++k) sum = Int8::step(sum, x[k], load(w + k * kProofColumns));
  return sum;
}

// Multiplies a row of K numbers by a vector of the panel.
template <class Format>
Vec multiply_by_vectors(const Word* x, const Word* w, std::int64_t K) {
  Vec total{};
  while (K > 0) {
    const std::int64_t numbers = K < kSumBlock ? K : kSumBlock;
    const std::int64_t count = words(Format::kDtype, numbers);
    typename Format::Sum sum{};
    for (std::int64_t k = 0; k < count; k += kTileWords) {
      const std::int64_t left = count - k < kTileWords ? count - k : kTileWords;
      sum = sum_by_vectors(Format(), sum, x + Format::kHead + k, w + k * kProofColumns, left);
    }
    w += count * kProofColumns;
    Format::add(total, sum, x, w, kProofColumns);
    w += Format::kTail * kProofColumns;
    x += Format::kHead + count;
    K -= numbers;
  }
  return total;
}

template <class Format>
bool proved() {
  constexpr Dtype kDtype = Format::kDtype;
  constexpr std::int64_t K = kSumBlock + 21 * per_word(kDtype), depth = row_words(kDtype, K);
  static Word rows[kTileRows][depth], weights[depth * kProofColumns];
  static float by_tiles[kTileRows * kProofColumns];
  std::uint32_t state = 1;
  for (int r = 0; r < kTileRows; ++r) {
    for (Word& word : rows[r]) word = random_word<Format>(state, r == 1);
  }
  for (std::int64_t i = 0; i < depth * kProofColumns; ++i) {
    weights[i] = random_word<Format>(state, i % kProofColumns == 1);
  }
  // Scales and zeros of int8 are floats; each has a value that its sums depend on.
  std::int64_t head = 0;
  for (std::int64_t k = 0; Format::kHead && k < K; k += kSumBlock) {
    const std::int64_t left = words(kDtype, K - k), most = words(kDtype, kSumBlock);
    const std::int64_t count = left < most ? left : most;
    for (auto& row : rows) {
      row[head] = 0.5f;
      row[head + 1] = 100.0f;
    }
    head += count;
    for (std::int64_t i = 0; i < kProofColumns; ++i) {
      weights[head * kProofColumns + i] = 0.25f;
      weights[(head + 1) * kProofColumns + i] = static_cast<float>(i);
    }
    head += Format::kHead;
  }
  const Word* x[kTileRows];
  for (int r = 0; r < kTileRows; ++r) x[r] = rows[r];
  for (const int count : {kTileRows, 5, 1}) {
    TileBlock<Format, 4> block;
    std::memset(by_tiles, 0, sizeof by_tiles);
    add_operand(block, count, {x, K, weights}, totals_of<4>(by_tiles));
    for (int r = 0; r < count; ++r) {
      for (std::int64_t i = 0; i < kProofColumns; i += kLanes) {
        const Vec expected = multiply_by_vectors<Format>(x[r], weights + i, K);
        if (std::memcmp(&expected, by_tiles + r * kProofColumns + i, sizeof expected) != 0) {
          return false;
        }
      }
    }
  }
  return true;
}

}  // namespace
}  // namespace treadle::TREADLE_ISA

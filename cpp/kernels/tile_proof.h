// The proof that the machine's tiles do what the kernels expect of them.
//
// Rows are multiplied together, by tiles, and one by one, by the vectors of the CPU, which have the
// order and the roundings of the manual (tile_instructions.h). Both must give the same bits, for 16
// rows and for 5, for whole tiles and for a rest, for numbers of every sign and for products that
// are denormal. A level whose tiles give others does not exist.
#pragma once

#include "kernels/tile_products.h"

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

template <class Format>
bool proved(const ProductKernels& kernels) {
  constexpr Dtype kDtype = Format::kDtype;
  constexpr std::int64_t K = kSumBlock + 21 * per_word(kDtype), depth = row_words(kDtype, K);
  static Word rows[kTileRows][depth], weights[depth * kProofColumns];
  static float together[kTileRows][kProofColumns], alone[kProofColumns];
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
  float* out[kTileRows];
  for (int r = 0; r < kTileRows; ++r) {
    x[r] = rows[r];
    out[r] = together[r];
  }
  LinearArgs a{};
  a.x = x;
  a.columns = kProofColumns;
  a.k = K;
  a.weights = weights;
  a.panel_stride = depth * kProofColumns;
  a.vectors = 4;
  a.panel_end = 1;
  const int counts[] = {kTileRows, 5};
  for (const int count : counts) {
    a.rows = count;
    a.x = x;
    a.out = out;
    kernels.linear(a);
    for (int r = 0; r < count; ++r) {
      float* const to[] = {alone};
      a.rows = 1;
      a.x = x + r;
      a.out = to;
      kernels.linear(a);
      if (std::memcmp(alone, together[r], sizeof alone) != 0) return false;
    }
  }
  return true;
}

}  // namespace
}  // namespace treadle::TREADLE_ISA

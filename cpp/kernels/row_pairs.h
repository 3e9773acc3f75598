// Products of rows by instructions that multiply matrices of two rows and two columns.
//
// `matrix(sum, x, w)` of a format (format.h) takes two words of two rows, x = [r0 k0, r0 k1, r1 k0,
// r1 k1], and of two outputs, w = [n0 k0, n0 k1, n1 k0, n1 k1], and adds the products of each row
// with each output to sum = [r0 n0, r0 n1, r1 n0, r1 n1]. The vectors of two steps of a panel
// become two such operands when they are zipped, so that weights are packed as for every level.
//
// Vectors have four lanes. Two rows and V vectors of outputs have 2 V sums, as many as in
// `multiply`: R = 6, V = 4 take 24 sums + 3 pairs of rows + 2 operands + 2 weights. The last row of
// an odd number is its own partner. Sums must be exact, since a single row has other instructions.
#pragma once

#include "kernels/format.h"

namespace treadle::TREADLE_ISA {
namespace {

// Returns two words of each of two rows or, without Both, one of each and zeros.
template <bool Both, class Words = Vec>
TREADLE_INLINE Words two_rows(const Word* first, const Word* second) {
  const Words a = load_partial(first, Both ? 2 : 1), b = load_partial(second, Both ? 2 : 1);
  return __builtin_shufflevector(a, b, 0, 1, kLanes, kLanes + 1);
}

// Adds the products of two steps or, without Both, of one.
template <bool Both, int R, int P, int V, class Format>
TREADLE_INLINE void add_pairs(typename Format::Sum (&tile)[(R + 1) / 2][2 * P * V],
                              const Word* const (&x)[R], std::int64_t k, const Word* w,
                              std::int64_t panel_stride, std::int64_t step) {
  constexpr int kPairs = (R + 1) / 2;
  Vec rows[kPairs];
#pragma GCC unroll 8
  for (int q = 0; q < kPairs; ++q) {
    rows[q] = two_rows<Both>(x[2 * q] + k, x[2 * q + 1 < R ? 2 * q + 1 : 2 * q] + k);
  }
#pragma GCC unroll 8
  for (int i = 0; i < P * V; ++i) {
    const Word* from = w + i / V * panel_stride + i % V * kLanes;
    const Vec first = load(from), second = Both ? load(from + step) : Vec{};
    const Vec low = AllLanes::interleave<0>(first, second),
              high = AllLanes::interleave<kLanes / 2>(first, second);
#pragma GCC unroll 8
    for (int q = 0; q < kPairs; ++q) {
      tile[q][2 * i] = Format::matrix(tile[q][2 * i], rows[q], low);
      tile[q][2 * i + 1] = Format::matrix(tile[q][2 * i + 1], rows[q], high);
    }
  }
}

// Does what `multiply` does (gemm.h) for two rows or more.
template <int R, int P, int V, class Format, class Next>
TREADLE_INLINE void multiply_pairs(typename Format::Sum (&sum)[R][P * V], const Word* const (&x)[R],
                                   std::int64_t K, const Word* w, std::int64_t panel_stride,
                                   Next&& next, std::int64_t step) {
  typename Format::Sum tile[(R + 1) / 2][2 * P * V] = {};
  if (K % 2) {
    next.fetch();
    add_pairs<false, R, P, V, Format>(tile, x, K - 1, w + (K - 1) * step, panel_stride, step);
  }
  for (std::int64_t k = 0; k + 2 <= K; k += 2) {
    next.fetch();
    next.fetch();
    add_pairs<true, R, P, V, Format>(tile, x, k, w, panel_stride, step);
    w += 2 * step;
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int i = 0; i < P * V; ++i) {
      const auto low = tile[r / 2][2 * i], high = tile[r / 2][2 * i + 1];
      sum[r][i] = sum[r][i] + (r % 2 ? __builtin_shufflevector(low, high, 2, 3, 6, 7)
                                     : __builtin_shufflevector(low, high, 0, 1, 4, 5));
    }
  }
}

}  // namespace
}  // namespace treadle::TREADLE_ISA

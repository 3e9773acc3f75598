// Products with few columns, whose weights would leave most of a vector empty: lanes are rows
// here, and weights are broadcast.
//
// Squares of kLanes rows and kLanes numbers of each are turned in registers, and a turned vector
// serves all columns. Each output is the sum that kernels/gemm.h would compute, term by term, so
// that it has the same bits.
#pragma once

#include "kernels/gemm.h"

namespace treadle::TREADLE_ISA {
namespace {

// A product is narrow with at most so many columns. With more of them, or on short vectors, the
// turns of a square cost as much as the empty lanes.
constexpr std::int64_t kNarrowColumns = !kFallback && kLanes >= 8 ? kLanes * 3 / 8 : 0;
constexpr std::int64_t kAhead = 4 * kLine;  // words from what is read to what L1 fetches
constexpr int kNarrowGroups = 2;            // vectors of rows that share a broadcast weight
constexpr std::int64_t kNarrowRows = kNarrowGroups * kLanes;

// Tells whether the lanes of a product are to be rows.
TREADLE_INLINE bool is_narrow(const LinearArgs& a) {
  return a.columns <= kNarrowColumns && a.rows >= kLanes && a.taps == 1 && !a.start &&
         a.panel_begin < a.panel_end;
}

// Turns a square: read(i) has kLanes numbers of row i, and number k of all rows becomes a vector of
// turned [kLanes, kNarrowGroups, kLanes], whose other groups are left alone.
template <class Read>
TREADLE_INLINE void turn(float* turned, Read read) {
  Vec square[kLanes];
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) square[i] = read(i);
  transpose(square);
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) store(turned + i * kNarrowGroups * kLanes, square[i]);
}

// Turns a square that has fewer numbers or rows, and repeats the last row.
__attribute__((noinline)) void turn_rest(float* turned, const Word* const* x, std::int64_t at,
                                         std::int64_t rows, std::int64_t count) {
  float values[kLanes * kLanes];
  for (int i = 0; i < kLanes; ++i) {
    store(values + i * kLanes, load_up_to(x[i < rows ? i : rows - 1] + at, count));
  }
  turn(turned, [&](int i) { return load(values + i * kLanes); });
}

// sums[g * kLanes + i, n] = bias[n] + sum_k x[first + g * kLanes + i, k] w[k, n], for N columns.
template <int N>
__attribute__((noinline)) void narrow_sums(const LinearArgs& a, std::int64_t first, float* sums) {
  constexpr int kG = kNarrowGroups;
  const float* w = a.weights;
  Vec acc[N][kG];
#pragma GCC unroll 8
  for (int n = 0; n < N; ++n) {
#pragma GCC unroll 2
    for (int g = 0; g < kG; ++g) acc[n][g] = a.bias ? broadcast(a.bias[n]) : Vec{};
  }
  alignas(64) float turned[kLanes * kG * kLanes] = {};
  for (std::int64_t begin = 0; begin < a.k; begin += kSumBlock) {
    const std::int64_t end = a.k - begin < kSumBlock ? a.k : begin + kSumBlock;
    Vec sum[N][kG] = {};
    for (std::int64_t k = begin; k < end; k += kLanes) {
      const std::int64_t count = end - k < kLanes ? end - k : kLanes;
#pragma GCC unroll 1
      for (int g = 0; g < kG; ++g) {
        const Word* const* const x = a.x + first + g * kLanes;
        const std::int64_t at = a.x_offset + k, rows = a.rows - first - g * kLanes;
        if (rows >= kLanes && count == kLanes) {
          // Meanwhile L2 fetches the rows that come next, which may lie in memory.
          const Word* const* const next = rows >= kLanes + kNarrowRows ? x + kNarrowRows : x;
          turn(turned + g * kLanes, [&](int i) {
            __builtin_prefetch(x[i] + at + kAhead);
            __builtin_prefetch(next[i] + at + kLine, 0, 2);
            return load(x[i] + at);
          });
        } else if (rows > 0) {
          turn_rest(turned + g * kLanes, x, at, rows, count);
        }
      }
      const float* from = turned;
      for (std::int64_t i = 0; i < count; ++i, from += kG * kLanes, w += kLanes) {
        Vec rows[kG];
#pragma GCC unroll 2
        for (int g = 0; g < kG; ++g) rows[g] = load(from + g * kLanes);
#pragma GCC unroll 8
        for (int n = 0; n < N; ++n) {
          const Vec weight = broadcast(w[n]);
#pragma GCC unroll 2
          for (int g = 0; g < kG; ++g) sum[n][g] = fma(weight, rows[g], sum[n][g]);
        }
      }
    }
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) {
#pragma GCC unroll 2
      for (int g = 0; g < kG; ++g) acc[n][g] = acc[n][g] + sum[n][g];
    }
  }
#pragma GCC unroll 2
  for (int g = 0; g < kG; ++g) {
    Vec square[kLanes] = {};
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) square[n] = acc[n][g];
    transpose(square);
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) store(sums + (g * kLanes + i) * kLanes, square[i]);
  }
}

// Computes the product of `is_narrow` and calls finish(row, rows, sums) for some rows at a time,
// kLanes sums of each. A packed panel has zeros beyond its columns, of which two are taken at once.
template <class Finish>
TREADLE_INLINE void narrow(const LinearArgs& a, Finish finish) {
  alignas(64) float sums[kNarrowRows * kLanes];
  for (std::int64_t row = 0; row < a.rows; row += kNarrowRows) {
    switch ((a.columns + 1) / 2) {
      case 1:
        narrow_sums<2>(a, row, sums);
        break;
      case 2:
        narrow_sums<4>(a, row, sums);
        break;
#if defined(TREADLE_ISA_avx512)
      case 3:
        narrow_sums<6>(a, row, sums);
        break;
#endif
    }
    const std::int64_t left = a.rows - row;
    finish(row, static_cast<int>(left < kNarrowRows ? left : kNarrowRows), sums);
  }
}

}  // namespace
}  // namespace treadle::TREADLE_ISA

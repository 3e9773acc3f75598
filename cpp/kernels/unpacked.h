// Products of a few rows with weights that are not packed: row-major matrices, as their owner keeps
// them. To pack weights for a row or two takes longer than to multiply by them.
//
// The sums are those of `accumulate`: one lane an output, k upwards in blocks of kSumBlock, the sum
// of a block added to the sums before it. So the bits are those of a product with packed weights.
#pragma once

#include "kernels/unpacked_columns.h"

namespace treadle::TREADLE_ISA {
namespace {

// So many vectors of outputs take turns for a single row, so that one waits for its fma while
// another goes on.
#if defined(TREADLE_ISA_avx512)
constexpr int kUnpackedVectors = 2;
#else
constexpr int kUnpackedVectors = 4;
#endif

// A tile reads more rows at once than the hardware's prefetcher follows. So a product with more
// weights than this, which do not stay in L2 beside the cell's other product, fetches so many
// lines ahead: it takes a third less time where they come from L3, and half of it where they come
// from memory (on Zen 5). To fetch weights that lie in L2 costs a tenth. The lines go into L2 as
// well: rows of 1024 floats share a set of L1, which drops them before their turn, and what was
// fetched for L1 alone comes from memory again (a third of the speed on Emerald Rapids).
constexpr std::int64_t kFetchedWeights = std::int64_t{1} << 16, kFetchedLines = 4;

// Adds the products of R rows with kLanes steps from k on, or those before `end`, to the sums of a
// vector of outputs, one for each row. `weights` are the rows of W [outputs, k]: they become a
// vector for each step in registers. Inlined, several of these would have too few registers.
template <int R>
__attribute__((noinline)) void unpacked_steps(Vec* sum, const float* const* weights,
                                              const float* const* rows, std::int64_t k,
                                              std::int64_t end) {
  Vec w[kLanes];
  if (end - k >= kLanes) {
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) w[i] = load(weights[i] + k);
    transpose(w);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const float* x = rows[r] + k;
#pragma GCC unroll 16
      for (int j = 0; j < kLanes; ++j) sum[r] = fma(broadcast(x[j]), w[j], sum[r]);
    }
    return;
  }
  const int left = static_cast<int>(end - k);
  for (int i = 0; i < kLanes; ++i) w[i] = load_partial(weights[i] + k, left);
  transpose(w);
  for (int r = 0; r < R; ++r) {
    for (int j = 0; j < left; ++j) sum[r] = fma(broadcast(rows[r][k + j]), w[j], sum[r]);
  }
}

// Fetches what a vector of outputs from n on reads kFetchedLines lines behind k; beyond the ends of
// its rows, what the vector in its place in the next tile reads first.
template <int V>
TREADLE_INLINE void fetch_ahead(const UnpackedArgs& a, std::int64_t n, std::int64_t k) {
  k += kFetchedLines * kLine;
  if (k >= a.k) {
    k -= a.k;
    n += V * kLanes;
  }
  if (n + kLanes > a.end || k >= a.k) return;
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) __builtin_prefetch(a.weights[n + i] + k, 0, 3);
}

// Takes R rows and V vectors of outputs, from output n on.
template <int R, int V>
void unpacked_tile(const UnpackedArgs& a, std::int64_t row, std::int64_t n) {
  const bool fetches = (a.end - a.begin) * a.k > kFetchedWeights;
  for (std::int64_t begin = 0; begin < a.k; begin += kSumBlock) {
    const std::int64_t end = a.k - begin < kSumBlock ? a.k : begin + kSumBlock;
    Vec sum[V][R] = {};
    for (std::int64_t k = begin; k < end; k += kLanes) {
      for (int v = 0; v < V; ++v) {
        const std::int64_t at = n + v * kLanes;
        if (fetches && k % kLine == 0) fetch_ahead<V>(a, at, k);
        unpacked_steps<R>(sum[v], a.weights + at, a.x + row, k, end);
      }
    }
    for (int v = 0; v < V; ++v) {
      for (int r = 0; r < R; ++r) {
        float* to = a.sums[row + r] + n + v * kLanes;
        store(to, load(to) + sum[v][r]);
      }
    }
  }
}

template <int R>
void unpacked_outputs(const UnpackedArgs& a, std::int64_t row) {
  constexpr int V = R == 1 ? kUnpackedVectors : 1;
  std::int64_t n = a.begin;
  for (; n + V * kLanes <= a.end; n += V * kLanes) unpacked_tile<R, V>(a, row, n);
  for (; n < a.end; n += kLanes) unpacked_tile<R, 1>(a, row, n);
}

void unpacked(const UnpackedArgs& a) {
  for_few_rows(a.rows, [&](auto rows, std::int64_t row) {
    unpacked_outputs<decltype(rows)::value>(a, row);
  });
}

}  // namespace
}  // namespace treadle::TREADLE_ISA

// Sums over many rows: the gradients of weights and biases.
//
// out[n, i] = sum_k a[k, n] b[k, i] is the tile of gemm.h with the other operand turned: the R
// floats that are broadcast in a step lie side by side in row k of a, the panel is row k of b as it
// lies. The terms are cut into blocks, which stay in L2; each is summed in registers and added to
// `out`.
//
// A line of a row of a serves two or three tiles, and no prefetcher sees that the next one follows:
// each tile asks for it, or on Zen 4 up to a third of the time goes by waiting for L3.
#pragma once

#include "kernels/gemm.h"

namespace treadle::TREADLE_ISA {
namespace {

template <int V, bool Whole>
struct OuterTile {
  template <int R, int P>
  static void tile(const OuterArgs& a, std::int64_t n, std::int64_t panel) {
    const std::int64_t column = panel * V * kLanes + a.column_begin, row = a.row_begin + n;
    const std::int64_t left = a.column_end - column;
    const std::int64_t cut = left - (P * V - 1) * kLanes;  // of the last vector
    Vec sum[R][P * V] = {};
    for (std::int64_t k = 0; k < a.terms; ++k) {
      const float* x = a.a[k] + a.a_offset + row;
      const float* y = a.b[k] + column;
      __builtin_prefetch(x + kLine);
#pragma GCC unroll 8
      for (int i = 0; i < P * V; ++i) {
        const bool whole = Whole || i < P * V - 1;
        const Vec v = whole ? load(y + i * kLanes) : load_up_to(y + i * kLanes, cut);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) sum[r][i] = fma(broadcast(x[r]), v, sum[r][i]);
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      float* out = a.out + (row + r) * a.out_stride + column;
#pragma GCC unroll 8
      for (int i = 0; i < P * V; ++i) {
        const std::int64_t rest = left - i * kLanes;
        const Vec before = a.fresh ? Vec{} : load_up_to(out + i * kLanes, rest);
        store_up_to(out + i * kLanes, before + sum[r][i], rest);
      }
    }
  }
};

// The arguments with the number of rows, which for_each_tile walks.
struct OuterRows : OuterArgs {
  std::int64_t rows;
};

// Does a single column, as of a series of one variable: b has one number a row, which is broadcast,
// and the sums lie along the rows of a. The terms and their order are those of a tile.
template <int V>
void outer_column(const OuterArgs& a, std::int64_t row) {
  const std::int64_t left = a.row_end - row;
  Vec sum[V] = {};
  for (std::int64_t k = 0; k < a.terms; ++k) {
    const float* x = a.a[k] + a.a_offset + row;
    const Vec y = broadcast(a.b[k][a.column_begin]);
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      sum[v] = fma(load_up_to(x + v * kLanes, left - v * kLanes), y, sum[v]);
    }
  }
  for (int v = 0; v < V; ++v) {
    for (std::int64_t i = 0; i < kLanes && v * kLanes + i < left; ++i) {
      float& out = a.out[(row + v * kLanes + i) * a.out_stride + a.column_begin];
      out = (a.fresh ? 0.0f : out) + sum[v][i];
    }
  }
}

void outer_columns(const OuterArgs& a) {
  constexpr int kVectors = 8;
  std::int64_t row = a.row_begin;
  for (; row + kVectors * kLanes <= a.row_end; row += kVectors * kLanes) {
    outer_column<kVectors>(a, row);
  }
  for (; row < a.row_end; row += kLanes) outer_column<1>(a, row);
}

// Does the columns behind the full panels: so many vectors, of which the last may be cut.
void outer_rest(const OuterRows& a, std::int64_t vectors) {
  switch (vectors) {
    case 1:
      return for_each_tile<OuterTile<1, false>, kMaxRows, 1>(a, 0, 1);
    case 2:
      return for_each_tile<OuterTile<2, false>, kMaxRows, 1>(a, 0, 1);
    case 3:
      return for_each_tile<OuterTile<3, false>, kMaxRows, 1>(a, 0, 1);
    case 4:
      return for_each_tile<OuterTile<4, false>, kMaxRows, 1>(a, 0, 1);
  }
}

void outer(const OuterArgs& a) {
  constexpr int kVectors = 4;
  OuterRows block{a, a.row_end - a.row_begin};
  const std::int64_t columns = a.column_end - a.column_begin;
  const std::int64_t panels = columns / (kVectors * kLanes), rest = columns % (kVectors * kLanes);
  for (std::int64_t k = 0; k < a.terms; k += kOuterTerms) {
    block.terms = a.terms - k < kOuterTerms ? a.terms - k : kOuterTerms;
    block.a = a.a + k;
    block.b = a.b + k;
    block.column_begin = a.column_begin;
    if (columns == 1) {
      outer_columns(block);
      block.fresh = false;
      continue;
    }
    for_each_tile<OuterTile<kVectors, true>>(block, 0, panels);
    block.column_begin += panels * kVectors * kLanes;
    outer_rest(block, (rest + kLanes - 1) / kLanes);
    block.fresh = false;
  }
}

// Does V vectors of columns, of which `left` floats exist.
template <int V>
void sum_columns(const SumArgs& a, std::int64_t n, std::int64_t left) {
  Vec total[V];
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) total[v] = load_up_to(a.out + n + v * kLanes, left - v * kLanes);
  for (std::int64_t k = 0; k < a.terms; k += kOuterTerms) {
    const std::int64_t end = a.terms - k < kOuterTerms ? a.terms : k + kOuterTerms;
    Vec sum[V] = {};
    for (std::int64_t i = k; i < end; ++i) {
      const float* x = a.a[i] + a.a_offset + n;
      const float* y = a.b ? a.b[i] + n : nullptr;
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        Vec term = load_up_to(x + v * kLanes, left - v * kLanes);
        if (y) term = term * load_up_to(y + v * kLanes, left - v * kLanes);
        sum[v] = sum[v] + term;
      }
    }
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) total[v] = total[v] + sum[v];
  }
#pragma GCC unroll 4
  for (int v = 0; v < V; ++v) store_up_to(a.out + n + v * kLanes, total[v], left - v * kLanes);
}

void sum_rows(const SumArgs& a) {
  constexpr int kVectors = 4;
  std::int64_t n = 0;
  for (; n + kVectors * kLanes <= a.size; n += kVectors * kLanes) {
    sum_columns<kVectors>(a, n, kVectors * kLanes);
  }
  for (; n < a.size; n += kLanes) sum_columns<1>(a, n, a.size - n);
}

}  // namespace
}  // namespace treadle::TREADLE_ISA

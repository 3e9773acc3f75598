// This is attention of many queries, softmax(scale Q K^T) V, without a matrix of scores in memory.
//
// Keys and values are packed like weights, so that both products are the product of gemm.h: scores
// [R queries, 64 keys] with k along E, and outputs [R queries, 64 columns of V] with k along the
// keys (values that lie close together are a panel as they are). A block of queries walks over
// blocks of keys; its running sums, maxima and totals stay in L1, as do the scores of a tile (Dao
// et al., arXiv:2205.14135, with the queries outside).
//
// The order of every sum depends on the key's number alone: tiles skip keys that none of their
// queries sees, and a key's probability is exactly zero in the queries that do not see it. Zero
// times a value that is NaN or infinite is NaN all the same. A row whose result is not finite is
// therefore computed again with the values that it sees alone, which gives the bits that it has
// beside any finite values.
//
// The running sums lie in the caller's scratch memory; the stack holds 6 x 256 scores.
#pragma once

#include "kernels/attention_pack.h"
#include "kernels/dropout.h"
#include "kernels/gemm.h"
#include "kernels/scores.h"

namespace treadle::TREADLE_ISA {
namespace {

constexpr std::int64_t kQueryBlock = kAttentionRows;
static_assert(kQueryBlock % kMaxRows == 0);
constexpr std::int64_t kKeyBlock = 256;    // a multiple of kValueBlock and of a panel
constexpr std::int64_t kValueBlock = 128;  // keys whose values are summed by themselves

// The state that a block of queries carries from one block of keys to the next.
struct QueryBlock {
  explicit QueryBlock(const AttentionArgs& args)
      : a(args),
        width(up_to_lanes(args.value_size)),
        maximum(args.scratch),
        total(maximum + kQueryBlock),
        sums(total + kQueryBlock * kLanes) {}

  const AttentionArgs& a;
  std::int64_t rows = 0;  // the block has so many rows of `a`, from `first_row` on
  std::int64_t first_row = 0;
  std::int64_t first_key = 0, keys = 0;  // the block of keys
  bool first = true, last = true;        // it is the first, the last block that a query sees
  const std::int64_t width;              // floats of a row of sums
  float* const maximum;                  // [kQueryBlock]
  float* const total;                    // [kQueryBlock][kLanes]
  float* const sums;                     // [kQueryBlock][width]
  Vec wrong{};                           // becomes NaN if a result is NaN or infinite
};

// Computes the scores of R queries and the keys [begin, end) of a block, from the start of a panel
// to the end of a vector. Panels are computed whole; the last one of all may have fewer vectors.
template <class Format, int R>
__attribute__((noinline)) void scores(const AttentionArgs& a, std::int64_t row,
                                      std::int64_t first_key, std::int64_t begin, std::int64_t end,
                                      float (*to)[kKeyBlock]) {
  const auto panel = [&](auto vectors, std::int64_t at) {
    constexpr int V = decltype(vectors)::value;
    Vec acc[R][V] = {};
    const std::int64_t size = words(Format::kDtype, a.key_size);
    const Word* q[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) q[r] = a.q[row + r];
    // k is one block of kSumBlock, so that the sums need not leave their registers.
    multiply<R, 1, V, Format>(acc, q, size, a.k + (first_key + at) * size, 0, NoPrefetch{});
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) store(to[r] + at + v * kLanes, acc[r][v]);
    }
  };
  for (std::int64_t at = begin; at < end; at += kPanelKeys) {
    const std::int64_t left = up_to_lanes(a.keys - first_key - at);  // the last panel is narrow
    switch (left < kPanelKeys ? left / kLanes : kAttentionVectors) {
      case 1:
        panel(Number<1>{}, at);
        break;
      case 2:
        panel(Number<2>{}, at);
        break;
      case 3:
        panel(Number<3>{}, at);
        break;
      default:
        panel(Number<4>{}, at);
    }
  }
}

// Writes out = sums / total for finished rows; rows that saw no key are zero.
TREADLE_INLINE Vec per_total(const QueryBlock& b, std::int64_t local) {
  const float total = sum_lanes(load(b.total + local * kLanes));
  // It is at least 1 where a key was seen. Dividing every vector costs more than this rounding.
  return broadcast(total == 0.0f ? 0.0f : 1.0f / total);
}
void finish(QueryBlock& b, std::int64_t local) {
  const Vec factor = per_total(b, local);
  float* out = b.a.out[b.first_row + local];
  for (std::int64_t i = 0; i < b.a.value_size; i += kLanes) {
    const Vec y = load(b.sums + local * b.width + i) * factor;
    b.wrong = fma(y, Vec{}, b.wrong);
    store_up_to(out + i, y, b.a.value_size - i);
  }
}

// Computes sum[0] += probabilities V over `count` words of a row whose bits in `seen` are set; the
// others count as zero, whatever V holds there.
template <class Format, int V>
TREADLE_INLINE void multiply_seen(Vec (&sum)[1][V], const Word* probabilities, std::int64_t count,
                                  const Word* values, std::int64_t step, const Word* seen) {
  for (std::int64_t i = 0; i < count; ++i, values += step) {
    const Ints bits = as_ints(broadcast(seen[i]));
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      const Vec value = as_floats(as_ints(load(values + v * kLanes)) & bits);
      sum[0][v] = Format::step(sum[0][v], probabilities[i], value);
    }
  }
}

// Computes sums[r] = sums[r] * factor[r] + probabilities[r] V over the keys [begin, end) of a block
// and V vectors of the columns from `column` on, in pieces that begin at multiples of kValueBlock,
// whichever keys the other queries see. The product with the factor is rounded by itself, so that a
// piece of zero probabilities changes nothing. The first block has no sums before it, the last
// gives the output. begin and end are multiples of a word's keys, unless the keys end. With `seen`
// only values that the row sees are added (multiply_seen).
template <class Format, int R, int V, bool Seen>
__attribute__((noinline)) void add_values(QueryBlock& b, std::int64_t local, std::int64_t column,
                                          const Word (*probabilities)[kKeyBlock],
                                          const float* factor, std::int64_t begin, std::int64_t end,
                                          const Word* values, const Word* seen) {
  constexpr int kEach = per_word(Format::kDtype);
  const std::int64_t step = b.a.v_stride ? b.a.v_stride : V * kLanes;
  float* sums = b.sums + local * b.width + column;
  for (std::int64_t i = begin; i < end;) {
    const std::int64_t next = i - i % kValueBlock + kValueBlock;
    const std::int64_t stop = next < end ? next : end;
    const Word* rows[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) rows[r] = probabilities[r] + i / kEach;
    Vec sum[R][V] = {};
    const std::int64_t count = words(Format::kDtype, stop - i);
    const Word* from = values + (b.first_key + i) / kEach * step;
    if constexpr (Seen) {
      multiply_seen<Format, V>(sum, rows[0], count, from, step, seen + i / kEach);
    } else {
      multiply<R, 1, V, Format>(sum, rows, count, from, 0, NoPrefetch{}, step);
    }
    if (!b.first || i > begin) {
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const Vec scale = broadcast(i == begin ? factor[r] : 1.0f);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
          const Vec before = load(sums + r * b.width + v * kLanes) * scale;
          sum[r][v] = before + sum[r][v];
        }
      }
    }
    if (b.last && stop == end) {
      Vec wrong[V] = {};
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const Vec scale = per_total(b, local + r);
        float* out = b.a.out[b.first_row + local + r] + column;
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
          const std::int64_t left = b.a.value_size - column - v * kLanes;
          const Vec y = sum[r][v] * scale;
          wrong[v] = fma(y, Vec{}, wrong[v]);
          store_up_to(out + v * kLanes, y, left);
        }
      }
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) b.wrong = b.wrong + wrong[v];
    } else {
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) store(sums + r * b.width + v * kLanes, sum[r][v]);
      }
    }
    i = stop;
  }
}

// Holds the scores of a tile's rows for the softmax, in the columns [begin, end) that they need.
template <class Format, int R>
struct TileScores {
  float s[R][kKeyBlock];
  std::int64_t low[R], high[R];                  // the keys that a row sees, as columns
  std::int64_t lowest = kKeyBlock, highest = 0;  // over all rows
  std::int64_t begin, end;                       // the columns computed, whole vectors

  // Computes the scores; returns false if no row sees a key of the block.
  TREADLE_INLINE bool fill(const QueryBlock& b, std::int64_t row, bool changed) {
    const AttentionArgs& a = b.a;
    for (int r = 0; r < R; ++r) {
      low[r] = a.begin[row + r] - b.first_key;
      high[r] = a.end[row + r] - b.first_key;
      low[r] = low[r] < 0 ? 0 : low[r] > b.keys ? b.keys : low[r];
      high[r] = high[r] < 0 ? 0 : high[r] > b.keys ? b.keys : high[r];
      if (low[r] >= high[r]) continue;
      lowest = low[r] < lowest ? low[r] : lowest;
      highest = high[r] > highest ? high[r] : highest;
    }
    if (lowest >= highest) return false;
    begin = lowest - lowest % kPanelKeys;
    end = up_to_lanes(highest);
    scores<Format, R>(a, row, b.first_key, begin, end, s);
    begin = lowest - lowest % kLanes;
    for (int r = 0; r < R; ++r) {
      if (changed) modify_scores(a, row + r, s[r], b.first_key, begin, end);
      mask_range(s[r], begin, end, low[r], high[r]);
    }
    return true;
  }
};

// Marks the words of a row of scores whose keys it sees, in the columns [begin, end): all bits of a
// number are set, or none. A key whose score is -infinity counts as hidden.
template <class Format>
void mark_seen(const float* s, std::int64_t begin, std::int64_t end, Word* seen) {
  constexpr int kEach = per_word(Format::kDtype);
  constexpr std::uint32_t kOne = kEach == 1 ? 0xffffffffu : 0xffffu;
  for (std::int64_t i = begin - begin % kEach; i < end; i += kEach) {
    std::uint32_t bits = 0;
    for (int n = 0; n < kEach && i + n < end; ++n) {
      if (i + n >= begin && s[i + n] != kLowest) bits |= kOne << (n * Format::kBits % 32);
    }
    std::memcpy(seen + i / kEach, &bits, sizeof bits);
  }
}

template <class Format, bool Seen>
struct AttentionTile {
  template <int R, int P>
  static void tile(QueryBlock& b, std::int64_t local, std::int64_t) {
    const AttentionArgs& a = b.a;
    const bool changed = modifies_scores(a);
    const float scale = exponent_scale(a, changed);
    TileScores<Format, R> t;
    if (!t.fill(b, b.first_row + local, changed)) {
      for (int r = 0; r < R; ++r) {
        float* sums = b.sums + (local + r) * b.width;
        for (std::int64_t i = 0; b.first && i < b.width; i += kLanes) store(sums + i, Vec{});
        if (b.last) finish(b, local + r);
      }
      return;
    }
    Word seen[Seen ? kKeyBlock : 1];
    if constexpr (Seen) mark_seen<Format>(t.s[0], t.lowest, t.highest, seen);
    float factor[R];
    online_softmax<R>(t.s, t.begin, t.end, scale, b.maximum + local, b.total + local * kLanes,
                      factor);
    for (int r = 0; a.dropout && r < R; ++r) {
      drop(a, b.first_row + local + r, t.s[r], b.first_key, t.begin, t.end);
    }
    constexpr int kEach = per_word(Format::kDtype);
    for (int r = 0; kEach > 1 && r < R; ++r) {  // in place: words lie before what they are made of
      for (std::int64_t i = t.begin; i < t.end; i += kLanes) {
        Format::store_words(t.s[r] + i / kEach, load(t.s[r] + i));
      }
    }
    const std::int64_t begin = t.lowest - t.lowest % kEach;
    const std::int64_t padded = t.highest + kEach - 1, end = padded - padded % kEach;
    const Word* values = a.v;
    std::int64_t column = 0;
    for (; column + kPanelKeys <= b.width; column += kPanelKeys) {
      add_values<Format, R, 4, Seen>(b, local, column, t.s, factor, begin, end, values, seen);
      values += a.v_stride ? kPanelKeys : words(Format::kDtype, a.keys) * kPanelKeys;
    }
    const auto add = [&](auto vectors) {
      constexpr int V = decltype(vectors)::value;
      add_values<Format, R, V, Seen>(b, local, column, t.s, factor, begin, end, values, seen);
    };
    switch ((b.width - column) / kLanes) {
      case 1:
        return add(Number<1>{});
      case 2:
        return add(Number<2>{});
      case 3:
        return add(Number<3>{});
    }
  }
};

// Writes the probabilities that the caller asked for, from the scores again and the final maxima.
template <class Format>
struct ProbabilitiesTile {
  template <int R, int P>
  static void tile(QueryBlock& b, std::int64_t local, std::int64_t) {
    const AttentionArgs& a = b.a;
    const bool changed = modifies_scores(a);
    const float scale = exponent_scale(a, changed);
    TileScores<Format, R> t;
    if (!t.fill(b, b.first_row + local, changed)) return;
    for (int r = 0; r < R; ++r) {
      const float maximum = b.maximum[local + r];
      const float total = sum_lanes(load(b.total + (local + r) * kLanes));
      if (total == 0.0f) continue;
      float* out = a.probabilities[b.first_row + local + r] + b.first_key;
      for (std::int64_t i = t.begin; i < t.high[r]; i += kLanes) {
        const Vec s = load(t.s[r] + i);
        const Vec p = exp2_falling((s - broadcast(maximum)) * broadcast(scale));
        store_up_to(out + i, s == broadcast(kLowest) ? Vec{} : p / broadcast(total), b.keys - i);
      }
    }
  }
};

// Calls visit() for each block of keys from that of `begin` on.
template <class Visit>
TREADLE_INLINE void for_each_key_block(QueryBlock& b, std::int64_t begin, std::int64_t end,
                                       Visit&& visit) {
  const std::int64_t first = begin - begin % kKeyBlock;
  std::int64_t key = first;
  do {  // one turn writes the output even if no query sees a key
    b.first = key == first;
    b.last = key + kKeyBlock >= end;
    b.first_key = key;
    b.keys = b.a.keys - key < kKeyBlock ? b.a.keys - key : kKeyBlock;
    visit();
    key += kKeyBlock;
  } while (key < end);
}

// Computes a row again whose result is not finite, with the values that it sees alone.
template <class Format>
__attribute__((noinline)) void attend_to_seen(QueryBlock& b, std::int64_t row) {
  const AttentionArgs& a = b.a;
  b.first_row = row;
  b.maximum[0] = kLowest;
  store(b.total, Vec{});
  for_each_key_block(b, a.begin[row], a.end[row],
                     [&] { AttentionTile<Format, true>::template tile<1, 1>(b, 0, 0); });
}

template <class Format>
void attention(const AttentionArgs& a) {
  QueryBlock b(a);
  for (std::int64_t row = 0; row < a.rows; row += kQueryBlock) {
    b.first_row = row;
    b.rows = a.rows - row < kQueryBlock ? a.rows - row : kQueryBlock;
    b.wrong = Vec{};
    std::int64_t begin = a.keys, end = 0;
    for (std::int64_t r = row; r < row + b.rows; ++r) {
      fetch(a.q[r], a.key_size);
      fetch(a.out[r], a.value_size);
      begin = a.begin[r] < begin ? a.begin[r] : begin;
      end = a.end[r] > end ? a.end[r] : end;
      b.maximum[r - row] = kLowest;
    }
    for (std::int64_t i = 0; i < b.rows * kLanes; i += kLanes) store(b.total + i, Vec{});
    for_each_key_block(b, begin, end,
                       [&] { for_each_tile<AttentionTile<Format, false>, kMaxRows, 1>(b, 0, 1); });
    if (a.probabilities) {
      for_each_key_block(b, begin, end,
                         [&] { for_each_tile<ProbabilitiesTile<Format>, kMaxRows, 1>(b, 0, 1); });
    }
    const float scale = modifies_scores(a) ? 1.0f : a.scale;  // the maximum's factor
    for (std::int64_t r = 0; a.lse && r < b.rows; ++r) {
      *a.lse[row + r] = log_sum(b.maximum[r] * scale, sum_lanes(load(b.total + r * kLanes)));
    }
    if (sum_lanes(b.wrong) == 0) continue;
    for (std::int64_t r = row, last = row + b.rows; r < last; ++r) {
      if (!is_finite({a.out[r], 1, a.value_size, 0})) attend_to_seen<Format>(b, r);
    }
  }
}

}  // namespace
}  // namespace treadle::TREADLE_ISA

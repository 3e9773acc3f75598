// This is attention of many queries, softmax(scale Q K^T) V, without a matrix of scores in memory.
//
// Keys and values are packed like weights, so that both products are the product of gemm.h: scores
// [R queries, 64 keys] with k along E, and outputs [R queries, 64 columns of V] with k along the
// keys (values that lie close together are a panel as they are). A block of queries walks over
// blocks of keys; its running sums, maxima and totals stay in L1, as do the scores of a tile (Dao
// et al., arXiv:2205.14135, with the queries outside).
//
// The order of every sum depends on the key's number alone: tiles skip keys that none of their
// queries sees, and a key's probability is exactly zero in the queries that do not see it.
//
// The stack holds 48 queries x (256 + 16 + 1) floats of sums and 6 x 256 of scores: 60 KiB at most.
#pragma once

#include "kernels/dropout.h"
#include "kernels/gemm.h"
#include "kernels/scores.h"

namespace treadle::TREADLE_ISA {
namespace {

constexpr std::int64_t kQueryBlock = 48;   // a multiple of all kMaxRows
constexpr std::int64_t kKeyBlock = 256;    // a multiple of kValueBlock and of a panel
constexpr std::int64_t kValueBlock = 128;  // keys whose values are summed by themselves
constexpr std::int64_t kPanelKeys = kAttentionVectors * kLanes;

TREADLE_INLINE std::int64_t up_to_lanes(std::int64_t n) {
  return (n + kLanes - 1) / kLanes * kLanes;
}

template <class Format>
void pack_keys(const PackArgs& a) {
  constexpr int kEach = per_word(Format::kDtype);
  const std::int64_t size = words(Format::kDtype, a.size);
  for (std::int64_t first = a.begin; first < a.end; first += kPanelKeys) {
    const std::int64_t keys = a.rows - first < kPanelKeys ? a.rows - first : kPanelKeys;
    const std::int64_t width = up_to_lanes(keys);
    Word* panel = a.to + first * size;
    for (std::int64_t v = 0; v < width; v += kLanes) {
      const float* from = a.from + (first + v) * a.stride;
      const std::int64_t left = keys - v;
      // Fetches the next rows: a head's rows may lie too far apart for the hardware's prefetcher.
      for (std::int64_t i = kLanes; i < 2 * kLanes && v + i < keys; ++i) {
        fetch(from + i * a.stride, a.size);
      }
      for (std::int64_t k = 0; k < size; k += kLanes) {
        Vec rows[kLanes];
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) {
          rows[i] =
              i < left ? Format::read(from + i * a.stride + k * kEach, a.size - k * kEach) : Vec{};
        }
        transpose(rows);
        const std::int64_t steps = size - k < kLanes ? size - k : kLanes;
        Word* to = panel + k * width + v;
        if (steps == kLanes) {
#pragma GCC unroll 16
          for (int i = 0; i < kLanes; ++i) store(to + i * width, rows[i]);
        } else {
          for (int i = 0; i < steps; ++i) store(to + i * width, rows[i]);
        }
      }
    }
  }
}

template <class Format>
void pack_values(const PackArgs& a) {
  constexpr int kEach = per_word(Format::kDtype);
  for (std::int64_t first = 0; first < a.size; first += kPanelKeys) {
    const std::int64_t left = a.size - first;
    const std::int64_t width = left < kPanelKeys ? up_to_lanes(left) : kPanelKeys;
    Word* to = a.to + first * words(Format::kDtype, a.rows) + a.begin / kEach * width;
    for (std::int64_t row = a.begin; row < a.end; row += kEach, to += width) {
      const float* from = a.from + row * a.stride + first;
      if (row + 4 < a.end) fetch(from + 4 * a.stride, left < kPanelKeys ? left : kPanelKeys);
      for (std::int64_t i = 0; i < width; i += kLanes) {
        const Vec own = load_up_to(from + i, left - i);
        if constexpr (kEach == 1) {
          store(to + i, Format::below(own));
        } else {
          const Vec next = row + 1 < a.end ? load_up_to(from + a.stride + i, left - i) : Vec{};
          store(to + i, Format::below(own, next));
        }
      }
    }
  }
}

// The state that a block of queries carries from one block of keys to the next.
struct QueryBlock {
  explicit QueryBlock(const AttentionArgs& args)  // nothing touches the arrays before their use
      : a(args), width(up_to_lanes(args.value_size)) {}

  const AttentionArgs& a;
  std::int64_t rows = 0;  // the block has so many rows of `a`, from `first_row` on
  std::int64_t first_row = 0;
  std::int64_t first_key = 0, keys = 0;  // the block of keys
  bool first = true, last = true;        // it is the first, the last block that a query sees
  const std::int64_t width;              // floats of a row of sums
  float maximum[kQueryBlock];
  float total[kQueryBlock * kLanes];
  float sums[kQueryBlock * kMostHeadSize];
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
void finish(const QueryBlock& b, std::int64_t local) {
  const Vec factor = per_total(b, local);
  float* out = b.a.out[b.first_row + local];
  for (std::int64_t i = 0; i < b.a.value_size; i += kLanes) {
    store_up_to(out + i, load(b.sums + local * b.width + i) * factor, b.a.value_size - i);
  }
}

// Computes sums[r] = sums[r] * factor[r] + probabilities[r] V over the keys [begin, end) of a block
// and V vectors of the columns from `column` on, in pieces that begin at multiples of kValueBlock,
// whichever keys the other queries see. The product with the factor is rounded by itself, so that a
// piece of zero probabilities changes nothing. The first block has no sums before it, the last
// gives the output. begin and end are multiples of a word's keys, unless the keys end.
template <class Format, int R, int V>
__attribute__((noinline)) void add_values(QueryBlock& b, std::int64_t local, std::int64_t column,
                                          const Word (*probabilities)[kKeyBlock],
                                          const float* factor, std::int64_t begin, std::int64_t end,
                                          const Word* values) {
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
    multiply<R, 1, V, Format>(sum, rows, words(Format::kDtype, stop - i),
                              values + (b.first_key + i) / kEach * step, 0, NoPrefetch{}, step);
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
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const Vec scale = per_total(b, local + r);
        float* out = b.a.out[b.first_row + local + r] + column;
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
          const std::int64_t left = b.a.value_size - column - v * kLanes;
          store_up_to(out + v * kLanes, sum[r][v] * scale, left);
        }
      }
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

template <class Format>
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
      add_values<Format, R, 4>(b, local, column, t.s, factor, begin, end, values);
      values += a.v_stride ? kPanelKeys : words(Format::kDtype, a.keys) * kPanelKeys;
    }
    switch ((b.width - column) / kLanes) {
      case 1:
        return add_values<Format, R, 1>(b, local, column, t.s, factor, begin, end, values);
      case 2:
        return add_values<Format, R, 2>(b, local, column, t.s, factor, begin, end, values);
      case 3:
        return add_values<Format, R, 3>(b, local, column, t.s, factor, begin, end, values);
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
        const Vec p = exp2_falling((load(t.s[r] + i) - broadcast(maximum)) * broadcast(scale));
        store_up_to(out + i, p / broadcast(total), b.keys - i);
      }
    }
  }
};

template <class Tile>
TREADLE_INLINE void for_each_key_block(QueryBlock& b, std::int64_t begin, std::int64_t end) {
  const std::int64_t first = begin - begin % kKeyBlock;
  std::int64_t key = first;
  do {  // one turn writes the output even if no query sees a key
    b.first = key == first;
    b.last = key + kKeyBlock >= end;
    b.first_key = key;
    b.keys = b.a.keys - key < kKeyBlock ? b.a.keys - key : kKeyBlock;
    for_each_tile<Tile>(b, 0, 1);
    key += kKeyBlock;
  } while (key < end);
}

template <class Format>
void attention(const AttentionArgs& a) {
  QueryBlock b(a);
  for (; b.first_row < a.rows; b.first_row += b.rows) {
    b.rows = a.rows - b.first_row < kQueryBlock ? a.rows - b.first_row : kQueryBlock;
    std::int64_t begin = a.keys, end = 0;
    for (std::int64_t r = 0; r < b.rows; ++r) {
      const std::int64_t row = b.first_row + r;
      fetch(a.q[row], a.key_size);
      fetch(a.out[row], a.value_size);
      begin = a.begin[row] < begin ? a.begin[row] : begin;
      end = a.end[row] > end ? a.end[row] : end;
      b.maximum[r] = kLowest;
    }
    for (std::int64_t i = 0; i < b.rows * kLanes; i += kLanes) store(b.total + i, Vec{});
    for_each_key_block<AttentionTile<Format>>(b, begin, end);
    if (a.probabilities) for_each_key_block<ProbabilitiesTile<Format>>(b, begin, end);
    const float scale = modifies_scores(a) ? 1.0f : a.scale;  // the maximum's factor
    for (std::int64_t r = 0; a.lse && r < b.rows; ++r) {
      *a.lse[b.first_row + r] =
          log_sum(b.maximum[r] * scale, sum_lanes(load(b.total + r * kLanes)));
    }
  }
}

}  // namespace
}  // namespace treadle::TREADLE_ISA

// Attention of a few queries over many keys (decoding): every key and value is read once, as it
// lies, so that the speed is that of the memory. The keys are taken in chunks, each with its own
// maximum; the chunks are joined in their order, whoever computed them.
//
// Within a chunk, a block of keys stays in L1 while all queries use it. Of the queries that share
// the keys (grouped heads), up to four go together: they load each key and value once.
//
// Register budget: as many sums as a vector has lanes (16, 8, 4); a key or value, a broadcast.
#pragma once

#include "kernels/gemm.h"
#include "kernels/scores.h"

namespace weft::WEFT_ISA {
namespace {

constexpr std::int64_t kChunkBlock = 32;  // keys: 32 x 256 floats are 32 KiB

// s[r][j] = q[r] . k[j] for R queries and J keys; Whole: of whole vectors.
template <int R, int J, bool Whole>
WEFT_INLINE void dots(const AttentionArgs& a, std::int64_t row, std::int64_t key, float* s) {
  const float *k = a.k + key * a.k_stride, *q[R];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) q[r] = a.q[row + r];
  const auto read = [&](const float* p, std::int64_t i) {
    return Whole ? load(p + i) : load_up_to(p + i, a.key_size - i);
  };
  Vec sum[R * J] = {};
  for (std::int64_t i = 0; i < a.key_size; i += kLanes) {
#pragma GCC unroll 4
    for (int j = 0; j < J; ++j) {
      const Vec x = read(k + j * a.k_stride, i);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) sum[r * J + j] = fma(read(q[r], i), x, sum[r * J + j]);
    }
  }
  float sums[kLanes];
  store(sums, sum_lanes(sum));
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) std::memcpy(s + r * kChunkKeys, sums + r * J, sizeof(float) * J);
}

// The scores of R queries and the keys [begin, end) of a chunk.
template <int R, bool Whole>
__attribute__((noinline)) void chunk_scores(const AttentionArgs& a, std::int64_t row,
                                            std::int64_t begin, std::int64_t end, float* s) {
  constexpr int J = kLanes / R < 4 ? kLanes / R : 4;
  std::int64_t j = begin;
  for (; j + J <= end; j += J) dots<R, J, Whole>(a, row, a.first + j, s + j);
  for (; j < end; ++j) {
    for (int r = 0; r < R; ++r) {
      dots<1, 1, Whole>(a, row + r, a.first + j, s + r * kChunkKeys + j);
    }
  }
}

// sums[r][0, V vectors) += sum_j weights[r][j] v[j] for R queries; of `size` floats.
template <int R, int V>
WEFT_INLINE void add_values(const float* weights, const float* v, std::int64_t stride,
                            std::int64_t keys, std::int64_t size, float* sums,
                            std::int64_t sums_stride) {
  Vec acc[R][V];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int i = 0; i < V; ++i)
      acc[r][i] = load_up_to(sums + r * sums_stride + i * kLanes, size - i * kLanes);
  }
  for (std::int64_t j = 0; j < keys; ++j, v += stride) {
#pragma GCC unroll 8
    for (int i = 0; i < V; ++i) {
      const Vec value = load_up_to(v + i * kLanes, size - i * kLanes);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r)
        acc[r][i] = fma(broadcast(weights[r * kChunkKeys + j]), value, acc[r][i]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int i = 0; i < V; ++i)
      store_up_to(sums + r * sums_stride + i * kLanes, acc[r][i], size - i * kLanes);
  }
}

// The same for rows of any size.
template <int R>
__attribute__((noinline)) void chunk_values(const AttentionArgs& a, const float* weights,
                                            std::int64_t first, std::int64_t keys, float* sums) {
  constexpr int V = R == 1 ? 8 : kLanes / R;
  const std::int64_t F = a.value_size;
  const float* v = a.v + first * a.v_stride;
  std::int64_t i = 0;
  for (; i + V * kLanes <= F; i += V * kLanes)
    add_values<R, V>(weights, v + i, a.v_stride, keys, V * kLanes, sums + i, F + 2);
  for (; i < F; i += kLanes) {
    const std::int64_t size = F - i < kLanes ? F - i : kLanes;
    add_values<R, 1>(weights, v + i, a.v_stride, keys, size, sums + i, F + 2);
  }
}

// Calls f(R, row) with R = 4, 2 or 1 rows that belong together, for all rows.
template <class Together, class F>
WEFT_INLINE void for_each_rows(std::int64_t rows, Together&& together, F&& f) {
  for (std::int64_t row = 0; row < rows;) {
    std::int64_t n = 1;
    while (n < 4 && row + n < rows && together(row, row + n)) ++n;
    if (n == 4) {
      f(Number<4>{}, row);
    } else if (n >= 2) {
      f(Number<2>{}, row);
      n = 2;
    } else {
      f(Number<1>{}, row);
    }
    row += n;
  }
}

void attention_chunk(const AttentionArgs& a) {
  float s[kChunkQueries][kChunkKeys];
  const std::int64_t keys = a.last - a.first, F = a.value_size;
  for (std::int64_t at = 0; at < keys; at += kChunkBlock) {
    const std::int64_t end = keys - at < kChunkBlock ? keys : at + kChunkBlock;
    for_each_rows(
        a.rows, [](std::int64_t, std::int64_t) { return true; },
        [&](auto rows, std::int64_t row) {
          constexpr int R = decltype(rows)::value;
          const auto scores = a.key_size % kLanes ? chunk_scores<R, false> : chunk_scores<R, true>;
          scores(a, row, at, end, &s[0][0] + row * kChunkKeys);
        });
  }
  const std::int64_t padded = (keys + kLanes - 1) / kLanes * kLanes;
  for (std::int64_t row = 0; row < a.rows; ++row) {
    float* partial = a.partial + row * (F + 2);
    for (std::int64_t i = 0; i < F; ++i) partial[i] = 0;
    std::int64_t low = a.begin[row] - a.first, high = a.end[row] - a.first;
    low = low < 0 ? 0 : low;
    high = high > keys ? keys : high;
    for (std::int64_t j = keys; j < padded; ++j) s[row][j] = 0;
    float maximum = kLowest, total[kLanes] = {};
    if (low < high) {
      change(a, row, s[row], a.first, 0, padded);
      hide(s[row], 0, padded, low, high);
      float factor;
      soften<1>(s + row, 0, padded, kLog2e, &maximum, total, &factor);
    }
    partial[F] = sum_lanes(load(total));
    partial[F + 1] = maximum;
  }
  for (std::int64_t at = 0; at < keys; at += kChunkBlock) {
    const std::int64_t end = keys - at < kChunkBlock ? keys : at + kChunkBlock;
    for_each_rows(
        a.rows,
        [&](std::int64_t row, std::int64_t other) {
          return a.begin[row] == a.begin[other] && a.end[row] == a.end[other];
        },
        [&](auto rows, std::int64_t row) {
          // Only the keys that the rows see: zero times the NaN of another would be NaN.
          const std::int64_t low = a.begin[row] - a.first, high = a.end[row] - a.first;
          const std::int64_t from = low > at ? low : at, to = high < end ? high : end;
          if (from >= to) return;
          chunk_values<decltype(rows)::value>(a, &s[0][0] + row * kChunkKeys + from, a.first + from,
                                              to - from, a.partial + row * (F + 2));
        });
  }
}

void attention_join(const JoinArgs& a) {
  const std::int64_t F = a.value_size, size = F + 2;
  for (std::int64_t row = 0; row < a.rows; ++row) {
    float maximum = kLowest, total = 0;
    for (std::int64_t chunk = 0; chunk < a.chunks; ++chunk) {
      const float found = a.partial[(chunk * a.rows + row) * size + F + 1];
      maximum = found <= maximum ? maximum : found;
    }
    const float from = maximum == kLowest ? 0.0f : maximum;
    float* out = a.out[row];
    for (std::int64_t i = 0; i < F; ++i) out[i] = 0;
    for (std::int64_t chunk = 0; chunk < a.chunks; ++chunk) {
      const float* partial = a.partial + (chunk * a.rows + row) * size;
      const Vec factor = exp2_falling(broadcast((partial[F + 1] - from) * kLog2e));
      total = total + partial[F] * factor[0];
      for (std::int64_t i = 0; i < F; i += kLanes) {
        const Vec sum = fma(load_up_to(partial + i, F - i), factor, load_up_to(out + i, F - i));
        store_up_to(out + i, sum, F - i);
      }
    }
    const Vec divisor = broadcast(total == 0.0f ? 1.0f : total);
    for (std::int64_t i = 0; i < F; i += kLanes) {
      store_up_to(out + i, load_up_to(out + i, F - i) / divisor, F - i);
    }
  }
}

}  // namespace
}  // namespace weft::WEFT_ISA

// This is attention of a few queries over many keys (decoding). Every key and value is read once,
// where it lies, at the speed of memory. Rows of bfloat16 or int8 are widened in registers, so that
// they cost half or a quarter of the bytes. Each chunk of keys has its own maximum; the chunks are
// joined in their order, whoever computed them.
//
// Within a chunk, a block of keys stays in L1 while all queries use it. Of the queries that share
// the keys (grouped heads), up to four go together: they load each key once. Keys and values are
// touched in the order of their addresses, line by line: any other order halves what the hardware's
// prefetcher gives (on Zen 4).
//
// Register budget: the sums take as many registers as a vector has lanes (16, 8, 4), or two rows of
// 8 for values; a key or value and a broadcast take one each.
#pragma once

#include "kernels/gemm.h"
#include "kernels/scores.h"

namespace treadle::TREADLE_ISA {
namespace {

constexpr std::int64_t kChunkBlock = 32;  // keys: 32 x 256 floats are 32 KiB

// A row's lines are asked for in one of three ways, which were chosen by measuring on Zen 4:
// kTouch (up to three queries) touches each line just before its load. The loads wait for their fma
// and reach memory out of order; prefetches never wait, so the hardware's prefetcher sees a stream.
// kPlain does not touch: where vectors lie across lines, as in arrays of NumPy's, a load waits for
// two lines and asks for them by itself, and touching is slower. kAhead (more queries than that)
// fetches into L2 the row that lies kAheadKeys further on, since a row takes so long that the
// hardware's prefetcher falls asleep.
enum class Fetch { kTouch, kPlain, kAhead };
constexpr std::int64_t kFewQueries = 3, kAheadKeys = 64;

template <class T>
constexpr std::int64_t kPerLine = kLine * sizeof(float) / sizeof(T);

template <Fetch F, class T>
TREADLE_INLINE void fetch_row(const AttentionArgs& a, const T* row, std::int64_t key,
                              std::int64_t stride, std::int64_t size) {
  if (F != Fetch::kAhead || key + kAheadKeys >= a.keys) return;
  row += kAheadKeys * stride;
  for (std::int64_t i = 0; i < size; i += kPerLine<T>) __builtin_prefetch(row + i, 0, 2);
}

// Prefetches the cache line that begins at row[i], if one begins there.
template <Fetch F, class T>
TREADLE_INLINE void fetch_line(const T* row, std::int64_t i) {
  if (F == Fetch::kTouch && (kLanes >= kPerLine<T> || i % kPerLine<T> == 0)) {
    __builtin_prefetch(row + i, 0, 2);
  }
}

// Calls f(Number<Fetch>) for so many queries and rows at `p`, `stride` numbers apart.
template <class T, class F>
TREADLE_INLINE void with_fetch(std::int64_t queries, const T* p, std::int64_t stride, F&& f) {
  const auto address = reinterpret_cast<std::uintptr_t>(p);
  if constexpr (kFallback) {
    f(Number<static_cast<int>(Fetch::kPlain)>{});
  } else if (queries > kFewQueries) {
    f(Number<static_cast<int>(Fetch::kAhead)>{});
  } else if (address % (kPerLine<T> * sizeof(T)) == 0 && stride % kPerLine<T> == 0) {
    f(Number<static_cast<int>(Fetch::kTouch)>{});
  } else {
    f(Number<static_cast<int>(Fetch::kPlain)>{});
  }
}

// Computes s[r][j] = q[r] . k[j] for R queries and J keys; Whole: they are whole vectors.
template <class T, int R, int J, bool Whole, Fetch F>
TREADLE_INLINE void dots(const AttentionArgs& a, std::int64_t row, std::int64_t key, float* s) {
  const T* k = static_cast<const T*>(a.stored_k) + key * a.k_stride;
  const float* q[R];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) q[r] = a.q[row + r];
  const auto read = [&](const auto* p, std::int64_t i) {
    return Whole ? widen(p + i) : widen_up_to(p + i, a.key_size - i);
  };
  Vec sum[R * J] = {};
#pragma GCC unroll 4
  for (int j = 0; j < J; ++j, k += a.k_stride) {
    fetch_row<F>(a, k, key + j, a.k_stride, a.key_size);
    for (std::int64_t i = 0; i < a.key_size; i += kLanes) {
      fetch_line<F>(k, i);
      const Vec x = read(k, i);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) sum[r * J + j] = fma(read(q[r], i), x, sum[r * J + j]);
    }
  }
  float sums[kLanes];
  store(sums, sum_lanes(sum));
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) std::memcpy(s + r * kChunkKeys, sums + r * J, sizeof(float) * J);
}

// Computes the scores of R queries and the keys [begin, end) of a chunk.
template <class T, int R, bool Whole, Fetch F>
__attribute__((noinline)) void chunk_scores(const AttentionArgs& a, std::int64_t row,
                                            std::int64_t begin, std::int64_t end, float* s) {
  constexpr int J = kLanes / R < 4 ? kLanes / R : 4;
  std::int64_t j = begin;
  for (; j + J <= end; j += J) dots<T, R, J, Whole, F>(a, row, a.first + j, s + j);
  for (; j < end; ++j) {
    for (int r = 0; r < R; ++r) {
      dots<T, 1, 1, Whole, F>(a, row + r, a.first + j, s + r * kChunkKeys + j);
    }
  }
}

// sums[r][0, V vectors) += sum_j probabilities[r][j] v[j] for R queries and the keys first + [0,
// keys).
template <class T, int R, int V, Fetch F>
TREADLE_INLINE void add_values(const AttentionArgs& a, const float* probabilities,
                               std::int64_t first, std::int64_t keys, std::int64_t column,
                               float* sums) {
  const std::int64_t stride = a.v_stride, left = a.value_size - column;
  const std::int64_t size = left < V * kLanes ? left : V * kLanes, row = a.value_size + 2;
  const T* v = static_cast<const T*>(a.stored_v) + first * stride + column;
  const auto read = [&](const auto* p, int i) {
    return V > 1 ? widen(p + i * kLanes) : widen_up_to(p, size);
  };
  Vec acc[R][V];
#pragma GCC unroll 2
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int i = 0; i < V; ++i) acc[r][i] = read(sums + r * row, i);
  }
  for (std::int64_t j = 0; j < keys; ++j, v += stride) {
    fetch_row<F>(a, v, first + j, stride, size);
#pragma GCC unroll 8
    for (int i = 0; i < V; ++i) {
      fetch_line<F>(v, i * kLanes);
      const Vec value = read(v, i);
#pragma GCC unroll 2
      for (int r = 0; r < R; ++r)
        acc[r][i] = fma(broadcast(probabilities[r * kChunkKeys + j]), value, acc[r][i]);
    }
  }
#pragma GCC unroll 2
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int i = 0; i < V; ++i)
      store_up_to(sums + r * row + i * kLanes, acc[r][i], size - i * kLanes);
  }
}

// Adds probability times value for all columns, in as few passes over the rows as registers allow.
template <class T, int R, Fetch F>
__attribute__((noinline)) void chunk_values(const AttentionArgs& a, const float* probabilities,
                                            std::int64_t first, std::int64_t keys, float* sums) {
  std::int64_t i = 0;
  const auto add = [&](auto vectors) {
    constexpr int V = decltype(vectors)::value;
    for (; i + V * kLanes <= a.value_size; i += V * kLanes) {
      add_values<T, R, V, F>(a, probabilities, first, keys, i, sums + i);
    }
  };
  if constexpr (kLanes == 16 || R == 1) add(Number<8>{});
  add(Number<4>{});
  add(Number<2>{});
  for (; i < a.value_size; i += kLanes)
    add_values<T, R, 1, F>(a, probabilities, first, keys, i, sums + i);
}

// Calls f(R, row) with R = 4, 2 or 1 rows that belong together, at most Most, for all rows.
template <int Most, class Together, class F>
TREADLE_INLINE void for_each_rows(std::int64_t rows, Together&& together, F&& f) {
  for (std::int64_t row = 0; row < rows;) {
    std::int64_t n = 1;
    while (n < Most && row + n < rows && together(row, row + n)) ++n;
    if (n == 4) {
      if constexpr (Most == 4) f(Number<4>{}, row);
    } else if (n >= 2) {
      f(Number<2>{}, row);
      n = 2;
    } else {
      f(Number<1>{}, row);
    }
    row += n;
  }
}

// Computes x[0, n) *= scale[0, n) for int8; a null scale changes nothing.
TREADLE_INLINE void rescale(float* x, const float* scale, std::int64_t n) {
  for (std::int64_t i = 0; scale && i < n; i += kLanes) {
    store_up_to(x + i, load_up_to(x + i, n - i) * load_up_to(scale + i, n - i), n - i);
  }
}

// Turns the products of a row with the keys [0, keys) of a chunk into scores; only keys in [low,
// high) are seen.
TREADLE_INLINE void finish_scores(const AttentionArgs& a, std::int64_t row, float* s,
                                  std::int64_t keys, std::int64_t low, std::int64_t high) {
  const std::int64_t padded = (keys + kLanes - 1) / kLanes * kLanes;
  for (std::int64_t j = keys; j < padded; ++j) s[j] = 0;
  rescale(s, a.k_scale ? a.k_scale + a.first : nullptr, keys);
  modify_scores(a, row, s, a.first, 0, padded);
  mask_range(s, 0, padded, low, high);
}

// Adds the values of a row again whose sums are not finite: of the keys in [low, high), those alone
// that the row sees, since zero times another key's NaN is NaN. `seen` is room for scores.
template <class T>
__attribute__((noinline)) void add_seen_values(const AttentionArgs& a, std::int64_t row,
                                               const float* probabilities, float* seen,
                                               std::int64_t low, std::int64_t high) {
  const std::int64_t keys = a.last - a.first, F = a.value_size;
  chunk_scores<T, 1, false, Fetch::kPlain>(a, row, 0, keys, seen);
  finish_scores(a, row, seen, keys, low, high);
  float* const sums = a.partial + row * (F + 2);
  for (std::int64_t i = 0; i < F; ++i) sums[i] = 0;
  for (std::int64_t j = low; j < high; ++j) {
    if (seen[j] == kLowest) continue;
    std::int64_t end = j + 1;
    while (end < high && seen[end] != kLowest) ++end;
    chunk_values<T, 1, Fetch::kPlain>(a, probabilities + j, a.first + j, end - j, sums);
    j = end;
  }
}

// T is the type in which the rows of keys and values are stored (widen in dot.h).
template <class T>
void attention_chunk(const AttentionArgs& a) {
  auto* const s = reinterpret_cast<float (*)[kChunkKeys]>(a.scratch);
  const std::int64_t keys = a.last - a.first, F = a.value_size;
  const auto range = [&](std::int64_t row, std::int64_t& low, std::int64_t& high) {
    low = a.begin[row] - a.first;
    high = a.end[row] - a.first;
    low = low < 0 ? 0 : low;
    high = high > keys ? keys : high;
  };
  for (std::int64_t at = 0; at < keys; at += kChunkBlock) {
    const std::int64_t end = keys - at < kChunkBlock ? keys : at + kChunkBlock;
    for_each_rows<4>(
        a.rows, [](std::int64_t, std::int64_t) { return true; },
        [&](auto rows, std::int64_t row) {
          constexpr int R = decltype(rows)::value;
          with_fetch(R, static_cast<const T*>(a.stored_k), a.k_stride, [&](auto fetch) {
            constexpr Fetch F = static_cast<Fetch>(decltype(fetch)::value);
            const auto scores =
                a.key_size % kLanes ? chunk_scores<T, R, false, F> : chunk_scores<T, R, true, F>;
            scores(a, row, at, end, s[row]);
          });
        });
  }
  const std::int64_t padded = (keys + kLanes - 1) / kLanes * kLanes;
  for (std::int64_t row = 0; row < a.rows; ++row) {
    float* partial = a.partial + row * (F + 2);
    for (std::int64_t i = 0; i < F; ++i) partial[i] = 0;
    std::int64_t low, high;
    range(row, low, high);
    float maximum = kLowest, total[kLanes] = {};
    if (low < high) {
      finish_scores(a, row, s[row], keys, low, high);
      float factor;
      online_softmax<1>(s + row, 0, padded, kLog2e, &maximum, total, &factor);
      rescale(s[row] + low, a.v_scale ? a.v_scale + a.first + low : nullptr, high - low);
    }
    partial[F] = sum_lanes(load(total));
    partial[F + 1] = maximum;
  }
  for (std::int64_t at = 0; at < keys; at += kChunkBlock) {
    const std::int64_t end = keys - at < kChunkBlock ? keys : at + kChunkBlock;
    for_each_rows<2>(
        a.rows,
        [&](std::int64_t row, std::int64_t other) {
          return a.begin[row] == a.begin[other] && a.end[row] == a.end[other];
        },
        [&](auto rows, std::int64_t row) {
          const std::int64_t low = a.begin[row] - a.first, high = a.end[row] - a.first;
          const std::int64_t from = low > at ? low : at, to = high < end ? high : end;
          if (from >= to) return;
          constexpr int R = decltype(rows)::value;
          with_fetch(a.rows, static_cast<const T*>(a.stored_v), a.v_stride, [&](auto fetch) {
            chunk_values<T, R, static_cast<Fetch>(decltype(fetch)::value)>(
                a, s[row] + from, a.first + from, to - from, a.partial + row * (F + 2));
          });
        });
  }
  for (std::int64_t row = 0; row < a.rows; ++row) {
    if (is_finite({a.partial + row * (F + 2), 1, F, 0})) continue;
    std::int64_t low, high;
    range(row, low, high);
    if (low < high) add_seen_values<T>(a, row, s[row], s[a.rows], low, high);
  }
}

// Decodes stored rows to floats, one behind the other.
template <class T>
void decode(const DecodeArgs& a) {
  for (std::int64_t row = 0; row < a.rows; ++row) {
    const T* from = static_cast<const T*>(a.from) + row * a.stride;
    const Vec scale = broadcast(a.scale ? a.scale[row] : 1.0f);
    float* to = a.to + row * a.size;
    for (std::int64_t i = 0; i < a.size; i += kLanes) {
      store_up_to(to + i, widen_up_to(from + i, a.size - i) * scale, a.size - i);
    }
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
    if (a.lse) *a.lse[row] = log_sum(maximum, total);
    const Vec divisor = broadcast(total == 0.0f ? 1.0f : total);
    for (std::int64_t i = 0; i < F; i += kLanes) {
      store_up_to(out + i, load_up_to(out + i, F - i) / divisor, F - i);
    }
  }
}

}  // namespace
}  // namespace treadle::TREADLE_ISA

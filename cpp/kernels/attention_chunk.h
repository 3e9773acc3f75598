// Attention of a few queries over many keys (decoding): every key and value is read once, as it
// lies, so that the speed is that of the memory. The keys are taken in chunks, each with its own
// maximum; the chunks are joined in their order, whoever computed them.
//
// Within a chunk, a block of keys stays in L1 while all queries use it.
#pragma once

#include "kernels/scores.h"

namespace weft::WEFT_ISA {
namespace {

constexpr std::int64_t kChunkBlock = 32;  // keys: 32 x 256 floats are 32 KiB

WEFT_INLINE float dot(const float* a, const float* b, std::int64_t n) {
  Vec sum[2] = {};
  std::int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    sum[0] = fma(load(a + i), load(b + i), sum[0]);
    sum[1] = fma(load(a + i + kLanes), load(b + i + kLanes), sum[1]);
  }
  for (; i < n; i += kLanes) {
    sum[0] = fma(load_up_to(a + i, n - i), load_up_to(b + i, n - i), sum[0]);
  }
  return sum_lanes(sum[0] + sum[1]);
}

// sums[0, V vectors) += sum_j weights[j] v[j], of `size` floats.
template <int V>
WEFT_INLINE void add_values(const float* weights, const float* v, std::int64_t stride,
                            std::int64_t keys, std::int64_t size, float* sums) {
  Vec acc[V];
#pragma GCC unroll 8
  for (int i = 0; i < V; ++i) acc[i] = load_up_to(sums + i * kLanes, size - i * kLanes);
  for (std::int64_t j = 0; j < keys; ++j, v += stride) {
#pragma GCC unroll 8
    for (int i = 0; i < V; ++i) {
      acc[i] = fma(broadcast(weights[j]), load_up_to(v + i * kLanes, size - i * kLanes), acc[i]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < V; ++i) store_up_to(sums + i * kLanes, acc[i], size - i * kLanes);
}

void attention_chunk(const AttentionArgs& a) {
  float s[kChunkQueries][kChunkKeys];
  const std::int64_t keys = a.last - a.first, F = a.value_size;
  for (std::int64_t at = 0; at < keys; at += kChunkBlock) {
    const std::int64_t end = keys - at < kChunkBlock ? keys : at + kChunkBlock;
    for (std::int64_t row = 0; row < a.rows; ++row) {
      for (std::int64_t j = at; j < end; ++j) {
        s[row][j] = dot(a.q[row], a.k + (a.first + j) * a.k_stride, a.key_size);
      }
    }
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
    const std::int64_t count = keys - at < kChunkBlock ? keys - at : kChunkBlock;
    for (std::int64_t row = 0; row < a.rows; ++row) {
      // Only the keys that the row sees: zero times the NaN of another would be NaN.
      const std::int64_t low = a.begin[row] - a.first, high = a.end[row] - a.first;
      const std::int64_t from = low > at ? low : at, to = high < at + count ? high : at + count;
      if (from >= to) continue;
      const float* v = a.v + (a.first + from) * a.v_stride;
      const float* weights = s[row] + from;
      float* sums = a.partial + row * (F + 2);
      std::int64_t i = 0;
      for (; i + 8 * kLanes <= F; i += 8 * kLanes)
        add_values<8>(weights, v + i, a.v_stride, to - from, 8 * kLanes, sums + i);
      for (; i + 2 * kLanes <= F; i += 2 * kLanes)
        add_values<2>(weights, v + i, a.v_stride, to - from, 2 * kLanes, sums + i);
      for (; i < F; i += kLanes)
        add_values<1>(weights, v + i, a.v_stride, to - from, F - i, sums + i);
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
    const Vec divisor = broadcast(total == 0.0f ? 1.0f : total);
    for (std::int64_t i = 0; i < F; i += kLanes) {
      store_up_to(out + i, load_up_to(out + i, F - i) / divisor, F - i);
    }
  }
}

}  // namespace
}  // namespace weft::WEFT_ISA

// What the machine can do at best: the denominators of every "percent of limit".
#pragma once

#include "kernels/table.h"
#include "simd/simd.h"

namespace weft::WEFT_ISA {
namespace {

// Independent sums, enough to hide the latency of fma on every CPU so far (up to 5 cycles, 2 a
// cycle).
constexpr int kFmaChains = 12;
constexpr int kFmaFlops = 2 * kFmaChains * kLanes;

float fma_loop(std::int64_t rounds) {
  Vec sum[kFmaChains];
#pragma GCC unroll 12
  for (int i = 0; i < kFmaChains; ++i) sum[i] = broadcast(static_cast<float>(i));
  Vec a = broadcast(0.999f), b = broadcast(0.001f);
  for (std::int64_t n = 0; n < rounds; ++n) {
#pragma GCC unroll 12
    for (int i = 0; i < kFmaChains; ++i) sum[i] = fma(sum[i], a, b);
  }
  Vec total{};
#pragma GCC unroll 12
  for (int i = 0; i < kFmaChains; ++i) total = total + sum[i];
  return total[0];
}

float read_loop(const float* p, std::int64_t floats) {
  Vec sum[8] = {};
  for (std::int64_t i = 0; i < floats; i += 8 * kLanes) {
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) {
      sum[j] = as_floats(as_ints(sum[j]) | as_ints(load(p + i + j * kLanes)));
    }
  }
  Vec total{};
#pragma GCC unroll 8
  for (int j = 0; j < 8; ++j) total = as_floats(as_ints(total) | as_ints(sum[j]));
  return total[0];
}

}  // namespace
}  // namespace weft::WEFT_ISA

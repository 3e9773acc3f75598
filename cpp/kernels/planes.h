// Products over planes, whose pixels lie side by side: spatial_args.h has the formula.
//
// A vector holds pixels, and weights are broadcast: a tile of R outputs times V vectors keeps its
// sums in registers, as the tiles of kernels/gemm.h do with the two exchanged. The order of the
// sums, and so the bits, is theirs.
#pragma once

#include "kernels/gemm.h"

namespace treadle::TREADLE_ISA {
namespace {

// A tile whose last vector has `rest` pixels, possibly all, and surely all if Whole. Inlined, all
// tiles together would fill a small stack.
template <int R, int V, bool Whole>
__attribute__((noinline)) void planes_tile(const PlanesArgs& a, std::int64_t output,
                                           std::int64_t column, std::int64_t rest) {
  const auto read = [&](const float* from, int v) {
    if constexpr (Whole) return load(from + v * kLanes);
    return v < V - 1 ? load(from + v * kLanes) : load_up_to(from + v * kLanes, rest);
  };
  const float* w = a.weights + output;
  const std::int64_t first = a.x_offset + column;
  float total[R * V * kLanes];
  for (std::int64_t begin = 0;; begin += a.block) {
    const std::int64_t end = a.k - begin <= a.block ? a.k : begin + a.block;
    Vec sum[R][V] = {};
    for (std::int64_t k = begin; k < end; ++k, w += a.weight_stride) {
      const float* const x = a.x[k] + first;
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        const Vec pixels = read(x, v);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) sum[r][v] = fma(broadcast(w[r]), pixels, sum[r][v]);
      }
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const Vec bias = a.bias ? broadcast(a.bias[output + r]) : Vec{};
      float* const out = a.out + (output + r) * a.out_stride + column;
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        float* const kept = total + (r * V + v) * kLanes;
        const Vec y = (begin ? load(kept) : bias) + sum[r][v];
        if (end < a.k) {
          store(kept, y);
          continue;
        }
        const Vec clipped = max(broadcast(a.low), min(broadcast(a.high), y));
        if (Whole || v < V - 1) {
          store(out + v * kLanes, clipped);
        } else {
          store_up_to(out + v * kLanes, clipped, rest);
        }
      }
    }
    if (end == a.k) return;
  }
}

// Some outputs of all columns: R of them, R being at most twice kMaxRows for one or two vectors.
template <int R>
TREADLE_INLINE void planes_outputs(const PlanesArgs& a, std::int64_t output) {
  constexpr std::int64_t kStrip = 4 * kLanes;
  std::int64_t column = 0;
  for (; column + kStrip <= a.columns; column += kStrip) {
    planes_tile<R, 4, true>(a, output, column, kLanes);
  }
  const std::int64_t left = a.columns - column, rest = (left + kLanes - 1) % kLanes + 1;
  const auto run = [&](auto vectors) {
    planes_tile<R, decltype(vectors)::value, false>(a, output, column, rest);
  };
  switch ((left + kLanes - 1) / kLanes) {
    case 1:
      return run(Number<1>());
    case 2:
      return run(Number<2>());
    case 3:
      return run(Number<3>());
    case 4:
      return run(Number<4>());
  }
}

void planes(const PlanesArgs& a) {
  const std::int64_t tiles = (a.outputs + kMaxRows - 1) / kMaxRows;
  std::int64_t output = 0;
  for (std::int64_t i = 0; i < tiles; ++i) {
    const std::int64_t count = (a.outputs - output) / (tiles - i);
    switch (count) {
      case 1:
        planes_outputs<1>(a, output);
        break;
      case 2:
        planes_outputs<2>(a, output);
        break;
#if !defined(TREADLE_ISA_portable)
      case 3:
        planes_outputs<3>(a, output);
        break;
#endif
#if defined(TREADLE_ISA_avx512) || defined(TREADLE_ISA_neon)
      case 4:
        planes_outputs<4>(a, output);
        break;
      case 5:
        planes_outputs<5>(a, output);
        break;
      case 6:
        planes_outputs<6>(a, output);
        break;
#endif
    }
    output += count;
  }
}

}  // namespace
}  // namespace treadle::TREADLE_ISA

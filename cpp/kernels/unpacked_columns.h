// Products of few rows with W [k, columns], transposed weights that are not packed. They are needed
// on the way back through a net. The order of the sums, and so the bits, is that of `accumulate`.
//
// The weights of a step lie side by side. A strip of columns keeps its sums in L1 and goes through
// kStripSteps steps at a time, so that memory is read in long runs.
#pragma once

#include "kernels/gemm.h"

namespace treadle::TREADLE_ISA {
namespace {

// Calls run(rows, row), the first a Number, over all rows.
template <class Run>
TREADLE_INLINE void for_few_rows(std::int64_t rows, Run run) {
  std::int64_t row = 0;
  for (; row + 4 <= rows; row += 4) run(Number<4>(), row);
  for (; row + 2 <= rows; row += 2) run(Number<2>(), row);
  if (row < rows) run(Number<1>(), row);
}

constexpr int kStripSteps = 8;

template <int R>
void unpacked_strip(const LinearArgs& a, std::int64_t row, std::int64_t first, std::int64_t n) {
  constexpr std::int64_t kStrip = kUnpackedStrip;
  float total[R][kStrip] = {}, sum[R][kStrip];
  for (std::int64_t begin = 0; begin < a.k; begin += kSumBlock) {
    const std::int64_t end = a.k - begin < kSumBlock ? a.k : begin + kSumBlock;
    std::memset(sum, 0, sizeof sum);
    for (std::int64_t k = begin; k < end; k += kStripSteps) {
      const int steps = end - k < kStripSteps ? static_cast<int>(end - k) : kStripSteps;
      const float* const* from = a.unpacked + k;
      const float* x[R];
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) x[r] = a.x[row + r] + k;
      std::int64_t i = 0;
      if (steps == kStripSteps) {
        const float* w[kStripSteps];
#pragma GCC unroll 8
        for (int j = 0; j < kStripSteps; ++j) w[j] = from[j] + first;
        for (; i + kLanes <= n; i += kLanes) {
          Vec s[R];
#pragma GCC unroll 4
          for (int r = 0; r < R; ++r) s[r] = load(sum[r] + i);
#pragma GCC unroll 8
          for (int j = 0; j < kStripSteps; ++j) {
            const Vec v = load(w[j] + i);
#pragma GCC unroll 4
            for (int r = 0; r < R; ++r) s[r] = fma(broadcast(x[r][j]), v, s[r]);
          }
#pragma GCC unroll 4
          for (int r = 0; r < R; ++r) store(sum[r] + i, s[r]);
        }
      }
      for (; i < n; i += kLanes) {
        for (int r = 0; r < R; ++r) {
          Vec s = load(sum[r] + i);
          for (int j = 0; j < steps; ++j) {
            s = fma(broadcast(x[r][j]), load_up_to(from[j] + first + i, n - i), s);
          }
          store(sum[r] + i, s);
        }
      }
    }
    for (int r = 0; r < R; ++r) {
      for (std::int64_t i = 0; i < n; i += kLanes) {
        store(total[r] + i, load(total[r] + i) + load(sum[r] + i));
      }
    }
  }
  for (int r = 0; r < R; ++r) {
    for (std::int64_t i = 0; i < n; i += kLanes) {
      Vec y = load(total[r] + i);
      if (a.residual) y = y + load_up_to(a.residual[row + r] + first + i, n - i);
      store_up_to(a.out[row + r] + a.out_offset + first + i, y, n - i);
    }
  }
}

// Takes the panels of a product as `linear` does.
template <class Format>
void unpacked_columns(const LinearArgs& a) {
  static_assert(Format::kDtype == Dtype::float32);
  const std::int64_t width = static_cast<std::int64_t>(a.vectors) * kLanes;
  const std::int64_t end = a.panel_end * width < a.columns ? a.panel_end * width : a.columns;
  for (std::int64_t first = a.panel_begin * width; first < end; first += kUnpackedStrip) {
    const std::int64_t n = end - first < kUnpackedStrip ? end - first : kUnpackedStrip;
    for_few_rows(a.rows, [&](auto rows, std::int64_t row) {
      unpacked_strip<decltype(rows)::value>(a, row, first, n);
    });
  }
}

}  // namespace
}  // namespace treadle::TREADLE_ISA

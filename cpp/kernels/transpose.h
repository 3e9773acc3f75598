// to[c, r] = from[r, c]: squares of kLanes rows and columns are turned in registers.
#pragma once

#include "kernels/table.h"
#include "simd/simd.h"

namespace treadle::TREADLE_ISA {
namespace {

// Turns up to kLanes rows and columns.
TREADLE_INLINE void transpose_square(const float* from, std::int64_t from_stride, std::int64_t rows,
                                     std::int64_t columns, float* to, std::int64_t to_stride) {
  Vec square[kLanes];
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) {
    square[i] = i < rows ? load_up_to(from + i * from_stride, columns) : Vec{};
  }
  transpose(square);
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) {
    if (i < columns) store_up_to(to + i * to_stride, square[i], rows);
  }
}

void transpose_matrix(const TransposeArgs& a) {
  for (std::int64_t c = 0; c < a.columns; c += kLanes) {
    for (std::int64_t r = 0; r < a.rows; r += kLanes) {
      const float* from = a.from + r * a.from_stride + c;
      float* to = a.to + c * a.to_stride + r;
      if (a.rows - r >= kLanes && a.columns - c >= kLanes) {
        transpose_square(from, a.from_stride, kLanes, kLanes, to, a.to_stride);
      } else {
        const std::int64_t rows = a.rows - r < kLanes ? a.rows - r : kLanes;
        const std::int64_t columns = a.columns - c < kLanes ? a.columns - c : kLanes;
        transpose_square(from, a.from_stride, rows, columns, to, a.to_stride);
      }
    }
  }
}

}  // namespace
}  // namespace treadle::TREADLE_ISA

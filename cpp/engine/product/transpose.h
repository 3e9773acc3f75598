// transpose copies a matrix of floats with its axes exchanged: to[c, r] = from[r, c].
#pragma once

#include <cstdint>
#include <cstring>

namespace treadle {

// The rows of `from` lie `from_stride` floats apart, those of `to` lie `to_stride` floats apart.
// Four rows and columns are exchanged at a time, in registers.
inline void transpose(const float* from, std::int64_t from_stride, std::int64_t rows,
                      std::int64_t columns, float* to, std::int64_t to_stride) {
  typedef float Four __attribute__((vector_size(16)));
  const std::int64_t whole_rows = rows - rows % 4, whole_columns = columns - columns % 4;
  for (std::int64_t r = 0; r < whole_rows; r += 4) {
    const float* source = from + r * from_stride;
    for (std::int64_t c = 0; c < whole_columns; c += 4) {
      Four a, b, d, e;
      std::memcpy(&a, source + c, sizeof(a));
      std::memcpy(&b, source + from_stride + c, sizeof(b));
      std::memcpy(&d, source + 2 * from_stride + c, sizeof(d));
      std::memcpy(&e, source + 3 * from_stride + c, sizeof(e));
      const Four low_ab = __builtin_shufflevector(a, b, 0, 4, 1, 5);
      const Four high_ab = __builtin_shufflevector(a, b, 2, 6, 3, 7);
      const Four low_de = __builtin_shufflevector(d, e, 0, 4, 1, 5);
      const Four high_de = __builtin_shufflevector(d, e, 2, 6, 3, 7);
      const Four out[4] = {__builtin_shufflevector(low_ab, low_de, 0, 1, 4, 5),
                           __builtin_shufflevector(low_ab, low_de, 2, 3, 6, 7),
                           __builtin_shufflevector(high_ab, high_de, 0, 1, 4, 5),
                           __builtin_shufflevector(high_ab, high_de, 2, 3, 6, 7)};
      for (int i = 0; i < 4; ++i) {
        std::memcpy(to + (c + i) * to_stride + r, &out[i], sizeof(out[i]));
      }
    }
    for (std::int64_t c = whole_columns; c < columns; ++c) {
      for (int i = 0; i < 4; ++i) to[c * to_stride + r + i] = source[i * from_stride + c];
    }
  }
  for (std::int64_t r = whole_rows; r < rows; ++r) {
    for (std::int64_t c = 0; c < columns; ++c) to[c * to_stride + r] = from[r * from_stride + c];
  }
}

}  // namespace treadle

#include "engine/graph/strides.h"

#include <cstring>

#include "engine/product/transpose.h"

namespace treadle::graph {
namespace {

// Columns of `from` lie one behind the other along its rows: to[r, c] = from[c, r].
template <class T>
void copy_transposed(const T* from, std::int64_t from_step, std::int64_t rows, std::int64_t columns,
                     T* to, std::int64_t to_row) {
  constexpr std::int64_t kTile = 32;
  for (std::int64_t r = 0; r < rows; r += kTile) {
    const std::int64_t R = std::min(kTile, rows - r);
    for (std::int64_t c = 0; c < columns; c += kTile) {
      const std::int64_t C = std::min(kTile, columns - c);
      const T* source = from + c * from_step + r;
      T* target = to + r * to_row + c;
      if constexpr (sizeof(T) == sizeof(float)) {
        transpose(reinterpret_cast<const float*>(source), from_step, C, R,
                  reinterpret_cast<float*>(target), to_row);
      } else {
        for (std::int64_t i = 0; i < R; ++i) {
          for (std::int64_t j = 0; j < C; ++j) target[i * to_row + j] = source[j * from_step + i];
        }
      }
    }
  }
}

template <class T>
void copy_row(const T* from, std::int64_t from_step, std::int64_t n, T* to, std::int64_t to_step) {
  if (from_step == 1 && to_step == 1) {
    std::memcpy(to, from, static_cast<std::size_t>(n) * sizeof(T));
  } else if (from_step == 0 && to_step == 1) {
    std::fill_n(to, n, *from);
  } else {
    for (std::int64_t i = 0; i < n; ++i) to[i * to_step] = from[i * from_step];
  }
}

template <class T>
void copy_as(Call& call, const StridedLoop<2>& loop, T* to, const T* from) {
  const std::int64_t to_row = loop.row_step(0), to_step = loop.step(0);
  const std::int64_t from_row = loop.row_step(1), from_step = loop.step(1);
  const bool transposed = to_step == 1 && from_row == 1 && from_step > 1 && to_row > 0;
  constexpr double kWork = sizeof(T) * 2.5;  // 20 GB/s
  loop.run(call, kWork, [&](const std::int64_t (&offsets)[2], std::int64_t rows, std::int64_t n) {
    T* target = to + offsets[0];
    const T* source = from + offsets[1];
    if (transposed) return copy_transposed(source, from_step, rows, n, target, to_row);
    for (std::int64_t r = 0; r < rows; ++r) {
      copy_row(source + r * from_row, from_step, n, target + r * to_row, to_step);
    }
  });
}

}  // namespace

Shape broadcast(const Shape& a, const Shape& b) {
  const Shape& longer = a.rank() >= b.rank() ? a : b;
  const Shape& shorter = a.rank() >= b.rank() ? b : a;
  std::int64_t sizes[kMaxRank];
  const int missing = longer.rank() - shorter.rank();
  for (int axis = 0; axis < longer.rank(); ++axis) {
    const std::int64_t one = longer[axis], other = axis < missing ? 1 : shorter[axis - missing];
    if (one != other && one != 1 && other != 1) {
      refuse("shapes " + a.text() + " and " + b.text() + " do not broadcast");
    }
    sizes[axis] = one == 1 ? other : one;
  }
  return Shape(sizes, static_cast<std::size_t>(longer.rank()));
}

void copy_strided(Call& call, StridedLoop<2> loop, char* to, const char* from, int element_size) {
  loop.bring_to_rows(1);
  with_size(element_size, [&](auto zero) {
    using T = decltype(zero);
    copy_as<T>(call, loop, reinterpret_cast<T*>(to), reinterpret_cast<const T*>(from));
  });
}

}  // namespace treadle::graph

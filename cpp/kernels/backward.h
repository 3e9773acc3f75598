// A step of the backward pass: a product brings the gradient from the next step; then the epilogue
// turns each hidden unit's output gradient into the gradients of its pre-activations.
//
// The sums of a tile go through L1 to the epilogue, which would not fit beside them into registers.
// With 4 H terms in a sum that costs little.
#pragma once

#include "kernels/gemm.h"

namespace treadle::TREADLE_ISA {
namespace {

// A vector of units of one row, from `unit` on; `left` units, possibly more than a vector, remain.
struct BackwardUnits {
  const BackwardArgs& a;
  std::int64_t row, unit, left;

  TREADLE_INLINE Vec read(const float* const* rows, int part = 0) const {
    return load_up_to(rows[row] + part * a.hidden_size + unit, left);
  }
  TREADLE_INLINE void write(float* const* rows, Vec v, int part = 0) const {
    store_up_to(rows[row] + part * a.hidden_size + unit, v, left);
  }
};

// Calls Epilogue::units(units, d) for all units of a tile. A row of `saved` and of `out` has
// Epilogue::kParts parts of H floats.
template <class Epilogue>
__attribute__((noinline)) void backward_units(const BackwardArgs& a, std::int64_t row, int rows,
                                              std::int64_t unit, const float* sums,
                                              std::int64_t columns) {
  for (int r = 0; r < rows; ++r) {
    for (std::int64_t i = 0; i < columns && unit + i < a.hidden_size; i += kLanes) {
      const BackwardUnits u{a, row + r, unit + i, a.hidden_size - unit - i};
      Vec d = load(sums + r * columns + i);
      if (a.dy) d = d + u.read(a.dy);
      if (a.carry) d = d + u.read(a.carry);
      Epilogue::units(u, d);
    }
  }
}

template <class Epilogue>
struct Backward {
  // The cache lines that R rows of so many vectors will touch for the first time since the forward.
  template <int R, int Vectors>
  static TREADLE_INLINE auto epilogue_lines(const BackwardArgs& a, std::int64_t row,
                                            std::int64_t panel) {
    constexpr int kParts = Epilogue::kParts;
    const std::int64_t unit = panel * kBackwardVectors * kLanes;
    const float* const* const whole[] = {a.dy, a.old, a.c};
    EpiloguePrefetch<Vectors * kLanes, R * (2 * kParts + 3)> lines;
    for (std::int64_t r = row; r < row + R; ++r) {
      for (const float* const* rows : whole) {
        if (rows) lines.add(rows[r] + unit);
      }
      for (int part = 0; part < kParts; ++part) {
        lines.add(a.saved[r] + part * a.hidden_size + unit);
        lines.add(a.out[r] + part * a.hidden_size + unit);
      }
    }
    return lines;
  }

  template <int V>
  struct Tile {
    template <int R, int P>
    static void tile(const BackwardArgs& a, std::int64_t row, std::int64_t panel) {
      constexpr std::int64_t kColumns = P * V * kLanes;
      Vec acc[R][P * V] = {};
      if (a.product) {
        for (int r = 0; r < R; ++r) {
          for (int i = 0; i < P * V; ++i) {
            const std::int64_t unit = (panel * kBackwardVectors + i) * kLanes;
            acc[r][i] = load_up_to(a.product[row + r] + unit, a.hidden_size - unit);
          }
        }
      } else if (a.next) {
        accumulate<Float32, R, P, V, V, V - 1>(acc, a.next + row, a.depth,
                                               a.weights + panel * a.panel_stride, a.panel_stride,
                                               epilogue_lines<R, P * V>(a, row, panel));
      }
      float sums[R][kColumns];
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
        for (int i = 0; i < P * V; ++i) store(sums[r] + i * kLanes, acc[r][i]);
      }
      backward_units<Epilogue>(a, row, R, panel * kBackwardVectors * kLanes, sums[0], kColumns);
    }
  };

  static void step(const BackwardArgs& a) {
    for_each_plain_tile<Tile>(a, a.hidden_size, kBackwardVectors);
  }
};

}  // namespace
}  // namespace treadle::TREADLE_ISA

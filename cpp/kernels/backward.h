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

// Calls Epilogue::units(units, d) for all units of a tile.
template <class Epilogue>
void backward_units(const BackwardArgs& a, std::int64_t row, int rows, std::int64_t unit,
                    const float* sums, std::int64_t columns) {
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

// The arguments with the epilogue of a cell, which all tiles call: they differ in nothing else.
struct BackwardStep : BackwardArgs {
  void (*units)(const BackwardArgs&, std::int64_t row, int rows, std::int64_t unit,
                const float* sums, std::int64_t columns);
  int parts;  // of H floats, in a row of `saved` and of `out`
};
constexpr int kMostParts = 4;

// Reads the sums of a tile that are known already.
__attribute__((noinline)) void read_product(const BackwardArgs& a, std::int64_t row, int rows,
                                            std::int64_t unit, float* sums, std::int64_t columns) {
  for (int r = 0; r < rows; ++r) {
    for (std::int64_t i = 0; i < columns; i += kLanes) {
      const std::int64_t left = a.hidden_size - unit - i;
      store(sums + r * columns + i, load_up_to(a.product[row + r] + unit + i, left));
    }
  }
}

template <int V>
struct BackwardTile {
  // The cache lines that R rows of so many vectors will touch for the first time since the forward.
  template <int R, int Vectors>
  static TREADLE_INLINE auto epilogue_lines(const BackwardStep& a, std::int64_t row,
                                            std::int64_t unit) {
    const float* const* const whole[] = {a.dy, a.old, a.c};
    EpiloguePrefetch<Vectors * kLanes, R * (2 * kMostParts + 3)> lines;
    for (std::int64_t r = row; r < row + R; ++r) {
      for (const float* const* rows : whole) {
        if (rows) lines.add(rows[r] + unit);
      }
      for (int part = 0; part < a.parts; ++part) {
        lines.add(a.saved[r] + part * a.hidden_size + unit);
        lines.add(a.out[r] + part * a.hidden_size + unit);
      }
    }
    return lines;
  }

  template <int R, int P>
  static void tile(const BackwardStep& a, std::int64_t row, std::int64_t panel) {
    constexpr std::int64_t kColumns = P * V * kLanes;
    const std::int64_t unit = panel * kBackwardVectors * kLanes;
    float sums[R * kColumns];
    if (a.product) {
      read_product(a, row, R, unit, sums, kColumns);
    } else {
      Vec acc[R][P * V] = {};
      if (a.next) {
        accumulate<Float32, R, P, V, V, V - 1>(acc, a.next + row, a.depth,
                                               a.weights + panel * a.panel_stride, a.panel_stride,
                                               epilogue_lines<R, P * V>(a, row, unit));
      }
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
        for (int i = 0; i < P * V; ++i) store(sums + r * kColumns + i * kLanes, acc[r][i]);
      }
    }
    a.units(a, row, R, unit, sums, kColumns);
  }
};

__attribute__((noinline)) void run_backward(const BackwardStep& a) {
  for_each_plain_tile<BackwardTile>(a, a.hidden_size, kBackwardVectors);
}

// Runs a step with the epilogue of a cell, whose rows of `saved` and of `out` have
// Epilogue::kParts parts of H floats.
template <class Epilogue>
void backward_step(const BackwardArgs& a) {
  static_assert(Epilogue::kParts <= kMostParts);
  run_backward({a, backward_units<Epilogue>, Epilogue::kParts});
}

}  // namespace
}  // namespace treadle::TREADLE_ISA

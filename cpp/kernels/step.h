// The parts that a step of every cell has: its sums begin with the bias or with an input part that
// was computed before, the products of input and state are added, and the panels of gates are
// walked so that those of the last units may share vectors.
#pragma once

#include "kernels/gemm.h"

namespace treadle::TREADLE_ISA {
namespace {

// It is true if the usual epilogue of a step is compiled into its tiles, the sums in registers. The
// formats other than float32 share one epilogue, which reads the sums from L1, and so do the other
// activations of float32: a quarter of the code.
template <class Format>
constexpr bool kInlined = Format::kDtype == Dtype::float32;

// Returns how many words of a panel of V vectors lie before the weights of the state.
template <class Format, int V>
TREADLE_INLINE std::int64_t state_part(const StepArgs& a) {
  return row_words(Format::kDtype, a.input_size) * V * kLanes;
}

// Sets the sums of a tile to the bias, or to the input part that was computed before. The tile's
// panels have V vectors, the panels before them have Full.
template <int R, int P, int V, int S, int Full = V>
TREADLE_INLINE void start(Vec (&acc)[R][P * S], const StepArgs& a, std::int64_t row,
                          std::int64_t panel) {
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    const float* from = a.partial ? a.partial[row + r] + a.partial_offset : a.bias;
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v)
        acc[r][p * S + v] = load(from + ((panel + p) * Full + v) * kLanes);
    }
  }
}

// Adds the input part to the sums of a tile, unless they began with it, calls before_state(), and
// adds the state part. Both parts go through one copy of the product's code.
template <class Format, int R, int P, int V, int S, int Last, class BeforeState>
TREADLE_INLINE void accumulate_parts(Vec (&acc)[R][P * S], const StepArgs& a, std::int64_t row,
                                     std::int64_t panel, BeforeState&& before_state) {
  const Word* const weights = a.weights + panel * a.panel_stride;
#pragma GCC unroll 1
  for (int part = a.partial ? 1 : 0; part < 2; ++part) {
    const bool state = part == 1;
    if (state) before_state();
    accumulate<Format, R, P, V, S, Last>(
        acc, (state ? a.h : a.x) + row, state ? a.state_size : a.input_size,
        weights + (state ? state_part<Format, V>(a) : 0), a.panel_stride);
  }
}
template <class Format, int R, int P, int V>
TREADLE_INLINE void accumulate_parts(Vec (&acc)[R][P * V], const StepArgs& a, std::int64_t row,
                                     std::int64_t panel) {
  accumulate_parts<Format, R, P, V, V, V - 1>(acc, a, row, panel, [] {});
}

// Prefetches the rows in which a tile saves its gates, before the product, since they are written
// for the first time.
template <int Gates, int R, int P>
TREADLE_INLINE void fetch_saved(const StepArgs& a, std::int64_t row, std::int64_t panel) {
  if (!a.saved) return;
  const std::int64_t unit = panel * kLanes;
  for (int r = 0; r < R; ++r) {
    for (int p = 0; p < P; ++p) {
      float* const saved = a.saved[row + r] + unit + p * kLanes;
      for (int gate = 0; gate < Gates; ++gate) {
        __builtin_prefetch(saved + gate * a.hidden_size, 0, 2);
      }
      if (a.saved_c) __builtin_prefetch(a.saved_c[row + r] + unit + p * kLanes, 0, 2);
      __builtin_prefetch(a.out[row + r] + unit + p * kLanes, 0, 2);
    }
  }
}

// Runs the panels of a Cell with gates: Tile for full panels, Shared<1> or Shared<2> for a last
// panel whose gates share vectors. The last panel comes first: its few sums wait for their fma, and
// the other panels fill the gap.
template <class Cell>
TREADLE_INLINE void for_each_gated(const StepArgs& a) {
  const int shared = shared_vectors(a.hidden_size, kLanes);
  const std::int64_t last = a.hidden_size / kLanes;
  if (shared && a.panel_begin <= last && last < a.panel_end) {
    if (shared == 1) {
      for_each_tile<typename Cell::template Shared<1>, kMaxRows, 1>(a, last, last + 1);
    } else {
      for_each_tile<typename Cell::template Shared<2>, kMaxRows, 1>(a, last, last + 1);
    }
  }
  const std::int64_t end = shared && a.panel_end > last ? last : a.panel_end;
  if (a.panel_begin >= end) return;
  for_each_tile<typename Cell::Tile, kMaxRows, kMaxPanels, kPairedRows>(a, a.panel_begin, end);
}

// Ends a step for the rows and panels of a tile whose sums lie one after another, four vectors
// each. Of several rows, all have their update(row, panel, gates) before any has its
// output(row, panel, result of update): both wait long for their functions, and so those of several
// rows run at the same time.
template <class Update, class Output>
TREADLE_INLINE void end_in_two_parts(std::int64_t row, int rows, std::int64_t panel, int panels,
                                     const float* sums, Update update, Output output) {
  const auto next = [&](std::int64_t r, std::int64_t p) {
    const Vec gates[] = {load(sums), load(sums + kLanes), load(sums + 2 * kLanes),
                         load(sums + 3 * kLanes)};
    sums += 4 * kLanes;
    return update(r, p, gates);
  };
  if (rows == 1) {
    for (std::int64_t p = panel; p < panel + panels; ++p) output(row, p, next(row, p));
    return;
  }
  decltype(next(row, panel)) results[kMaxRows];  // tiles of several panels have half the rows
  int count = 0;
  for (std::int64_t r = row; r < row + rows; ++r) {
    for (std::int64_t p = panel; p < panel + panels; ++p) results[count++] = next(r, p);
  }
  count = 0;
  for (std::int64_t r = row; r < row + rows; ++r) {
    for (std::int64_t p = panel; p < panel + panels; ++p) output(r, p, results[count++]);
  }
}

// Returns the gates of a shared panel, one vector for each, with zeros beyond its units.
template <int V>
struct SharedGates {
  static constexpr int kWidth = V * kLanes / kSharedGates;
  float columns[V * kLanes];

  TREADLE_INLINE void put(const Vec* sums) {
    for (int v = 0; v < V; ++v) store(columns + v * kLanes, sums[v]);
  }
  TREADLE_INLINE Vec gate(int g) const { return load_partial(columns + g * kWidth, kWidth); }
};

}  // namespace
}  // namespace treadle::TREADLE_ISA

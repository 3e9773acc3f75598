// What products by tiles begin with and how they end: `linear` and the steps of cells as jobs.
//
// Nothing but the sums is made here. The level below starts from them and finishes them: its
// kernels, called without inputs, have only their epilogue left to do, and `partial` or `start`
// brings the sums.
#pragma once

#include "kernels/step.h"
#include "kernels/tile_sums.h"

namespace treadle::TREADLE_ISA {
namespace {

ProductKernels below[kDtypes];  // those of the level below, which `fill` sets

// Up to kMostRows rows of a panel, whose sums are made together.
struct Part {
  std::int64_t row, panel;
  int rows;
};

// The sums of a part: [rows][V][lanes], and [rows][lanes] for the state part of a GRU's candidate.
template <int V>
struct PartSums {
  float sums[kMostRows * V * kLanes], hidden[kMostRows * kLanes];
  const float* rows[kMostRows];
};

// A LinearJob is `linear` in the hands of `run`, for panels of V vectors: all but the last one have
// `vectors`.
template <class Format, int V>
struct LinearJob {
  const LinearArgs& a;

  void start(const Part& part, PartSums<V>& s) const {
    const std::int64_t first = part.panel * a.vectors * kLanes;
    for (int r = 0; r < part.rows; ++r) {
      const float* from = a.start ? a.start[part.row + r] + a.start_offset : a.bias;
      for (int v = 0; v < V; ++v) {
        store(s.sums + (r * V + v) * kLanes, from ? load(from + first + v * kLanes) : Vec{});
      }
    }
  }

  TREADLE_INLINE void multiply(TileBlock<Format, V>& block, const Part& part,
                               PartSums<V>& s) const {
    TileOperand operand{a.x + part.row, a.k, a.weights + part.panel * a.panel_stride};
    operand.taps = a.taps;
    operand.tap_stride = a.tap_stride;
    operand.tap_block = a.tap_block;
    operand.x_offset = a.x_offset;
    add_operand(block, part.rows, operand, totals_of<V>(s.sums));
  }

  void finish(const Part& part, PartSums<V>& s) const {
    LinearArgs b = a;
    b.rows = part.rows;
    b.out = a.out + part.row;
    b.residual = a.residual ? a.residual + part.row : nullptr;
    b.factor = a.factor ? a.factor + part.row : nullptr;
    b.start = s.rows;
    b.start_offset = -part.panel * a.vectors * kLanes;
    b.k = 0;
    b.taps = 1;
    b.panel_begin = part.panel;
    b.panel_end = part.panel + 1;
    b.next = nullptr;
    below[static_cast<int>(Format::kDtype)].linear(b);
  }
};

// The states of a cell's candidate have sums of their own in a GRU that resets after the product:
// the last vector of a panel, or some lanes of a panel whose gates share vectors (step.h).
enum class Candidate { none, last_vector, shared };

// A StepJob is a step of a cell, for panels of V vectors; the panels before them have Full.
template <class Format, int V, int Full = V, Candidate C = Candidate::none>
struct StepJob {
  const StepArgs& a;
  void (*step)(const StepArgs&);  // the level below's

  void start(const Part& part, PartSums<V>& s) const {
    for (int r = 0; r < part.rows; ++r) {
      const float* from = a.partial ? a.partial[part.row + r] + a.partial_offset : a.bias;
      for (int v = 0; v < V; ++v) {
        store(s.sums + (r * V + v) * kLanes, load(from + (part.panel * Full + v) * kLanes));
      }
      if (C != Candidate::none) {
        store(s.hidden + r * kLanes, load(a.bias_hidden + part.panel * kLanes));
      }
    }
  }

  TREADLE_INLINE void multiply(TileBlock<Format, V>& block, const Part& part,
                               PartSums<V>& s) const {
    Totals totals = totals_of<V>(s.sums);
    const Word* w = a.weights + part.panel * a.panel_stride;
    if (!a.partial) {
      add_operand(block, part.rows, {a.x + part.row, a.input_size, w}, totals);
    }
    if (C == Candidate::last_vector) {
      totals.last = s.hidden;
      totals.last_stride = kLanes;
    }
    if (C == Candidate::shared) swap_candidates(part, s);
    w += state_part<Format, V>(a);
    add_operand(block, part.rows, {a.h + part.row, a.state_size, w}, totals);
    if (C == Candidate::shared) swap_candidates(part, s);
  }

  // Swaps the lanes of the candidate with what lies in `hidden`.
  static void swap_candidates(const Part& part, PartSums<V>& s) {
    constexpr int kWidth = SharedGates<V>::kWidth;
    for (int r = 0; r < part.rows; ++r) {
      float* const lanes = s.sums + r * V * kLanes + 2 * kWidth;
      const Vec input = load_partial(lanes, kWidth), hidden = load(s.hidden + r * kLanes);
      store_partial(lanes, hidden, kWidth);
      store(s.hidden + r * kLanes, input);
    }
  }

  void finish(const Part& part, PartSums<V>& s) const {
    StepArgs b = a;
    b.x = nullptr;
    b.input_size = b.state_size = 0;
    b.partial_offset = -part.panel * Full * kLanes;
    b.panel_begin = part.panel;
    b.panel_end = part.panel + 1;
    // A GRU's step takes one b_hn for all of its rows, so that each row has a call of its own.
    constexpr bool kOneByOne = C != Candidate::none;
    b.rows = kOneByOne ? 1 : part.rows;
    for (int r = 0; r < part.rows; r += static_cast<int>(b.rows)) {
      const std::int64_t row = part.row + r;
      const auto from = [&](auto* list) { return list ? list + row : nullptr; };
      b.partial = s.rows + r;
      b.h = from(a.h);
      b.blend = from(a.blend);
      b.c = from(a.c);
      b.out = from(a.out);
      b.saved = from(a.saved);
      b.saved_c = from(a.saved_c);
      if (kOneByOne) b.bias_hidden = s.hidden + (r - part.panel) * kLanes;
      step(b);
    }
  }
};

}  // namespace
}  // namespace treadle::TREADLE_ISA

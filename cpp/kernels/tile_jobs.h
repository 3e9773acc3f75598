// What products by tiles begin with and how they end: `linear` and the steps of cells as jobs.
//
// Nothing but the sums is made here. The level below starts from them and finishes them: its
// kernels, called without inputs, have only their epilogue left to do, and `partial` or `start`
// brings the sums.
#pragma once

#include "kernels/tile_sums.h"

namespace treadle::TREADLE_ISA {
namespace {

ProductKernels below[kDtypes];  // those of the level below, which `fill` sets

// Some rows and panels whose sums are made together: at most kTileRows pairs of both.
struct Part {
  std::int64_t row, panel;
  int rows, panels;
};

// The sums of a part: [rows][panels][V][lanes], and [rows][panels][lanes] for the state part of a
// GRU's candidate.
template <int V>
struct PartSums {
  float sums[kTileRows * V * kLanes], hidden[kTileRows * kLanes];
  const float* rows[kTileRows];
};

// A LinearJob is `linear` in the hands of `run`.
template <class Format, int V>
struct LinearJob {
  static constexpr std::int64_t kWidth = V * kLanes;
  const LinearArgs& a;

  void start(const Part& part, PartSums<V>& s) const {
    const std::int64_t width = part.panels * kWidth, first = part.panel * kWidth;
    for (int r = 0; r < part.rows; ++r) {
      float* const to = s.sums + r * width;
      const float* from = a.start ? a.start[part.row + r] + a.start_offset : a.bias;
      for (std::int64_t i = 0; i < width; i += kLanes) {
        store(to + i, from ? load(from + first + i) : Vec{});
      }
    }
  }

  template <class Block>
  TREADLE_INLINE void multiply(Block& block, const Part& part, int p, PartSums<V>& s) const {
    const std::int64_t stride = part.panels * kWidth;
    float* const first = s.sums + p * kWidth;
    TileOperand operand{a.x + part.row, a.k, a.weights + (part.panel + p) * a.panel_stride};
    operand.taps = a.taps;
    operand.tap_stride = a.tap_stride;
    operand.tap_block = a.tap_block;
    operand.x_offset = a.x_offset;
    add_operand<Format, V>(block, part.rows, operand,
                           {first, first + (V - 1) * kLanes, stride, stride});
  }

  void finish(const Part& part, PartSums<V>& s) const {
    LinearArgs b = a;
    b.rows = part.rows;
    b.out = a.out + part.row;
    b.residual = a.residual ? a.residual + part.row : nullptr;
    b.factor = a.factor ? a.factor + part.row : nullptr;
    b.start = s.rows;
    b.start_offset = -part.panel * kWidth;
    b.k = 0;
    b.taps = 1;
    b.panel_begin = part.panel;
    b.panel_end = part.panel + part.panels;
    b.next = nullptr;
    below[static_cast<int>(Format::kDtype)].linear(b);
  }
};

// A StepJob is a step of a cell. Of the cells, only a GRU has three vectors in a panel.
template <class Format, int V>
struct StepJob {
  static constexpr std::int64_t kWidth = V * kLanes;
  static constexpr bool kGru = V == 3;
  const StepArgs& a;
  void (*step)(const StepArgs&);  // the level below's

  void start(const Part& part, PartSums<V>& s) const {
    const std::int64_t width = part.panels * kWidth;
    for (int r = 0; r < part.rows; ++r) {
      const float* from = a.partial ? a.partial[part.row + r] + a.partial_offset : a.bias;
      for (std::int64_t i = 0; i < width; i += kLanes) {
        store(s.sums + r * width + i, load(from + part.panel * kWidth + i));
      }
      for (int p = 0; kGru && p < part.panels; ++p) {
        store(s.hidden + (r * part.panels + p) * kLanes,
              load(a.bias_hidden + (part.panel + p) * kLanes));
      }
    }
  }

  template <class Block>
  TREADLE_INLINE void multiply(Block& block, const Part& part, int p, PartSums<V>& s) const {
    const std::int64_t stride = part.panels * kWidth;
    float* const first = s.sums + p * kWidth;
    Totals totals{first, first + (V - 1) * kLanes, stride, stride};
    const Word* w = a.weights + (part.panel + p) * a.panel_stride;
    if (!a.partial) {
      add_operand<Format, V>(block, part.rows, {a.x + part.row, a.input_size, w}, totals);
    }
    if (kGru) {
      totals.last = s.hidden + p * kLanes;
      totals.last_stride = part.panels * kLanes;
    }
    w += state_part<Format, V>(a);
    add_operand<Format, V>(block, part.rows, {a.h + part.row, a.state_size, w}, totals);
  }

  void finish(const Part& part, PartSums<V>& s) const {
    StepArgs b = a;
    b.x = nullptr;
    b.input_size = b.state_size = 0;
    b.partial_offset = -part.panel * kWidth;
    b.panel_begin = part.panel;
    b.panel_end = part.panel + part.panels;
    // A GRU's step takes one b_hn for all of its rows, so that each row has a call of its own.
    b.rows = kGru ? 1 : part.rows;
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
      if (kGru) b.bias_hidden = s.hidden + (r * part.panels - part.panel) * kLanes;
      step(b);
    }
  }
};

}  // namespace
}  // namespace treadle::TREADLE_ISA

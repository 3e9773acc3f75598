// Products of bfloat16 and int8 whose sums tiles make: `linear` and the steps of cells.
//
// Panels of one or two vectors, a last panel that is narrower than the others, and in int8 fewer
// than kFewestRows rows, belong to the level below altogether. In bfloat16, whose sums have other
// last bits there, that depends on the weights alone, and so it is the same for all rows, and for
// `linear` where it computes the input part of a step.
#pragma once

#include "kernels/tile_jobs.h"

namespace treadle::TREADLE_ISA {
namespace {

// Tiles are for at least so many rows. On vectors, a row takes as many multiply-adds as there are
// words, in bfloat16 twice as many, while a tile takes the time of 16 rows in any case.
constexpr std::int64_t kFewestRows = 4;
constexpr int kFewestVectors = 3, kMostVectors = 4;

template <class Format>
bool leaves_rows(std::int64_t rows) {
  return rows == 0 || (Format::kDtype == Dtype::int8 && rows < kFewestRows);
}

template <int V, class Job, class Block>
TREADLE_INLINE void run_part(const Job& job, Block& block, const Part& part) {
  PartSums<V> s;
  for (int r = 0; r < part.rows; ++r) s.rows[r] = s.sums + r * part.panels * V * kLanes;
  job.start(part, s);
  for (int p = 0; p < part.panels; ++p) job.multiply(block, part, p, s);
  job.finish(part, s);
}

template <int R, int V, class Job>
__attribute__((noinline)) void run_few_rows(const Job& job, std::int64_t begin, std::int64_t end) {
  constexpr std::int64_t kMost = kTileRows / R;
  RowBlock<R, V> block;
  for (std::int64_t panel = begin; panel < end; panel += kMost) {
    const std::int64_t count = end - panel < kMost ? end - panel : kMost;
    run_part<V>(job, block, {0, panel, R, static_cast<int>(count)});
  }
}

// Rows are shared out evenly over the tiles of a panel, so that none has few.
template <class Format, int V, class Job>
__attribute__((noinline)) void run_tiles(const Job& job, std::int64_t rows, std::int64_t begin,
                                         std::int64_t end) {
  TileBlock<Format, V> block;
  const std::int64_t tiles = (rows + kTileRows - 1) / kTileRows;
  for (std::int64_t panel = begin; panel < end; ++panel) {
    for (std::int64_t i = 0, row = 0; i < tiles; ++i) {
      const std::int64_t count = (rows - row) / (tiles - i);
      run_part<V>(job, block, {row, panel, static_cast<int>(count), 1});
      row += count;
    }
  }
}

template <class Format, int V, class Job>
void run(const Job& job, std::int64_t rows, std::int64_t begin, std::int64_t end) {
  if constexpr (Format::kDtype == Dtype::bfloat16) {
    if (rows == 1) return run_few_rows<1, V>(job, begin, end);
    if (rows == 2) return run_few_rows<2, V>(job, begin, end);
    if (rows < kFewestRows) return run_few_rows<3, V>(job, begin, end);
  }
  run_tiles<Format, V>(job, rows, begin, end);
}

template <class Format>
void tile_linear(const LinearArgs& a) {
  const auto rest = below[static_cast<int>(Format::kDtype)].linear;
  const std::int64_t full = (a.columns + kLanes - 1) / kLanes / a.vectors;
  const std::int64_t end = a.panel_end < full ? a.panel_end : full;
  if (a.vectors < kFewestVectors || a.panel_begin >= end || leaves_rows<Format>(a.rows)) {
    return rest(a);
  }
  if (a.vectors == kMostVectors) {
    run<Format, 4>(LinearJob<Format, 4>{a}, a.rows, a.panel_begin, end);
  } else {
    run<Format, 3>(LinearJob<Format, 3>{a}, a.rows, a.panel_begin, end);
  }
  if (end == a.panel_end) return;
  LinearArgs last = a;
  last.panel_begin = end;
  rest(last);
}

// Runs a step whose first `full` panels have V vectors.
template <class Format, int V>
void tile_step(const StepArgs& a, std::int64_t full, void (*rest)(const StepArgs&)) {
  const std::int64_t end = a.panel_end < full ? a.panel_end : full;
  if (a.panel_begin >= end || leaves_rows<Format>(a.rows)) return rest(a);
  run<Format, V>(StepJob<Format, V>{a, rest}, a.rows, a.panel_begin, end);
  if (end == a.panel_end) return;
  StepArgs last = a;
  last.panel_begin = end;
  rest(last);
}

inline std::int64_t gated_panels(const StepArgs& a) {
  const std::int64_t units = a.hidden_size;
  return shared_vectors(units, kLanes) ? units / kLanes : (units + kLanes - 1) / kLanes;
}

template <class Format>
void tile_rnn_step(const StepArgs& a) {
  tile_step<Format, 4>(a, (a.hidden_size + kLanes - 1) / kLanes / 4,
                       below[static_cast<int>(Format::kDtype)].rnn_step);
}
template <class Format>
void tile_lstm_step(const StepArgs& a) {
  tile_step<Format, 4>(a, gated_panels(a), below[static_cast<int>(Format::kDtype)].lstm_step);
}
template <class Format>
void tile_gru_step(const StepArgs& a) {
  tile_step<Format, 3>(a, gated_panels(a), below[static_cast<int>(Format::kDtype)].gru_step);
}

// Multiplies tiles at the machine's limit (table.h).
template <class Format>
constexpr int kTileRoundFlops = 2 * kTileRows * 4 * kLanes * kTileWords * per_word(Format::kDtype);
template <class Format>
float tile_multiply_loop(std::int64_t rounds) {
  const std::uint32_t bits = Format::kBits == 8 ? 0x01020304u : 0x3f003f00u;  // 1 ... 4, or 0.5
  Word words[kTileWords * 4 * kLanes];
  for (std::int64_t i = 0; i < kTileWords * 4 * kLanes; ++i) {
    std::memcpy(words + i, &bits, sizeof bits);
  }
  TileBlock<Format, 4> block;
  block.fit(kTileRows, 0);
  block.clear();
  for (std::int64_t n = 0; n < rounds; ++n) {
    block.template multiply<kRowTile, kWeightTile>(words, kTileBytes, words);
  }
  block.finish();
  return static_cast<float>(block.sum(0, 0)[0]);
}

}  // namespace
}  // namespace treadle::TREADLE_ISA

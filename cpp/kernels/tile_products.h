// Products of bfloat16 and int8 whose sums tiles make: `linear` and the steps of cells.
//
// In bfloat16, whose sums have other last bits on vectors, they are made by tiles whatever the rows
// and the panels. In int8, a few rows or short ones belong to the level below.
#pragma once

#include "kernels/tile_jobs.h"

namespace treadle::TREADLE_ISA {
namespace {

// In int8, where tiles have the bits of vectors, they are for at least so many rows and terms. A
// tile multiplies no faster for few rows, and its sums go through memory before they are scaled.
constexpr std::int64_t kFewestRows = 6, kFewestTerms = 192;

template <class Format>
bool leaves_rows(std::int64_t rows, std::int64_t terms) {
  return rows == 0 ||
         (Format::kDtype == Dtype::int8 && (rows < kFewestRows || terms < kFewestTerms));
}

// Computes a part from its first number to its results.
template <class Format, int V, class Job>
__attribute__((noinline)) void run_part(const Job& job, TileBlock<Format, V>& block,
                                        const Part& part) {
  PartSums<V> s;
  for (int r = 0; r < part.rows; ++r) s.rows[r] = s.sums + r * V * kLanes;
  job.start(part, s);
  job.multiply(block, part, s);
  job.finish(part, s);
}

// Rows are shared out evenly over the parts of a panel, so that none has few.
template <class Format, int V, class Job>
__attribute__((noinline)) void run(const Job& job, std::int64_t rows, std::int64_t begin,
                                   std::int64_t end) {
  TileBlock<Format, V> block;
  const std::int64_t parts = (rows + kMostRows - 1) / kMostRows;
  for (std::int64_t panel = begin; panel < end; ++panel) {
    for (std::int64_t i = 0, row = 0; i < parts; ++i) {
      const std::int64_t count = (rows - row) / (parts - i);
      run_part(job, block, {row, panel, static_cast<int>(count)});
      row += count;
    }
  }
}

// Calls f(Number<vectors>()).
template <class F>
void with_vectors(std::int64_t vectors, F&& f) {
  if (vectors == 1) return f(Number<1>());
  if (vectors == 2) return f(Number<2>());
  if (vectors == 3) return f(Number<3>());
  f(Number<4>());
}

template <class Format>
void tile_linear(const LinearArgs& a) {
  if (leaves_rows<Format>(a.rows, a.k * a.taps)) {
    return below[static_cast<int>(Format::kDtype)].linear(a);
  }
  const std::int64_t vectors = (a.columns + kLanes - 1) / kLanes, full = vectors / a.vectors;
  const std::int64_t end = a.panel_end < full ? a.panel_end : full;
  const auto run_panels = [&](std::int64_t count, std::int64_t first, std::int64_t last) {
    with_vectors(count, [&](auto v) {
      constexpr int V = decltype(v)::value;
      run<Format, V>(LinearJob<Format, V>{a}, a.rows, first, last);
    });
  };
  if (a.panel_begin < end) run_panels(a.vectors, a.panel_begin, end);
  if (a.panel_begin <= full && a.panel_end > full && vectors > full * a.vectors) {
    run_panels(vectors - full * a.vectors, full, full + 1);
  }
}

// Runs a step: last() does the panel behind the first `full` ones, if there is one.
template <class Format, int V, Candidate C, class Last>
void tile_step(const StepArgs& a, std::int64_t full, void (*step)(const StepArgs&), Last&& last) {
  if (leaves_rows<Format>(a.rows, a.state_size)) return step(a);
  const std::int64_t end = a.panel_end < full ? a.panel_end : full;
  if (a.panel_begin < end) {
    run<Format, V>(StepJob<Format, V, V, C>{a, step}, a.rows, a.panel_begin, end);
  }
  if (a.panel_end > full && a.panel_begin <= full) last();
}

template <class Format>
void tile_rnn_step(const StepArgs& a) {
  const auto step = below[static_cast<int>(Format::kDtype)].rnn_step;
  const std::int64_t vectors = (a.hidden_size + kLanes - 1) / kLanes, full = vectors / 4;
  tile_step<Format, 4, Candidate::none>(a, full, step, [&] {
    with_vectors(vectors - 4 * full, [&](auto v) {
      constexpr int V = decltype(v)::value;
      run<Format, V>(StepJob<Format, V, 4>{a, step}, a.rows, full, full + 1);
    });
  });
}

// Runs a step of a cell with gates, of V vectors in a panel, whose last panel may be shared.
template <class Format, int V, Candidate C, Candidate Shared>
void tile_gated_step(const StepArgs& a, void (*step)(const StepArgs&)) {
  const int shared = shared_vectors(a.hidden_size, kLanes);
  const std::int64_t whole = a.hidden_size / kLanes;
  const std::int64_t full = shared ? whole : (a.hidden_size + kLanes - 1) / kLanes;
  tile_step<Format, V, C>(a, full, step, [&] {
    if (shared == 1) {
      run<Format, 1>(StepJob<Format, 1, V, Shared>{a, step}, a.rows, full, full + 1);
    } else {
      run<Format, 2>(StepJob<Format, 2, V, Shared>{a, step}, a.rows, full, full + 1);
    }
  });
}

template <class Format>
void tile_lstm_step(const StepArgs& a) {
  const auto step = below[static_cast<int>(Format::kDtype)].lstm_step;
  tile_gated_step<Format, 4, Candidate::none, Candidate::none>(a, step);
}
template <class Format>
void tile_gru_step(const StepArgs& a) {
  const auto step = below[static_cast<int>(Format::kDtype)].gru_step;
  tile_gated_step<Format, 3, Candidate::last_vector, Candidate::shared>(a, step);
}

template <class Format, int V>
void tile_gru_part(const StepArgs& a, void (*step)(const StepArgs&)) {
  tile_step<Format, V, Candidate::none>(a, a.panel_end, step, [] {});
}
template <class Format>
void tile_gru_gates(const StepArgs& a) {
  tile_gru_part<Format, 2>(a, below[static_cast<int>(Format::kDtype)].gru_gates);
}
template <class Format>
void tile_gru_candidate(const StepArgs& a) {
  tile_gru_part<Format, 1>(a, below[static_cast<int>(Format::kDtype)].gru_candidate);
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

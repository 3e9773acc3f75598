// A sequence goes through time in chunks of steps. This file says how long a chunk is, and whether
// the input part of its steps is computed at once, before them.
#pragma once

#include <algorithm>
#include <cstdint>

#include "engine/recurrent/cell.h"

namespace treadle {

// So many rows go through time together: their states stay in L2, weights are read once for all.
constexpr std::int64_t kBlockRows = 128;
// Steps of fewer rows wait for their weights, so the input part of several steps is computed at
// once, which reads its weights once for all of them. At kHoistBelowRows rows the multiply-adds of
// a tile take longer than reading its weights from L2, at kOuterHoistBelowRows rows longer than
// from L3. The sums of a chunk are limited to a size that L2 holds beside the weights.
constexpr std::int64_t kHoistBelowRows = 4, kOuterHoistBelowRows = 8;
constexpr std::int64_t kInnerBytes = 1 << 20;  // weights of more bytes do not stay in L2
constexpr std::int64_t kHoistInputSize = 8;    // a shorter product is cheaper than reading its sums
constexpr std::int64_t kChunkRows = 48, kChunkFloats = 1 << 16;
// Where the weights of the input part take so many bytes, every step reads them from L3 or memory.
// Steps of more rows gain by its being computed at once, too. The bound is at most half of
// kBlockRows, since a block of fewer rows is then the only one of its pass.
constexpr std::int64_t kFarBytes = 8 << 20, kFarHoistBelowRows = 64;
static_assert(2 * kFarHoistBelowRows <= kBlockRows);
// A narrow input part of so many numbers is computed at once whatever the rows of a step.
constexpr std::int64_t kNarrowInputSize = 128;
// The chunks of both are longer.
constexpr std::int64_t kLongChunkRows = 128, kLongChunkFloats = 1 << 20;

// Tells whether the weights of the input part are larger than a near cache.
inline bool is_far(const Cell& cell) { return cell.input_bytes() >= kFarBytes; }

// Tells whether the input part of each step takes longer by itself than at once.
inline bool is_narrow(const Cell& cell) {
  return cell.has_narrow_input() && cell.shape().input_size >= kNarrowInputSize;
}

// Tells whether the input part of several steps of `rows` rows is computed at once.
inline bool hoists(const Cell& cell, std::int64_t rows, std::int64_t steps) {
  if (steps <= 1 || cell.shape().input_size < kHoistInputSize) return false;
  if (is_narrow(cell)) return true;
  if (is_far(cell)) return rows < kFarHoistBelowRows;
  return rows < (cell.weight_bytes() > kInnerBytes ? kOuterHoistBelowRows : kHoistBelowRows);
}

// Returns how many rows are listed at once: whole steps of `rows` rows, at least one step. Where
// their input part is computed at once, too, the size of the sums limits them.
inline std::int64_t chunk_capacity(const Cell& cell, std::int64_t rows, bool hoist) {
  const bool longer = is_far(cell) || is_narrow(cell);
  const std::int64_t most = longer ? kLongChunkRows : kChunkRows;
  const std::int64_t floats = longer ? kLongChunkFloats : kChunkFloats;
  return std::max(rows, hoist ? std::min(most, floats / cell.input_sums()) : most);
}

}  // namespace treadle

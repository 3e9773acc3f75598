// Conv1d is a cross-correlation over time with weights that are packed once:
//
//     y[b, d, t] = f(bias[d] + sum_{j, c} w[d, j, c] x[b, c', stride t + dilation j - before])
//
// where c' is channel c of the group of d, and x is zero outside of its T steps. With channels
// last, a window of J steps is one row of a product, and windows overlap in memory: the channels of
// a chunk are turned once, and no window is copied. Steps that are `dilation` apart are laid side
// by side, so that this holds with dilation, too.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/product/linear.h"

namespace treadle {

struct Conv1dShape {
  std::int64_t inputs, outputs, taps;  // C, D and J
  std::int64_t stride, dilation, groups;
  std::int64_t before, after;  // zeros that x begins and ends with
};

// Conv1dInput says where x [B, C, T] lies. Its last axis is contiguous.
struct Conv1dInput {
  std::int64_t batch, time;
  const float* x;
  std::int64_t batch_stride, channel_stride;
};

class Conv1d {
 public:
  // Packs a weight [D, J, C / groups]; the bias [D] may be null.
  Conv1d(const KernelTable& table, const Conv1dShape& shape, const StoredMatrix& weight,
         const float* bias);

  const Conv1dShape& shape() const { return shape_; }
  const char* isa() const { return groups_[0].isa(); }
  std::int64_t weight_bytes() const;
  // Returns the number of steps of x that the taps reach over.
  std::int64_t span() const { return shape_.dilation * (shape_.taps - 1) + 1; }
  // Returns the number of steps of y for T steps of x, or 0 where the taps reach over more than x.
  std::int64_t steps(std::int64_t time) const;

  // Computes y [B, D, steps], contiguous, on the pool's threads. `f` may be null.
  void run(const Conv1dInput& in, const Activation* f, float* y, Interrupt& interrupt) const;

 private:
  struct Chunk;
  std::int64_t channels() const { return shape_.inputs / shape_.groups; }
  void list_pieces(const Conv1dInput& in, std::int64_t first, Chunk& chunk) const;
  void gather(const Conv1dInput& in, std::int64_t group, std::int64_t piece, Chunk& chunk) const;
  void multiply(std::int64_t group, std::int64_t first, std::int64_t count, std::int64_t panel,
                std::int64_t panel_end, const Activation* f, float* tile, Chunk& chunk) const;

  Conv1dShape shape_;
  const KernelTable* table_;
  std::vector<Linear> groups_;
};

}  // namespace treadle

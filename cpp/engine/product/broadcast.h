// How the elements of two arrays meet whose shapes are broadcast, for operands of any type.
#pragma once

#include <algorithm>
#include <cstdint>

#include "engine/schedule/parallel_for.h"

namespace treadle {

// Element [i0, i1, ...] of the result, which is contiguous and has the shape `sizes`, comes from
// the elements sum_k i_k a_strides[k] of a and sum_k i_k b_strides[k] of b, where a stride of 0
// repeats an operand. A stride of the last axis is 0 or 1.
struct Broadcast {
  static constexpr int kMaxRank = 8;

  int rank = 0;
  std::int64_t sizes[kMaxRank] = {}, a_strides[kMaxRank] = {}, b_strides[kMaxRank] = {};

  // Broadcasts the shapes of two contiguous arrays as NumPy does. Returns false where they do not
  // fit, or have more than kMaxRank axes. The product of the result's sizes is not checked.
  bool set(const std::int64_t* a_sizes, int a_rank, const std::int64_t* b_sizes, int b_rank);

  // Joins axes over which both operands go in the same way, and drops axes of size 1; one or more
  // axes remain. It does so for a result that has elements.
  Broadcast joined() const;
};

// `rows` x `columns` elements of the result, contiguous from `out` on. Element [r, c] of an operand
// lies at a + r a_row + c a_step, where a step is 0 or 1.
struct BroadcastBlock {
  std::int64_t out, rows, columns;
  std::int64_t a, a_row, b, b_row;
  int a_step, b_step;
};

// BroadcastBlocks cuts the elements of a result into blocks, and blocks into tasks of about the
// same size.
class BroadcastBlocks {
 public:
  explicit BroadcastBlocks(const Broadcast& shape);

  std::int64_t tasks() const { return (units_ + group_ - 1) / group_; }
  std::int64_t elements() const { return group_ * block_rows_ * block_columns_; }  // of a task
  // Calls f(block) for every block of a task.
  template <class F>
  void run(std::int64_t task, const F& f) const {
    const std::int64_t end = std::min(units_, (task + 1) * group_);
    for (std::int64_t unit = task * group_; unit < end; ++unit) f(block(unit));
  }

 private:
  BroadcastBlock block(std::int64_t unit) const;

  Broadcast axes_;
  std::int64_t rows_ = 0, columns_ = 0, outer_ = 0;
  std::int64_t block_rows_ = 1, block_columns_ = 1, group_ = 1, units_ = 0;
};

// Calls f(block) for blocks that together are the result. An element takes `work` multiply-adds.
template <class F>
void for_each_block(const Broadcast& shape, double work, const ParallelFor& parallel_for,
                    const F& f) {
  const BroadcastBlocks blocks(shape);
  const auto task = [&](std::int64_t i) { blocks.run(i, f); };
  parallel_for(blocks.tasks(), work * static_cast<double>(blocks.elements()), task);
}

}  // namespace treadle

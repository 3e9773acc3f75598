// A StridedLoop goes over the elements of a shape while N operands move along with strides of their
// own: it is how operators broadcast, transpose and slice.
#pragma once

#include <algorithm>
#include <cstdint>

#include "engine/graph/call.h"
#include "engine/graph/tensor.h"

namespace treadle::graph {

// Strides are in elements, and may be 0 or negative. Axes of size 1 are left out, and neighbours
// that every operand walks through as through one are merged.
template <int N>
class StridedLoop {
 public:
  using Offsets = std::int64_t[N];

  // Adds an axis inside those that are there.
  void add(std::int64_t size, const Offsets& strides) {
    count_ *= size;
    if (size == 1) return;
    bool merges = rank_ > 0;
    for (int k = 0; k < N && merges; ++k) {
      std::int64_t whole;
      merges = !__builtin_mul_overflow(strides[k], size, &whole) && last(k) == whole;
    }
    if (merges) {
      sizes_[rank_ - 1] *= size;
    } else {
      sizes_[rank_++] = size;
    }
    for (int k = 0; k < N; ++k) strides_[k][rank_ - 1] = strides[k];
  }

  std::int64_t count() const { return count_; }
  // Tells whether all operands lie in memory as the elements are visited.
  bool contiguous() const {
    if (rank_ > 1) return false;
    for (int k = 0; k < N && rank_ == 1; ++k) {
      if (strides_[k][0] != 1) return false;
    }
    return true;
  }
  std::int64_t columns() const { return rank_ > 0 ? sizes_[rank_ - 1] : 1; }
  std::int64_t rows() const { return rank_ > 1 ? sizes_[rank_ - 2] : 1; }
  // The stride of operand k from one column, or one row, to the next.
  std::int64_t step(int k) const { return rank_ > 0 ? strides_[k][rank_ - 1] : 1; }
  std::int64_t row_step(int k) const { return rank_ > 1 ? strides_[k][rank_ - 2] : 0; }

  // Makes an axis in which operand k is contiguous that of the rows, where there is one and it is
  // not that of the columns. The elements are then no longer visited in order.
  void bring_to_rows(int k) {
    if (rank_ < 3 || step(k) == 1) return;
    for (int axis = 0; axis < rank_ - 2; ++axis) {
      if (strides_[k][axis] != 1) continue;
      std::rotate(sizes_ + axis, sizes_ + axis + 1, sizes_ + rank_ - 1);
      for (auto& strides : strides_) {
        std::rotate(strides + axis, strides + axis + 1, strides + rank_ - 1);
      }
      return;
    }
  }

  // Calls f(offsets, rows, columns) for matrices that cover all elements. An element takes `work`
  // (Call::parallel_for). f must not throw.
  template <class F>
  void run(Call& call, double work, F&& f) const {
    cut(work, f, [&](std::int64_t tasks, double task_work, auto&& task) {
      call.parallel_for(tasks, task_work, task);
    });
  }
  // Does the same, one matrix after the other, for operands that several elements write.
  template <class F>
  void run_in_order(Call& call, double work, F&& f) const {
    cut(work, f, [&](std::int64_t tasks, double task_work, auto&& task) {
      call.serial_for(tasks, task_work, task);
    });
  }

 private:
  static constexpr int kAxes = 2 * kMaxRank;

  std::int64_t last(int k) const { return strides_[k][rank_ - 1]; }

  // Cuts the elements into tasks, and has them run.
  template <class F, class RunTasks>
  void cut(double work, F&& f, RunTasks&& run_tasks) const {
    if (count_ == 0) return;
    constexpr std::int64_t kPiece = std::int64_t{1} << 14;
    const std::int64_t M = rows(), S = columns(), outer = count_ / (M * S);
    const std::int64_t column_step = std::min(S, kPiece);
    const std::int64_t row_step = std::min(M, std::max<std::int64_t>(1, kPiece / S));
    const std::int64_t column_blocks = (S + column_step - 1) / column_step;
    const std::int64_t row_blocks = (M + row_step - 1) / row_step,
                       blocks = column_blocks * row_blocks;
    const std::int64_t outer_step =
        blocks > 1 ? 1 : std::max<std::int64_t>(1, std::min(outer, kPiece / (M * S)));
    const std::int64_t tasks = (outer + outer_step - 1) / outer_step * blocks;
    const double task_work = work * static_cast<double>(column_step * row_step * outer_step);
    run_tasks(tasks, task_work, [&](std::int64_t task) {
      const std::int64_t begin = task / blocks * outer_step, block = task % blocks;
      const std::int64_t row = block / column_blocks * row_step;
      const std::int64_t column = block % column_blocks * column_step;
      const std::int64_t many_rows = std::min(row_step, M - row);
      const std::int64_t many_columns = std::min(column_step, S - column);
      Offsets offsets;
      std::int64_t at[kAxes];
      for (int k = 0; k < N; ++k) offsets[k] = row * this->row_step(k) + column * step(k);
      for (std::int64_t rest = begin, axis = rank_ - 3; axis >= 0; --axis) {
        at[axis] = rest % sizes_[axis];
        rest /= sizes_[axis];
        for (int k = 0; k < N; ++k) offsets[k] += at[axis] * strides_[k][axis];
      }
      for (std::int64_t i = begin, end = std::min(outer, begin + outer_step);;) {
        f(offsets, many_rows, many_columns);
        if (++i == end) break;
        for (int axis = rank_ - 3; axis >= 0; --axis) {
          const bool wraps = ++at[axis] == sizes_[axis];
          const std::int64_t steps = wraps ? 1 - sizes_[axis] : 1;
          for (int k = 0; k < N; ++k) offsets[k] += steps * strides_[k][axis];
          if (!wraps) break;
          at[axis] = 0;
        }
      }
    });
  }

  int rank_ = 0;
  std::int64_t count_ = 1;
  std::int64_t sizes_[kAxes] = {};
  std::int64_t strides_[N][kAxes] = {};
};

// Returns the shape to which two shapes broadcast. Throws std::invalid_argument.
Shape broadcast(const Shape& a, const Shape& b);

// Returns the loop over `out` with N contiguous operands of these shapes, which broadcast to it.
// Throws std::invalid_argument where one does not.
template <int N>
StridedLoop<N> broadcast_loop(const Shape& out, const Shape* const (&shapes)[N]) {
  StridedLoop<N> loop;
  std::int64_t strides[kMaxRank][N];
  for (int k = 0; k < N; ++k) {
    const Shape& shape = *shapes[k];
    const int missing = out.rank() - shape.rank();
    if (missing < 0) refuse("shape " + shape.text() + " does not broadcast to " + out.text());
    std::int64_t stride = 1;
    for (int axis = out.rank() - 1; axis >= 0; --axis) {
      const std::int64_t size = axis < missing ? 1 : shape[axis - missing];
      if (size != 1 && size != out[axis]) {
        refuse("shape " + shape.text() + " does not broadcast to " + out.text());
      }
      strides[axis][k] = size == 1 ? 0 : stride;
      stride *= size;
    }
  }
  for (int axis = 0; axis < out.rank(); ++axis) loop.add(out[axis], strides[axis]);
  return loop;
}

// Copies elements of `element_size` bytes (1, 2, 4 or 8) from one operand of the loop, the second,
// to the other, the first.
void copy_strided(Call& call, StridedLoop<2> loop, char* to, const char* from, int element_size);

// Calls f with an unsigned integer of as many bytes as an element of the type has.
template <class F>
decltype(auto) with_size(int element_size, F&& f) {
  switch (element_size) {
    case 1:
      return f(std::uint8_t{});
    case 2:
      return f(std::uint16_t{});
    case 4:
      return f(std::uint32_t{});
    default:
      return f(std::uint64_t{});
  }
}

}  // namespace treadle::graph

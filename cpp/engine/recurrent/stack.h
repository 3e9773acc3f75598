// A RecurrentStack is a recurrent net: L layers of one or two directions. It never changes once it
// is packed, so that any number of threads may run it at the same time.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/recurrent/cell.h"
#include "engine/recurrent/sequence.h"

namespace treadle {

enum class Direction { forward, reverse, bidirectional };

// The arrays that one run reads and writes.
struct RunArgs {
  SequenceArgs in;
  float* y;  // [T, B, D * state_size] with the strides y_t and y_b, in floats
  std::int64_t y_t, y_b;
  float* h_n;  // [L*D, B, state_size]; may be h_0
  float* c_n;  // LSTM: [L*D, B, H]; may be c_0
  // [D, T, B, saved_size(recompute)] of a single layer, for the backward pass, or null
  float* saved;
  bool recompute;  // the backward pass computes the gates again
};

// The memory of a run. A caller that wants no allocation keeps it from run to run.
struct RunBuffers {
  Workspace workspaces[2];
  Buffer layers[2];  // layers write their outputs to these two in turn

  std::int64_t bytes() const;
  // Lets the outputs of layers go if they are large: a caller that keeps the buffers shall not hold
  // the memory of its longest call for ever.
  void release_large();
};

class RecurrentStack {
 public:
  // `cells` has the cells layer by layer, the forward one before the reverse one.
  RecurrentStack(Direction direction, std::vector<Cell> cells);
  ~RecurrentStack() { delete spare_.load(); }

  int directions() const { return direction_ == Direction::bidirectional ? 2 : 1; }
  std::int64_t layers() const { return static_cast<std::int64_t>(cells_.size()) / directions(); }
  const Cell& cell(std::int64_t i) const { return cells_[i]; }
  Direction direction() const { return direction_; }
  std::int64_t output_size() const { return directions() * cells_[0].shape().state_size(); }
  std::int64_t weight_bytes() const;
  // Takes the buffers that another net of the same cells keeps, which then makes new ones.
  void take_buffers(const RecurrentStack& other) {
    delete spare_.exchange(other.spare_.exchange(nullptr, std::memory_order_acquire));
  }

  // Every size and pointer in `args` has been checked by the caller.
  void run(const RunArgs& args, RunBuffers& buffers, Interrupt& interrupt) const;
  // Runs with buffers that the net keeps from call to call while they are small.
  void run(const RunArgs& args, Interrupt& interrupt) const;

 private:
  Direction direction_;
  std::vector<Cell> cells_;
  // The buffers of the last call. The pointer is null while a call uses them, and other calls then
  // make new ones. It is atomic, since a lock that another thread holds during fork() would stay
  // locked in the child.
  mutable std::atomic<RunBuffers*> spare_{nullptr};
};

}  // namespace treadle

// A stream holds the carried state of B independent rows and all buffers of a step.
#pragma once

#include <cstdint>
#include <memory>

#include "engine/recurrent/stack.h"
#include "runtime/reentrant_guard.h"

namespace treadle {

class Stream {
 public:
  // Throws std::bad_alloc; the caller has checked that the sizes do not overflow.
  Stream(std::shared_ptr<const RecurrentStack> net, std::int64_t batch);

  const RecurrentStack& net() const { return *net_; }
  std::int64_t batch() const { return batch_; }
  // Asks the shape: the buffers are swapped while other threads ask.
  bool has_c() const { return net_->cell(0).shape().mode == Mode::lstm; }

  // Runs over x [T, B, I] and writes y [T, B, state_size]; strides count floats. Returns false when
  // interrupted. The state is then unchanged, as it is after a throw (std::bad_alloc).
  bool run(std::int64_t T, const float* x, std::int64_t x_t, std::int64_t x_b, float* y,
           std::int64_t y_t, std::int64_t y_b, Interrupt& interrupt);

  // Sets the rows where `rows` [B] is true (null: all) to h [L, B, state_size], c [L, B, H] (null:
  // zero). When interrupted, the state is unchanged.
  void set(const std::uint8_t* rows, const float* h, const float* c, Interrupt& interrupt);
  // Copies the state to h and c; they are incomplete when interrupted.
  void get(float* h, float* c, Interrupt& interrupt);

  std::int64_t h_size() const { return net_->layers() * batch_ * state_size(); }
  std::int64_t c_size() const { return has_c() ? net_->layers() * batch_ * hidden_size() : 0; }

 private:
  std::int64_t state_size() const { return net_->cell(0).shape().state_size(); }
  std::int64_t hidden_size() const { return net_->cell(0).shape().hidden_size; }

  std::shared_ptr<const RecurrentStack> net_;
  std::int64_t batch_;
  Buffer h_, c_;
  Buffer next_h_, next_c_;  // written by a call, and swapped in when it has succeeded
  RunBuffers buffers_;
  // Two Python threads on one stream take turns. A waiting thread must not hold the GIL, since the
  // running thread may need it to poll. While it waits it listens to the interrupt.
  ReentrantGuard guard_;
};

}  // namespace treadle

// A StreamPool takes any of its streams through a recurrent net, several in one call.
//
// The rows of a call are the streams of that call and no others. Their sequences lie one behind the
// other, so that a call costs what its own frames cost, and a row has the bits that it has alone.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/recurrent/stack.h"
#include "engine/recurrent/stream_slots.h"

namespace treadle {

class StreamPool {
 public:
  // The state of a slot is h [L, state_size] and, of an LSTM, c [L, H] behind it.
  StreamPool(std::shared_ptr<const RecurrentStack> net, std::shared_ptr<StreamSlots> slots);
  ~StreamPool() { delete spare_.load(); }

  static std::int64_t state_width(const RecurrentStack& net);
  const RecurrentStack& net() const { return *net_; }

  // The frames of a call. With lengths, those of row b are lengths[b] steps, one row behind the
  // other, in x [sum of lengths, I] and y [sum of lengths, state_size], and T is the longest.
  struct Frames {
    std::int64_t T;
    const std::int64_t* lengths;  // [B] or null: all have T steps
    const float* x;               // [B, T, I] with the strides x_t and x_b, in floats
    std::int64_t x_t, x_b;
    float* y;  // [B, T, state_size], contiguous
  };

  // Takes each stream through its frames. Returns false when interrupted. No state has changed
  // then, nor after a throw (what StreamSlots::Held throws, std::bad_alloc).
  bool step(const std::int64_t* ids, std::int64_t count, const Frames& frames,
            Interrupt& interrupt);

 private:
  // The memory of a call, kept from call to call while it is small.
  struct Buffers {
    RunBuffers run;
    Buffer h, c;  // [L, B, ...]
    std::vector<std::int64_t> first_step;
    std::int64_t bytes() const;
  };
  void run(const StreamSlots::Held& held, const Frames& frames, Buffers& buffers,
           Interrupt& interrupt) const;

  std::shared_ptr<const RecurrentStack> net_;
  std::shared_ptr<StreamSlots> slots_;
  std::atomic<Buffers*> spare_{nullptr};  // null while a call uses them; others then make new ones
};

}  // namespace treadle

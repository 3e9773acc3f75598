// StreamSlots are the places of a pool of streams: who is open, and the state of each.
//
// A stream is named by an id: the number of its slot and, above it, the number of its opening,
// which no other stream of this process has. The id of a stream that was closed is never valid
// again, whoever has its slot. Any thread may call anything at any time: a slot is used by one call
// at a time, and others wait for it, as calls of one Stream do.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "runtime/buffer.h"
#include "runtime/reentrant_guard.h"

namespace treadle {

class StreamSlots {
 public:
  static constexpr int kSlotBits = 24;
  static constexpr std::int64_t kMostSlots = std::int64_t{1} << kSlotBits;
  static constexpr std::int64_t kFull = -1;  // instead of an id

  // A state has `width` floats. Throws std::bad_alloc; the caller has checked that the sizes do not
  // overflow. The memory of a state is first touched when its slot is first opened.
  StreamSlots(std::int64_t capacity, std::int64_t width);

  std::int64_t capacity() const { return capacity_; }
  std::int64_t width() const { return width_; }

  // Opens a stream with a state of `width` floats (null: zeros) and returns its id, or kFull.
  // Throws std::runtime_error when the numbers of openings are used up.
  std::int64_t open(const float* state);
  // Returns false if the id is not that of an open stream, or if patience ended.
  bool close(std::int64_t id, const ReentrantGuard::Patience& patience);
  // Closes the streams that have not been used for so many seconds, at most `most` of them and the
  // longest idle first. A stream in a call is in use. Returns how many were closed.
  std::int64_t evict(double seconds, std::int64_t most);
  bool is_open(std::int64_t id) const;
  // Returns for how many seconds an open stream has not been used.
  double idle_seconds(std::int64_t id) const;

  struct Statistics {
    std::int64_t open, opened, closed, evicted;  // streams; closed has the evicted ones, too
    std::int64_t calls, rows, frames;            // of all steps that have succeeded
  };
  Statistics statistics() const;
  void count_call(std::int64_t rows, std::int64_t frames);

  // The slots of the streams of one call, which no other call can use meanwhile.
  class Held {
   public:
    // Takes the slots in the order of their numbers, so that no two calls wait for each other.
    // Throws std::invalid_argument for an id that is not open or occurs twice, and what a
    // ReentrantGuard throws. Holds nothing where patience ended: it is then false.
    Held(StreamSlots& slots, const std::int64_t* ids, std::int64_t count,
         const ReentrantGuard::Patience& patience);

    explicit operator bool() const { return holds_; }
    std::int64_t size() const { return static_cast<std::int64_t>(states_.size()); }
    // Returns the state of a row, in the order of the ids.
    float* state(std::int64_t row) const { return states_[row]; }

   private:
    std::vector<float*> states_;
    std::unique_ptr<std::optional<ReentrantGuard::Hold>[]> holds_of_;
    bool holds_ = false;
  };

 private:
  struct Slot {
    ReentrantGuard guard;
    std::atomic<std::int64_t> opening{0};    // 0: nobody's; changed by who holds the guard
    std::atomic<std::int64_t> last_used{0};  // nanoseconds of the steady clock
  };

  Slot* find(std::int64_t id) const;  // null for an id that cannot be
  std::int64_t slot_of(std::int64_t id) const { return id & (kMostSlots - 1); }
  float* state(std::int64_t slot) { return states_.data() + slot * width_; }
  std::int64_t free_slot();  // or kFull
  void give_back(std::int64_t slot);

  const std::int64_t capacity_, width_;
  Buffer states_;                   // [capacity, width]
  std::unique_ptr<Slot[]> slots_;   // [capacity]
  mutable ReentrantGuard list_;     // held for a moment, by who changes the next two
  std::vector<std::int64_t> free_;  // slots that were used before
  std::int64_t untouched_ = 0;      // the first slot that was never used
  std::atomic<std::int64_t> opened_{0}, closed_{0}, evicted_{0}, calls_{0}, rows_{0}, frames_{0};
};

}  // namespace treadle

// A stack of layers grows until its first call. From then on it never changes, and any number of
// threads read it without a lock.
#pragma once

#include <atomic>

#include "runtime/reentrant_guard.h"

namespace treadle {

// Who holds the lock of a Growth calls nothing of Python, and so it is held for a moment only,
// whether there is a GIL or not.
class Growth {
 public:
  // Calls add() unless the growth has ended; returns whether it has called it.
  template <class Add>
  bool add(Add&& add) {
    const ReentrantGuard::Hold hold(guard_);
    if (ended_.load(std::memory_order_relaxed)) return false;
    add();
    return true;
  }

  // Ends the growth if there_is_one() says that there is a layer; returns whether it has ended.
  template <class ThereIsOne>
  bool end(ThereIsOne&& there_is_one) {
    if (ended_.load(std::memory_order_acquire)) return true;
    const ReentrantGuard::Hold hold(guard_);
    if (there_is_one()) ended_.store(true, std::memory_order_release);
    return ended_.load(std::memory_order_relaxed);
  }

  // Returns what read() returns, during which no layer is added.
  template <class Read>
  auto read(Read&& read) const {
    if (ended_.load(std::memory_order_acquire)) return read();
    const ReentrantGuard::Hold hold(guard_);
    return read();
  }

 private:
  std::atomic<bool> ended_{false};
  mutable ReentrantGuard guard_;
};

}  // namespace treadle

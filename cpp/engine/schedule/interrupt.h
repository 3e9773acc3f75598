// An Interrupt tells a long computation whether the caller still wants its result.
//
// A computation gets the Interrupt as an argument. A constructor cannot return early: it calls
// throw_if_stopped, which knows the Interrupt that its thread listens to.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include "runtime/fork.h"
#include "runtime/reentrant_guard.h"

namespace treadle {

// An Interrupt asks the caller every 50 ms whether the computation is to end (Ctrl-C).
class Interrupt {
 public:
  // poll(context) is called on the calling thread only and returns true to stop. A null poll never
  // stops. A poll that forks stops the computation in the child, which has no other threads.
  explicit Interrupt(bool (*poll)(void*), void* context = nullptr)
      : poll_(poll), context_(context) {}

  // The calling thread reports `work` multiply-adds that it has done. After a million of them the
  // clock is looked at.
  void progress(double work);
  // Looks at the clock, and polls if 50 ms have passed since the last time.
  void look();
  bool stopped() const { return stop_.load(std::memory_order_relaxed); }
  // Who waits for a lock with this patience polls meanwhile, and gives up when stopped.
  ReentrantGuard::Patience patience() {
    return {[](void* self) {
              static_cast<Interrupt*>(self)->look();
              return static_cast<Interrupt*>(self)->stopped();
            },
            this};
  }

 private:
  bool (*poll_)(void*);
  void* context_;
  const std::uint64_t process_ = fork_count();
  // The caller writes the numbers that follow all the time, other threads read stop_ all the time:
  // these are in cache lines of their own.
  alignas(64) double work_ = 0;
  std::chrono::steady_clock::time_point next_ = std::chrono::steady_clock::now() + kPeriod;
  static constexpr std::chrono::milliseconds kPeriod{50};
  alignas(64) std::atomic<bool> stop_{false};
};

// Listening makes an Interrupt that of throw_if_stopped, on the calling thread.
class Listening {
 public:
  explicit Listening(Interrupt& interrupt);
  ~Listening();
  Listening(const Listening&) = delete;
  Listening& operator=(const Listening&) = delete;

 private:
  Interrupt* const before_;
};

// Interrupted is thrown by throw_if_stopped.
struct Interrupted {};

// Reports `work` multiply-adds to the Interrupt that this thread listens to, if there is one.
// Throws Interrupted when it says stop.
void throw_if_stopped(double work);

}  // namespace treadle

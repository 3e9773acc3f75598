// Whether the caller still wants the result of a long computation.
#pragma once

#include <atomic>
#include <chrono>

namespace treadle {

// Asks now and then whether the caller wants the computation to end (Ctrl-C).
class Interrupt {
 public:
  // poll(context) is called on the calling thread only, every 50 ms, and returns true to stop; a
  // null poll never stops.
  explicit Interrupt(bool (*poll)(void*), void* context = nullptr)
      : poll_(poll), context_(context) {}

  // Reports `work` multiply-adds done by the calling thread; looks at the clock after many.
  void progress(double work);
  // Looks at the clock now.
  void look();
  bool stopped() const { return stop_.load(std::memory_order_relaxed); }

 private:
  bool (*poll_)(void*);
  void* context_;
  std::atomic<bool> stop_{false};
  double work_ = 0;
  std::chrono::steady_clock::time_point next_ = std::chrono::steady_clock::now() + kPeriod;
  static constexpr std::chrono::milliseconds kPeriod{50};
};

}  // namespace treadle

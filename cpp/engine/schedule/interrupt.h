// An Interrupt tells a long computation whether the caller still wants its result.
#pragma once

#include <atomic>
#include <chrono>

namespace treadle {

// An Interrupt asks the caller every 50 ms whether the computation is to end (Ctrl-C).
class Interrupt {
 public:
  // poll(context) is called on the calling thread only and returns true to stop. A null poll never
  // stops.
  explicit Interrupt(bool (*poll)(void*), void* context = nullptr)
      : poll_(poll), context_(context) {}

  // The calling thread reports `work` multiply-adds that it has done. After a million of them the
  // clock is looked at.
  void progress(double work);
  // Looks at the clock, and polls if 50 ms have passed since the last time.
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

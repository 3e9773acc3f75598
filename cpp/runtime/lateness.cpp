#include "runtime/lateness.h"

#include <algorithm>
#include <atomic>
#include <chrono>

namespace treadle {
namespace {

using Clock = std::chrono::steady_clock;
constexpr Clock::duration kShortest = std::chrono::milliseconds(5);
constexpr Clock::duration kLongest = std::chrono::milliseconds(200);

// Threads may write these at the same time: any of the values does.
std::atomic<Clock::time_point> end_of_rest{};
std::atomic<Clock::duration> last_rest{Clock::duration::zero()};

}  // namespace

void note_late_worker() {
  const Clock::time_point now = Clock::now();
  const Clock::duration last = last_rest.load(std::memory_order_relaxed);
  // Who worked for a long time since the last rest was only unlucky.
  const bool again = now - end_of_rest.load(std::memory_order_relaxed) < 4 * last;
  const Clock::duration rest = std::clamp(again ? 2 * last : kShortest, kShortest, kLongest);
  last_rest.store(rest, std::memory_order_relaxed);
  end_of_rest.store(now + rest, std::memory_order_relaxed);
}

bool workers_rest() {
  const Clock::time_point end = end_of_rest.load(std::memory_order_relaxed);
  return end != Clock::time_point{} && Clock::now() < end;
}

}  // namespace treadle

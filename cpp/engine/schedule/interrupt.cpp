#include "engine/schedule/interrupt.h"

namespace treadle {
namespace {

constexpr double kLookWork = 1e6;  // multiply-adds between two looks at the clock

thread_local Interrupt* listened_to = nullptr;

}  // namespace

void Interrupt::progress(double work) {
  work_ += work;
  if (work_ < kLookWork) return;
  work_ = 0;
  look();
}

void Interrupt::look() {
  if (!poll_ || stopped()) return;
  const auto now = std::chrono::steady_clock::now();
  if (now < next_) return;
  next_ = now + kPeriod;
  const bool stop = poll_(context_) || fork_count() != process_;
  if (stop) stop_.store(true, std::memory_order_relaxed);
}

Listening::Listening(Interrupt& interrupt) : before_(listened_to) { listened_to = &interrupt; }
Listening::~Listening() { listened_to = before_; }

void throw_if_stopped(double work) {
  if (!listened_to) return;
  listened_to->progress(work);
  if (listened_to->stopped()) throw Interrupted{};
}

}  // namespace treadle

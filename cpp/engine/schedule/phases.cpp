#include "engine/schedule/phases.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "runtime/lateness.h"

namespace treadle {
namespace {

// A thread that waits spins for so many pauses, some 30 us, then lets others have the CPU, then
// sleeps, since a long wait costs a quota of CPU time, too.
constexpr int kSpins = 2000, kYields = 2000;
constexpr std::chrono::microseconds kNap{50};
// The leader gives the others so many pauses before it does their parts.
constexpr int kMoment = 200;
// A thread has lost its CPU if the leader waits for it for so long, and longer than twice the time
// that its own work took.
constexpr std::chrono::microseconds kLate{300};

}  // namespace

Phases::Phases(int threads, Interrupt& interrupt)
    : size_(threads),
      interrupt_(interrupt),
      parts_(threads > 1 ? std::make_unique<Part[]>(threads) : nullptr),
      late_(threads > 1 ? std::make_unique<bool[]>(threads) : nullptr) {}

bool Phases::Member::begin_phase() {
  if (index_ == 0) {
    begun_ = std::chrono::steady_clock::now();
    if (phases_.resting_.load(std::memory_order_relaxed) && !workers_rest()) {
      phases_.resting_.store(false, std::memory_order_relaxed);
    }
    return !phases_.interrupt_.stopped();
  }
  while (phases_.resting_.load(std::memory_order_relaxed) && !leaves()) {
    std::this_thread::sleep_for(2 * kNap);
  }
  return !leaves();
}

bool Phases::Member::leaves() const {
  return phases_.over_.load(std::memory_order_relaxed) || phases_.interrupt_.stopped();
}

bool Phases::Member::claim_late_part(int part, bool patient) {
  bool& late = phases_.late_[part];
  if (!late && !patient) return false;
  late = claim_part(part);
  return late;
}

bool Phases::Member::have_finished_soon() const {
  for (int i = 0; i < kMoment; ++i) {
    if (have_finished()) return true;
    pause_cpu();
  }
  return false;
}

bool Phases::Member::end_phase(std::int64_t done) {
  if (done) phases_.finished_.fetch_add(done, std::memory_order_release);
  for (int i = 0; i < kSpins; ++i) {
    if (have_finished()) return !leaves();
    pause_cpu();
  }
  const auto start = std::chrono::steady_clock::now();
  bool patient = index_ == 0;
  for (int i = 0; !have_finished(); ++i) {
    if (caller_) phases_.interrupt_.look();
    if (leaves()) return false;
    if (i < kYields) {
      std::this_thread::yield();
    } else {
      std::this_thread::sleep_for(kNap);
    }
    if (!patient) continue;
    const auto waited = std::chrono::steady_clock::now() - start;
    if (waited < kLate || waited < 2 * (start - begun_)) continue;
    patient = false;
    note_late_worker();
    phases_.resting_.store(true, std::memory_order_relaxed);
    std::fill_n(phases_.late_.get(), phases_.size_, true);
  }
  return !leaves();
}

}  // namespace treadle

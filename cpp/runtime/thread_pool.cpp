#include "runtime/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>

#include "runtime/cpu_count.h"
#include "runtime/flush_to_zero.h"
#include "runtime/fork.h"
#include "runtime/lateness.h"

namespace treadle {
namespace {

// A pause takes 40 to 140 cycles on the CPUs of the last ten years, so a thread spins for about
// 30 us before it blocks.
constexpr int kSpins = 2000;
// A worker waits longer for its next job, some 0.2 ms: one that woke too late for a short call is
// still awake for the next.
constexpr int kCallSpins = 12000;
// A worker that is inside for so long after the caller has finished has lost its CPU.
constexpr std::chrono::milliseconds kLate{1};

using Clock = std::chrono::steady_clock;

// A word that one side changes and the other waits for, spinning first.
class Event {
 public:
  std::uint64_t value() const { return value_.load(std::memory_order_acquire); }
  void change(std::uint64_t value) {
    value_.store(value, std::memory_order_seq_cst);
    if (sleepers_.load(std::memory_order_seq_cst) > 0) {
      std::lock_guard<std::mutex> lock(mutex_);
      wake_.notify_all();
    }
  }
  bool anyone_asleep() const { return sleepers_.load(std::memory_order_relaxed) > 0; }
  // Returns the new value once it differs from `seen`.
  std::uint64_t wait_past(std::uint64_t seen) {
    std::uint64_t now = spin_past(seen, kCallSpins);
    if (now != seen) return now;
    std::unique_lock<std::mutex> lock(mutex_);
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    wake_.wait(lock, [&] { return (now = value_.load(std::memory_order_seq_cst)) != seen; });
    sleepers_.fetch_sub(1, std::memory_order_seq_cst);
    return now;
  }
  // Waits until the value differs from `seen`. Returns false if that took longer than `patience`:
  // the wait has then only begun.
  bool wait_past(std::uint64_t seen, Clock::duration patience) {
    if (spin_past(seen, kSpins) != seen) return true;
    std::unique_lock<std::mutex> lock(mutex_);
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    const bool changed = wake_.wait_for(
        lock, patience, [&] { return value_.load(std::memory_order_seq_cst) != seen; });
    sleepers_.fetch_sub(1, std::memory_order_seq_cst);
    return changed;
  }

 private:
  std::uint64_t spin_past(std::uint64_t seen, int spins) const {
    std::uint64_t now = value();
    for (int i = 0; i < spins && now == seen; ++i, now = value()) pause_cpu();
    return now;
  }

  std::atomic<std::uint64_t> value_{0};
  std::atomic<int> sleepers_{0};
  std::mutex mutex_;
  std::condition_variable wake_;
};

}  // namespace

class Pool {
 public:
  bool try_acquire() { return !busy_.exchange(true, std::memory_order_acquire); }
  void release() { busy_.store(false, std::memory_order_release); }
  // Notes the end of a call that could have used workers, whether it had them or not.
  void touch() { last_use_.store(Clock::now(), std::memory_order_relaxed); }

  // Returns how many of `count` workers may come to a job of so many microseconds.
  int prepare(int count, double microseconds) {
    if (!worth_waking(microseconds)) return 0;
    grow(count);
    return std::min(count, workers_);
  }

  // Runs the job as thread 0 here and as threads 1 ... count on the workers that come in time.
  void run(int count, const Lease::Job& job) {
    current_ = &job;
    wanted_.store(static_cast<std::uint64_t>(count), std::memory_order_relaxed);
    door_.store(++job_ * kDoor + kOpen, std::memory_order_release);
    call_event_.change(job_);
    const std::uint64_t process = fork_count();
    job.call(job.work, 0);
    if (fork_count() != process) return;
    // A worker that comes later finds another word and waits again.
    const std::uint64_t before = done_event_.value();
    const int entered = static_cast<int>(door_.exchange(0, std::memory_order_acq_rel) % kOpen);
    // Those that left before have counted down from zero. The last one to leave is then this
    // thread, or a worker that says so.
    if (inside_.fetch_add(entered, std::memory_order_acq_rel) == -entered) return;
    if (done_event_.wait_past(before, kLate)) return;
    note_late_worker();
    do {
      job.call_idle(job.idle);
      if (fork_count() != process) return;
    } while (!done_event_.wait_past(before, std::chrono::milliseconds(50)));
  }

 private:
  static constexpr std::uint64_t kDoor = 1 << 16, kOpen = 1 << 15;  // > set_num_threads' limit
  static constexpr double kWakeMicroseconds = 100;  // twice the time from futex wake to first code

  // A short job is not worth a wake-up, unless calls follow one another closely.
  bool worth_waking(double microseconds) const {
    const std::chrono::duration<double, std::micro> since =
        Clock::now() - last_use_.load(std::memory_order_relaxed);
    return microseconds > kWakeMicroseconds || since.count() < kWakeMicroseconds ||
           (workers_ > 0 && !call_event_.anyone_asleep());
  }

  // The system may refuse threads; the pool then makes do with those that it has.
  void grow(int count) {
    while (workers_ < count) {
      try {
        std::thread([this, seen = call_event_.value()] { serve(seen); }).detach();
        ++workers_;
      } catch (const std::exception&) {  // no thread, or no memory for one
        break;
      }
    }
  }

  void serve(std::uint64_t seen) {
    const FlushToZero guard;
    for (;;) {
      seen = call_event_.wait_past(seen);
      const int index = enter(seen);
      if (index == 0) continue;
      current_->call(current_->work, index);
      if (inside_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
        done_event_.change(done_event_.value() + 1);
      }
    }
  }

  // Lets this worker in to the job: returns its place from 1 on, or 0 when the door is closed.
  int enter(std::uint64_t job) {
    std::uint64_t door = door_.load(std::memory_order_acquire);
    while (door / kDoor == job && door % kDoor >= kOpen &&
           door % kOpen < wanted_.load(std::memory_order_relaxed)) {
      if (door_.compare_exchange_weak(door, door + 1, std::memory_order_acq_rel)) {
        return static_cast<int>(door % kOpen) + 1;
      }
    }
    return 0;
  }

  std::atomic<bool> busy_{false};
  std::atomic<Clock::time_point> last_use_{};
  // Only the holder of the lease uses these:
  int workers_ = 0;
  std::uint64_t job_ = 0;
  const Lease::Job* current_ = nullptr;  // written before the door opens
  std::atomic<std::uint64_t> wanted_{0};
  std::atomic<std::uint64_t> door_{0};  // job * kDoor + kOpen + workers that entered; 0: closed
  std::atomic<int> inside_{0};          // workers inside, once the door is closed
  Event call_event_;                    // holds the number of the job
  Event done_event_;                    // counts the jobs whose last worker has left
};

namespace {

// The child of a fork has none of its parent's workers and makes a pool of its own.
OncePerProcess<Pool> pool;
std::atomic<int> chosen_threads{0}, suggested_threads{0};

}  // namespace

int num_threads() {
  const int chosen = chosen_threads.load(std::memory_order_relaxed);
  if (chosen > 0) return chosen;
  static const int own = treadle_variable(), openmp = openmp_variable();
  if (own > 0) return own;
  const int suggested = suggested_threads.load(std::memory_order_relaxed);
  if (suggested > 0) return suggested;
  return openmp > 0 ? openmp : usable_cpus();
}

int useful_threads() { return std::min(num_threads(), usable_cpus()); }

void set_num_threads(int n) {
  if (n < 1 || n > 1024) {
    throw std::invalid_argument("treadle.set_num_threads: n is " + std::to_string(n) +
                                ", expected 1 to 1024");
  }
  chosen_threads.store(n, std::memory_order_relaxed);
}

void suggest_num_threads(int n) { suggested_threads.store(n, std::memory_order_relaxed); }

Lease::Lease(int threads, double microseconds) {
  if (threads <= 1 || workers_rest()) return;
  asked_ = true;
  Pool& shared = pool.get();
  if (!shared.try_acquire()) return;
  size_ = 1 + shared.prepare(threads - 1, microseconds);
  if (size_ > 1) {
    pool_ = &shared;
  } else {
    shared.release();
  }
}

Lease::~Lease() {
  // In the child of a fork within the call, pool_ is the parent's, which nobody uses any more.
  if (pool_) pool_->release();
  if (asked_) (pool_ ? *pool_ : pool.get()).touch();
}

void Lease::execute(const Job& job) {
  if (pool_) {
    pool_->run(size_ - 1, job);
  } else {
    job.call(job.work, 0);
  }
}

}  // namespace treadle

#include "runtime/thread_pool.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>

#include "runtime/flush_to_zero.h"

namespace treadle {
namespace {

// A pause takes 40 to 140 cycles on the CPUs of the last ten years, so a thread spins for about
// 30 us before it blocks.
constexpr int kSpins = 2000;
// A worker waits longer for its next job, some 0.2 ms: one that woke too late for a short call is
// still awake for the next.
constexpr int kCallSpins = 12000;

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

int affinity_count() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1u, std::thread::hardware_concurrency());
}

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
  // Waits until the word is no longer `seen`; `job` may do something every 50 ms meanwhile.
  void wait_past(std::uint64_t seen, const Lease::Job& job) {
    for (int i = 0; i < kSpins; ++i) {
      if (value() != seen) return;
      pause();
    }
    std::unique_lock<std::mutex> lock(mutex_);
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    while (!wake_.wait_for(lock, std::chrono::milliseconds(50),
                           [&] { return value_.load(std::memory_order_seq_cst) != seen; })) {
      lock.unlock();
      job.call_idle(job.idle);
      lock.lock();
    }
    sleepers_.fetch_sub(1, std::memory_order_seq_cst);
  }
  void wait_until(std::uint64_t wanted) {
    for (std::uint64_t now = value(); now != wanted;) now = wait_past(now);
  }
  bool anyone_asleep() const { return sleepers_.load(std::memory_order_relaxed) > 0; }
  // Returns the new value once it differs from `seen`.
  std::uint64_t wait_past(std::uint64_t seen, int spins = kSpins) {
    for (int i = 0; i < spins; ++i) {
      const std::uint64_t now = value();
      if (now != seen) return now;
      pause();
    }
    std::unique_lock<std::mutex> lock(mutex_);
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    wake_.wait(lock, [&] { return value_.load(std::memory_order_seq_cst) != seen; });
    sleepers_.fetch_sub(1, std::memory_order_seq_cst);
    return value();
  }

 private:
  std::atomic<std::uint64_t> value_{0};
  std::atomic<int> sleepers_{0};
  std::mutex mutex_;
  std::condition_variable wake_;
};

using Clock = std::chrono::steady_clock;

class Pool {
 public:
  bool try_acquire() { return !busy_.exchange(true, std::memory_order_acquire); }
  void release() { busy_.store(false, std::memory_order_release); }
  // Notes the end of a call that could have used workers, whether it had them or not.
  void touch() { last_use_.store(Clock::now(), std::memory_order_relaxed); }

  // Calls for `count` workers and returns how many answered in time.
  int assemble(int count, double microseconds) {
    if (!worth_waking(microseconds)) return 0;
    grow(count);
    count = std::min(count, workers_);
    ++job_;
    wanted_.store(static_cast<std::uint64_t>(count), std::memory_order_relaxed);
    roster_.store(job_ * kRoster + kOpen, std::memory_order_release);
    call_event_.change(job_);
    // Awake, a worker answers within half a microsecond. Waking takes tens of them: a long job
    // waits for that, as long as it stands to gain.
    const auto start = Clock::now();
    const auto patience = std::chrono::duration<double, std::micro>(
        std::min(kMostPatience, std::max(kLeastPatience, microseconds * kPatience)));
    while (static_cast<int>(roster_.load(std::memory_order_acquire) % kOpen) < count &&
           Clock::now() - start < patience) {
      for (int i = 0; i < 16; ++i) pause();
    }
    // The roster is closed: a worker that comes later finds another word and waits again.
    return static_cast<int>(roster_.exchange(0, std::memory_order_acq_rel) % kOpen);
  }

  // Runs the job as thread 0 here and as threads 1 ... helpers on the workers that answered. A null
  // job lets the workers go.
  void run(int helpers, const Lease::Job* job) {
    current_ = job;
    pending_.store(helpers, std::memory_order_relaxed);
    const std::uint64_t before = done_event_.value();
    go_event_.change(job_);
    if (job) {
      job->call(job->work, 0);
      done_event_.wait_past(before, *job);
    } else {
      done_event_.wait_past(before);
    }
  }

 private:
  static constexpr std::uint64_t kRoster = 1 << 16, kOpen = 1 << 15;  // > set_num_threads' limit
  static constexpr double kWakeMicroseconds = 100;  // twice the time from futex wake to first code
  static constexpr double kLeastPatience = 2, kMostPatience = 200, kPatience = 0.1;

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
      seen = call_event_.wait_past(seen, kCallSpins);
      const int index = answer(seen);
      if (index == 0) continue;
      go_event_.wait_until(seen);
      if (current_) current_->call(current_->work, index);
      if (pending_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
        done_event_.change(done_event_.value() + 1);
      }
    }
  }

  // Puts this worker on the roster of the job: its place from 1 on, or 0 when the roster is closed.
  int answer(std::uint64_t job) {
    std::uint64_t roster = roster_.load(std::memory_order_acquire);
    while (roster / kRoster == job && roster % kRoster >= kOpen &&
           roster % kOpen < wanted_.load(std::memory_order_relaxed)) {
      if (roster_.compare_exchange_weak(roster, roster + 1, std::memory_order_acq_rel)) {
        return static_cast<int>(roster % kOpen) + 1;
      }
    }
    return 0;
  }

  std::atomic<bool> busy_{false};
  std::atomic<Clock::time_point> last_use_{};
  // Only the holder of the lease uses these:
  int workers_ = 0;
  std::uint64_t job_ = 0;
  const Lease::Job* current_ = nullptr;  // written before go_event_ changes
  std::atomic<int> pending_{0};
  std::atomic<std::uint64_t> wanted_{0};
  std::atomic<std::uint64_t> roster_{0};  // job * kRoster + kOpen + answers; 0: closed
  Event call_event_, go_event_;           // both hold the number of the job
  Event done_event_;
};

std::atomic<Pool*> pool{nullptr};
std::atomic<int> chosen_threads{0};
std::atomic<std::uint64_t> forks{0};

}  // namespace

std::uint64_t fork_count() {
  // In the child of a fork only the forking thread exists, and the parent's pool, whatever state it
  // was in, is dropped.
  static const int registered = pthread_atfork(nullptr, nullptr, [] {
    pool.store(nullptr, std::memory_order_release);
    forks.fetch_add(1, std::memory_order_relaxed);
  });
  (void)registered;
  return forks.load(std::memory_order_relaxed);
}

namespace {

Pool& the_pool() {
  Pool* p = pool.load(std::memory_order_acquire);
  if (p) return *p;
  // The pool is never destroyed, since workers may still be blocked in it when the process ends.
  fork_count();
  auto fresh = std::make_unique<Pool>();
  if (pool.compare_exchange_strong(p, fresh.get(), std::memory_order_acq_rel)) {
    return *fresh.release();
  }
  return *p;
}

}  // namespace

int num_threads() {
  const int n = chosen_threads.load(std::memory_order_relaxed);
  return n > 0 ? n : affinity_count();
}

void set_num_threads(int n) {
  if (n < 1 || n > 1024) {
    throw std::invalid_argument("treadle.set_num_threads: n is " + std::to_string(n) +
                                ", expected 1 to 1024");
  }
  chosen_threads.store(n, std::memory_order_relaxed);
}

bool Barrier::wait(bool stop, void (*idle)(void*), void* context) {
  if (stop) vote_.store(true, std::memory_order_relaxed);
  const std::uint32_t generation = generation_.load(std::memory_order_acquire);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) == threads_ - 1) {
    arrived_.store(0, std::memory_order_relaxed);
    decided_ = vote_.load(std::memory_order_relaxed);
    generation_.store(generation + 1, std::memory_order_release);
    return decided_;
  }
  for (int i = 0; generation_.load(std::memory_order_acquire) == generation; ++i) {
    if (i < kSpins) {
      pause();
    } else {
      sched_yield();
      if (idle) idle(context);
    }
  }
  return decided_;
}

Lease::Lease(int threads, double microseconds) {
  if (threads <= 1) return;
  asked_ = true;
  if (!the_pool().try_acquire()) return;
  size_ = 1 + the_pool().assemble(threads - 1, microseconds);
  if (size_ == 1) the_pool().release();
}

Lease::~Lease() {
  if (asked_) the_pool().touch();
  if (size_ == 1) return;
  if (!ran_) the_pool().run(size_ - 1, nullptr);  // the workers that answered are waiting
  the_pool().release();
}

void Lease::execute(const Job& job) {
  if (size_ == 1) {
    job.call(job.work, 0);
  } else {
    ran_ = true;
    the_pool().run(size_ - 1, &job);
  }
}

}  // namespace treadle

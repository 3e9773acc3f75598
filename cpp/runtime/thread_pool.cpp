#include "runtime/thread_pool.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <vector>

#include "runtime/flush_to_zero.h"

namespace weft {
namespace {

// A pause is 40 to 140 cycles on the CPUs of the last ten years: about 30 us before blocking.
constexpr int kSpins = 2000;

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
  bool anyone_asleep() const { return sleepers_.load(std::memory_order_relaxed) > 0; }
  // Returns the new value once it differs from `seen`.
  std::uint64_t wait_past(std::uint64_t seen) {
    for (int i = 0; i < kSpins; ++i) {
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

class Pool {
 public:
  bool try_acquire() { return !busy_.exchange(true, std::memory_order_acquire); }
  void release() {
    last_use_ = Clock::now();
    busy_.store(false, std::memory_order_release);
  }
  bool worth_waking(double microseconds) const {
    return microseconds > kWakeMicroseconds || (workers_ > 0 && !start_.anyone_asleep()) ||
           Clock::now() - last_use_ < std::chrono::microseconds(kWakeMicroseconds);
  }

  // Makes sure of `count` workers; returns how many there are (the system may refuse more).
  int grow(int count) {
    while (workers_ < count) {
      try {
        std::thread([this, index = workers_ + 1, seen = start_.value()] { work(index, seen); })
            .detach();
        ++workers_;
      } catch (const std::system_error&) {
        break;
      }
    }
    return workers_;
  }

  void run(int threads, void (*call)(void*, int), void* work) {
    call_ = call;
    work_ = work;
    pending_.store(threads - 1, std::memory_order_relaxed);
    const std::uint64_t before = done_.value();
    start_.change((start_.value() / kThreads + 1) * kThreads + threads);
    call(work, 0);
    done_.wait_past(before);
  }

 private:
  static constexpr std::uint64_t kThreads = 1 << 16;  // more than set_num_threads allows

  void work(int index, std::uint64_t seen) {
    const FlushToZero guard;
    for (;;) {
      seen = start_.wait_past(seen);
      // A worker that is not part of the job may be late and must not look at it.
      if (index >= static_cast<int>(seen % kThreads)) continue;
      call_(work_, index);
      if (pending_.fetch_sub(1, std::memory_order_acq_rel) == 1) done_.change(done_.value() + 1);
    }
  }

  using Clock = std::chrono::steady_clock;
  static constexpr int kWakeMicroseconds = 100;  // futex wake to first instruction, twice over

  std::atomic<bool> busy_{false};
  Clock::time_point last_use_{};
  int workers_ = 0;  // changed under a lease only
  // The job, written before start_ changes.
  void (*call_)(void*, int) = nullptr;
  void* work_ = nullptr;
  std::atomic<int> pending_{0};
  Event start_;  // number of the job * kThreads + its threads: one word, so that they belong together
  Event done_;
};

std::atomic<Pool*> pool{nullptr};
std::atomic<int> chosen_threads{0};

Pool& the_pool() {
  Pool* p = pool.load(std::memory_order_acquire);
  if (p) return *p;
  // Never destroyed: workers may still be blocked in it when the process ends. In the child of a
  // fork only the forking thread exists, and the parent's pool, whatever state it was in, is dropped.
  static const int registered =
      pthread_atfork(nullptr, nullptr, [] { pool.store(nullptr, std::memory_order_release); });
  (void)registered;
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
    throw std::invalid_argument("weft.set_num_threads: n is " + std::to_string(n) +
                                ", expected 1 to 1024");
  }
  chosen_threads.store(n, std::memory_order_relaxed);
}

bool Barrier::wait(bool stop) {
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
    }
  }
  return decided_;
}

Lease::Lease(int threads, double microseconds) {
  if (threads <= 1 || !the_pool().try_acquire()) return;
  if (the_pool().worth_waking(microseconds)) {
    size_ = 1 + std::min(threads - 1, the_pool().grow(threads - 1));
  }
  if (size_ == 1) the_pool().release();
}

Lease::~Lease() {
  if (size_ > 1) the_pool().release();
}

void Lease::run(void (*call)(void*, int), void* work) {
  if (size_ == 1) {
    call(work, 0);
  } else {
    the_pool().run(size_, call, work);
  }
}

}  // namespace weft

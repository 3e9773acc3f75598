// A ReentrantGuard locks while foreign code may run. It throws where waiting would never end.
#pragma once

#include <atomic>
#include <mutex>
#include <stdexcept>
#include <thread>

#include "runtime/thread_pool.h"

namespace treadle {

class ReentrantGuard {
 public:
  class Hold {
   public:
    explicit Hold(ReentrantGuard& turn) : guard_(turn) { guard_.take(); }
    ~Hold() { guard_.give(); }
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;

   private:
    ReentrantGuard& guard_;
  };

 private:
  // Throws std::runtime_error where this thread has the lock already (a signal handler that runs
  // inside the call it interrupted), or where a thread of the parent had it at the fork.
  void take() {
    const std::thread::id nobody, owner = owner_.load();
    if (owner == std::this_thread::get_id()) {
      throw std::runtime_error(
          "treadle: the object is in the middle of a call that this one interrupted");
    }
    if (owner != nobody && forks_.load() != fork_count()) {
      throw std::runtime_error(
          "treadle: the object was in use by another thread when the process forked");
    }
    mutex_.lock();
    forks_.store(fork_count());
    owner_.store(std::this_thread::get_id());
  }
  void give() {
    owner_.store(std::thread::id());
    mutex_.unlock();
  }

  std::mutex mutex_;
  std::atomic<std::thread::id> owner_{};
  std::atomic<std::uint64_t> forks_{0};
};

}  // namespace treadle

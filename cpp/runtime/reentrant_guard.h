// A ReentrantGuard locks while foreign code may run. It throws where waiting would never end.
#pragma once

#include <atomic>
#include <cstdint>

namespace treadle {

// The lock is one atomic word that says who holds it: a thread of this process, one of the process
// that forked this one, or nobody. Whatever moment a fork copies, the child can tell these apart.
class ReentrantGuard {
 public:
  // Tells a waiting thread, every 50 ms, whether it is to give up. It may throw.
  struct Patience {
    bool (*gives_up)(void*);
    void* context;
  };

  // Who has to wait asks first whether all other threads were stopped for ever, as the threads of
  // an interpreter are that ends.
  static void ask_whether_others_are_stopped(bool (*ask)());

  // Tells whether somebody holds the lock at this moment.
  bool is_held() const { return holder_.load(std::memory_order_relaxed) != 0; }

  class Hold {
   public:
    // Waits without an end. Throws std::runtime_error where this thread has the lock already (a
    // signal handler that runs inside the call it interrupted), where a thread of the parent had it
    // at the fork, or where a thread has it that was stopped.
    explicit Hold(ReentrantGuard& guard) : Hold(guard, Patience{nullptr, nullptr}) {}
    // Waits until the lock is free or patience ends. Who has not got it must leave the object
    // alone.
    Hold(ReentrantGuard& guard, const Patience& patience)
        : guard_(guard), holds_(guard.take(patience)) {}
    ~Hold() {
      if (holds_) guard_.give();
    }
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;

    explicit operator bool() const { return holds_; }

   private:
    ReentrantGuard& guard_;
    const bool holds_;
  };

 private:
  bool take(const Patience& patience);
  void give();

  std::atomic<std::uint64_t> holder_{0};  // 0: nobody
  std::atomic<int> waiting_{0};           // threads that may be asleep until holder_ is 0
};

}  // namespace treadle

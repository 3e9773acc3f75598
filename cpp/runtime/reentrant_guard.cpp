#include "runtime/reentrant_guard.h"

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <stdexcept>

#include "runtime/fork.h"

namespace treadle {
namespace {

// A holder's word has the number of the process (fork_count) above that of the thread.
constexpr int kThreadBits = 40;

// Returns the word of the calling thread. Threads are numbered from 1 on, and no number comes
// twice, as an address of a thread does: in a child, a new thread may get that of a thread which
// only the parent has.
std::uint64_t own_word() {
  static std::atomic<std::uint64_t> threads{0};
  thread_local std::uint64_t number = 0;
  if (!number) number = threads.fetch_add(1, std::memory_order_relaxed) + 1;
  return fork_count() << kThreadBits | number;
}

constexpr std::uint64_t thread_of(std::uint64_t word) {
  return word & ((std::uint64_t{1} << kThreadBits) - 1);
}
constexpr std::uint64_t process_of(std::uint64_t word) { return word >> kThreadBits; }

// All threads that wait for any lock sleep here. A child makes a place of its own, since a thread
// of its parent may have held this mutex.
struct SleepingPlace {
  std::mutex mutex;
  std::condition_variable wake;
};
OncePerProcess<SleepingPlace> sleeping_place;

std::atomic<bool (*)()> others_are_stopped{nullptr};

}  // namespace

void ReentrantGuard::ask_whether_others_are_stopped(bool (*ask)()) { others_are_stopped = ask; }

bool ReentrantGuard::take(const Patience& patience) {
  const std::uint64_t own = own_word();
  std::uint64_t holder = 0;
  if (holder_.compare_exchange_strong(holder, own, std::memory_order_acquire)) return true;
  SleepingPlace& place = sleeping_place.get();
  struct Waiting {
    explicit Waiting(std::atomic<int>& count) : count_(count) { count_.fetch_add(1); }
    ~Waiting() { count_.fetch_sub(1); }
    std::atomic<int>& count_;
  } const waiting(waiting_);
  for (;;) {
    // An equal thread number also means this thread where it forked while it held the lock.
    if (thread_of(holder) == thread_of(own)) {
      throw std::runtime_error(
          "treadle: the object is in the middle of a call that this one interrupted");
    }
    if (holder != 0 && process_of(holder) != process_of(own)) {
      throw std::runtime_error(
          "treadle: the object was in use by another thread when the process forked");
    }
    if (bool (*const stopped)() = others_are_stopped.load(); holder != 0 && stopped && stopped()) {
      throw std::runtime_error(
          "treadle: the object is in use by a thread that stopped where the interpreter ends");
    }
    if (patience.gives_up && patience.gives_up(patience.context)) return false;
    {
      std::unique_lock<std::mutex> lock(place.mutex);
      place.wake.wait_for(lock, std::chrono::milliseconds(50), [&] {
        holder = 0;
        return holder_.compare_exchange_strong(holder, own);
      });
      if (holder == 0) return true;
    }
  }
}

void ReentrantGuard::give() {
  holder_.store(0);
  if (waiting_.load() == 0) return;
  // Where there is no place, those who waited were threads of the parent.
  if (SleepingPlace* place = sleeping_place.find()) {
    const std::lock_guard<std::mutex> lock(place->mutex);
    place->wake.notify_all();
  }
}

}  // namespace treadle

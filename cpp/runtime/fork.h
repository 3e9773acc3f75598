// What a child of fork() inherits: the memory of its parent, and only the thread that forked.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

namespace treadle {

// Returns how many forks lie between the first process and this one. In a child, a lock that
// another thread held in the parent stays locked for ever, which this number reveals. Counting
// begins at the first call.
std::uint64_t fork_count();

// OncePerProcess makes its object when a process first asks for it, and never destroys it, since
// threads may still wait in it when the process ends. A child makes an object of its own: that of
// its parent may be in any state.
template <class T>
class OncePerProcess {
 public:
  constexpr OncePerProcess() = default;

  // Throws std::bad_alloc.
  T& get() {
    const std::uint64_t process = fork_count();
    Entry* entry = entry_.load(std::memory_order_acquire);
    while (!entry || entry->process != process) {
      auto fresh = std::make_unique<Entry>(process);
      if (entry_.compare_exchange_strong(entry, fresh.get(), std::memory_order_acq_rel)) {
        entry = fresh.release();
      }
    }
    return entry->object;
  }

  // Returns the object of this process, or null if nobody has asked for it yet.
  T* find() const {
    Entry* entry = entry_.load(std::memory_order_acquire);
    return entry && entry->process == fork_count() ? &entry->object : nullptr;
  }

 private:
  struct Entry {
    explicit Entry(std::uint64_t number) : process(number) {}
    const std::uint64_t process;
    T object;
  };
  std::atomic<Entry*> entry_{nullptr};
};

}  // namespace treadle

#include "runtime/fork.h"

#if !defined(_WIN32)
#include <pthread.h>
#endif

namespace treadle {
namespace {

std::atomic<std::uint64_t> forks{0};

}  // namespace

std::uint64_t fork_count() {
#if !defined(_WIN32)  // where no process forks
  static const int registered =
      pthread_atfork(nullptr, nullptr, [] { forks.fetch_add(1, std::memory_order_relaxed); });
  (void)registered;
#endif
  return forks.load(std::memory_order_relaxed);
}

}  // namespace treadle

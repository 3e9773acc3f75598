// glibc ends a thread (pthread_exit, pthread_cancel) by an exception of its own, which unwinds the
// stack and may not be caught for good. Other C libraries, and Windows, leave the stack as it is.
#pragma once

#include <chrono>
#include <thread>

#if defined(__GLIBCXX__)
#include <cxxabi.h>
#endif

namespace treadle {

// Calls f(). A thread that is ended by unwinding within f waits here for the end of the process
// instead, for frames that cannot be unwound.
template <class F>
void outlive_forced_unwind(const F& f) {
#if defined(__GLIBCXX__)
  try {
    f();
  } catch (abi::__forced_unwind&) {
    for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
  }
#else
  f();
#endif
}

}  // namespace treadle

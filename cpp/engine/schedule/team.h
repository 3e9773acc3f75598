// A team of threads goes through phases together (Phases). The caller leads it; workers join when
// they come, and the caller never waits for one that has claimed nothing.
#pragma once

#include <cstdint>

#include "engine/schedule/interrupt.h"
#include "engine/schedule/phases.h"
#include "runtime/flush_to_zero.h"
#include "runtime/thread_pool.h"

namespace treadle {

class Team {
 public:
  using Member = Phases::Member;

  // Asks for as many threads as are of use for `work`, in multiply-adds.
  Team(double work, Interrupt& interrupt)
      : Team(threads_for(work), work / kWorkPerMicrosecond, interrupt) {}

  // Asks for so many threads, for work that keeps one thread busy for about so many microseconds.
  Team(int threads, double microseconds, Interrupt& interrupt)
      : lease_(threads, microseconds), phases_(lease_.size(), interrupt), interrupt_(interrupt) {}

  // Returns how many threads are of use for `work`, in multiply-adds.
  static int threads_for(double work) { return work < kShareWork ? 1 : useful_threads(); }

  // The largest number of threads that may come.
  int size() const { return lease_.size(); }

  // Calls work(member) on every thread that comes. A team can do this once.
  template <class Work>
  void run(Work&& work) {
    // Every thread gets the caller's control word, so that a rounding mode of the caller's does not
    // depend on the thread, and flushes denormals to zero.
    const std::uint64_t word = control_word() | kFlushBits;
    auto one = [&](int thread) {
      const ControlWord guard(word);
      Member member(phases_, thread, thread == 0);
      work(member);
      if (thread == 0) phases_.finish();
    };
    auto idle = [&] { interrupt_.look(); };
    lease_.run(one, idle);
  }

 private:
  // A core does about so many multiply-adds in a microsecond. A second thread does not pay for less
  // than ten microseconds of work.
  static constexpr double kWorkPerMicrosecond = 5e4, kShareWork = 10 * kWorkPerMicrosecond;

  Lease lease_;
  Phases phases_;
  Interrupt& interrupt_;
};

}  // namespace treadle

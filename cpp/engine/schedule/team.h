// A team of threads goes through phases together. In a phase the threads take task after task until
// none is left, and wait for each other.
#pragma once

#include <atomic>
#include <cstdint>

#include "engine/schedule/interrupt.h"
#include "runtime/flush_to_zero.h"
#include "runtime/thread_pool.h"

namespace treadle {

class Team {
 public:
  // Leases as many threads as are of use for `work`, in multiply-adds.
  Team(double work, Interrupt& interrupt)
      : lease_(work < kShareWork ? 1 : num_threads(), work / kWorkPerMicrosecond),
        barrier_(lease_.size()),
        interrupt_(interrupt) {}

  int size() const { return lease_.size(); }

  // A Member stands for one thread of the team, in the code that this thread runs.
  class Member {
   public:
    int index() const { return index_; }
    // Reports `work` multiply-adds done within a long task. Returns false when the computation is
    // to end.
    bool progress(double work) {
      if (index_ == 0) team_.interrupt_.progress(work);
      return !team_.interrupt_.stopped();
    }

    // Every thread calls this with the same arguments; task(i) runs once for every i < tasks, on
    // whichever thread is free, and the call returns when all are done. A task takes `work`
    // multiply-adds. Returns false when the computation is to end.
    template <class Task>
    bool parallel_for(std::int64_t tasks, double work, Task&& task) {
      // The counter only rises. Each thread leaves a phase with the first number that is no task,
      // so the next phase begins as many numbers after the last task as there are threads.
      const std::int64_t end = begin_ + tasks;
      for (std::int64_t i = next(); i < end; i = next()) {
        if (progress(work)) task(i - begin_);
      }
      begin_ = end + team_.size();
      const bool stop = team_.interrupt_.stopped();
      if (team_.size() == 1) return !stop;
      // The tasks of other threads may be long: the caller's thread notices Ctrl-C while it waits.
      const auto look = [](void* interrupt) { static_cast<Interrupt*>(interrupt)->look(); };
      return !team_.barrier_.wait(stop, index_ == 0 ? +look : nullptr, &team_.interrupt_);
    }

   private:
    friend class Team;
    Member(Team& team, int index) : team_(team), index_(index) {}
    std::int64_t next() {
      return team_.size() == 1 ? alone_++ : team_.next_.fetch_add(1, std::memory_order_relaxed);
    }

    Team& team_;
    const int index_;
    std::int64_t begin_ = 0, alone_ = 0;
  };

  // Calls work(member) on every thread at the same time. A team can do this once.
  template <class Work>
  void run(Work&& work) {
    // Every thread gets the caller's control word, so that a rounding mode of the caller's does not
    // depend on the thread, and flushes denormals to zero.
    const std::uint64_t word = control_word() | kFlushBits;
    auto one = [&](int thread) {
      const ControlWord guard(word);
      Member member(*this, thread);
      work(member);
    };
    auto idle = [&] { interrupt_.look(); };
    lease_.run(one, idle);
  }

 private:
  // A core does about so many multiply-adds in a microsecond. A second thread does not pay for less
  // than ten microseconds of work.
  static constexpr double kWorkPerMicrosecond = 5e4, kShareWork = 10 * kWorkPerMicrosecond;

  Lease lease_;
  Barrier barrier_;
  Interrupt& interrupt_;
  std::atomic<std::int64_t> next_{0};
};

}  // namespace treadle

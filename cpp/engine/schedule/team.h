// Threads that share out the tasks of one phase after another.
#pragma once

#include <atomic>
#include <cstdint>

#include "engine/schedule/interrupt.h"
#include "runtime/flush_to_zero.h"
#include "runtime/thread_pool.h"

namespace treadle {

class Team {
 public:
  // Threads for work of about so many multiply-adds.
  Team(double work, Interrupt& interrupt)
      : lease_(work < kShareWork ? 1 : num_threads(), work / kWorkPerMicrosecond),
        barrier_(lease_.size()),
        interrupt_(interrupt) {}

  int size() const { return lease_.size(); }

  // One thread of the team.
  class Member {
   public:
    int index() const { return index_; }
    // Within a long task: reports multiply-adds done, and tells whether to end.
    bool progress(double work) {
      if (index_ == 0) team_.interrupt_.progress(work);
      return !team_.interrupt_.stopped();
    }

    // Every thread calls this with the same arguments; task(i) runs once for every i < tasks, on
    // whichever thread is free, and the call returns when all are done. `work` is that of one task,
    // in multiply-adds. False when the computation is to end.
    template <class Task>
    bool parallel_for(std::int64_t tasks, double work, Task&& task) {
      // The counter never turns back: in a phase every thread takes one number too many.
      const std::int64_t end = begin_ + tasks;
      for (std::int64_t i = next(); i < end; i = next()) {
        if (progress(work)) task(i - begin_);
      }
      begin_ = end + team_.size();
      const bool stop = team_.interrupt_.stopped();
      if (team_.size() == 1) return !stop;
      // The caller's thread waits for tasks that may be long: it has to hear Ctrl-C meanwhile.
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

  // Calls work(member) on every thread. Once per team.
  template <class Work>
  void run(Work&& work) {
    // One control word for all: a rounding mode of the caller's must not depend on the thread.
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
  // A core does about so much; below some microseconds of it a second thread does not pay.
  static constexpr double kWorkPerMicrosecond = 5e4, kShareWork = 10 * kWorkPerMicrosecond;

  Lease lease_;
  Barrier barrier_;
  Interrupt& interrupt_;
  std::atomic<std::int64_t> next_{0};
};

}  // namespace treadle

// Phases are what threads share that go through the same phases of work together. In a phase the
// threads claim task after task; it ends when every task is done. Nobody waits for a thread that
// has claimed nothing: one that comes late, or loses its CPU, is left behind and skips what others
// have done meanwhile.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <initializer_list>
#include <memory>

#include "engine/schedule/interrupt.h"

namespace treadle {

class Phases {
 public:
  // Makes room for so many threads. Throws std::bad_alloc.
  Phases(int threads, Interrupt& interrupt);

  int size() const { return size_; }
  // True for the first thread that asks. This one is the leader: it has the number 0 and does the
  // parts of those that are not there.
  bool lead() { return !led_.exchange(true, std::memory_order_relaxed); }
  // The leader has come to the end: threads that were left behind need not follow.
  void finish() { over_.store(true, std::memory_order_relaxed); }

  // A Member stands for one thread, in the code that this thread runs.
  class Member {
   public:
    // `caller` tells whether this is the thread that may poll the interrupt.
    Member(Phases& phases, int index, bool caller)
        : phases_(phases), index_(index), caller_(caller) {}

    int index() const { return index_; }
    bool stopped() const { return phases_.interrupt_.stopped(); }
    // Reports `work` multiply-adds done within a long task. Returns false when the computation is
    // to end.
    bool progress(double work) {
      if (caller_) phases_.interrupt_.progress(work);
      return !phases_.interrupt_.stopped();
    }

    // Every thread calls this with the same arguments; task(i) runs once for every i < tasks, on
    // whichever thread is free, and the call returns when all are done. A task takes `work`
    // multiply-adds. Returns false when the computation is to end, and to a thread that is still
    // here when the leader has come to the end.
    template <class Task>
    bool parallel_for(std::int64_t tasks, double work, Task&& task) {
      if (phases_.size_ == 1) {
        for (std::int64_t i = 0; i < tasks; ++i) {
          if (!progress(work)) return false;
          task(i);
        }
        return !phases_.interrupt_.stopped();
      }
      const std::int64_t first = claims_;
      claims_ += tasks;
      finishes_ += tasks;
      if (!begin_phase()) return false;
      std::int64_t done = 0;
      for (std::int64_t i; (i = phases_.claim(claims_)) >= 0; ++done) {
        if (!progress(work)) return false;
        task(i - first);
      }
      return end_phase(done);
    }

    // As parallel_for with a single task.
    template <class Task>
    bool once(Task&& task) {
      return parallel_for(1, 0, [&](std::int64_t) { task(); });
    }

    // Every thread calls this with the same arguments; the work has a part for each thread, which
    // meets in it the memory that it met in the phases before. task(begin, end) runs for ranges of
    // parts that together are [0, size()); the leader also takes the parts of threads that are not
    // there. The call returns when all parts are done, false when the computation is to end.
    template <class Task>
    bool share(Task&& task) {
      const int size = phases_.size_;
      if (size == 1) {
        task(0, 1);
        return !phases_.interrupt_.stopped();
      }
      ++shares_;
      finishes_ += size;
      if (!begin_phase()) return false;
      std::int64_t done = 0;
      if (claim_part(index_)) {
        task(index_, index_ + 1);
        ++done;
      }
      if (index_ == 0) {
        // Those that were late before are late again, unless they have come meanwhile. All others
        // get a moment.
        phases_.finished_.fetch_add(done, std::memory_order_release);
        done = 0;
        for (const bool patient : {false, true}) {
          if (patient && have_finished_soon()) break;
          for (int begin = 1, end; begin < size; begin = end) {
            for (end = begin; end < size && claim_late_part(end, patient); ++end) {
            }
            if (begin < end) {
              if (phases_.interrupt_.stopped()) return false;
              task(begin, end);
              phases_.finished_.fetch_add(end - begin, std::memory_order_release);
            } else {
              ++end;
            }
          }
        }
      }
      return end_phase(done);
    }

   private:
    // Return false when this thread is to leave.
    bool begin_phase();
    bool end_phase(std::int64_t done);
    bool leaves() const;

    bool claim_part(int part) {
      std::int64_t before = shares_ - 1;
      return phases_.parts_[part].claims.compare_exchange_strong(before, shares_,
                                                                 std::memory_order_relaxed);
    }
    bool claim_late_part(int part, bool patient);
    bool have_finished() const {
      return phases_.finished_.load(std::memory_order_acquire) >= finishes_;
    }
    bool have_finished_soon() const;

    Phases& phases_;
    const int index_;
    const bool caller_;
    // The numbers of tasks, of shared phases and of both kinds of tasks, up to the present phase.
    std::int64_t claims_ = 0, shares_ = 0, finishes_ = 0;
    std::chrono::steady_clock::time_point begun_{};  // the leader's, of the present phase
  };

 private:
  // Returns the number of a task below `end` that nobody has claimed, or -1. Tasks are numbered
  // through all phases, so that a thread left behind in an old phase finds nothing there.
  std::int64_t claim(std::int64_t end) {
    std::int64_t i = claimed_.load(std::memory_order_relaxed);
    while (i < end) {
      if (claimed_.compare_exchange_weak(i, i + 1, std::memory_order_relaxed)) return i;
    }
    return -1;
  }

  struct alignas(64) Part {
    std::atomic<std::int64_t> claims{0};  // the number of the last shared phase that was claimed
  };

  const int size_;
  Interrupt& interrupt_;
  std::unique_ptr<Part[]> parts_;
  std::unique_ptr<bool[]> late_;  // only the leader uses this: whose part it did the last time
  std::atomic<bool> led_{false}, over_{false};
  std::atomic<bool> resting_{false};  // the leader works alone until workers_rest() is false
  alignas(64) std::atomic<std::int64_t> claimed_{0};
  alignas(64) std::atomic<std::int64_t> finished_{0};  // tasks and parts that are done
};

}  // namespace treadle

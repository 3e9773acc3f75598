// A pool lends threads that run one function together with the caller, which is thread 0.
//
// A call takes the workers that answer within some microseconds and never waits for one that is
// asleep or has no CPU: on a busy machine a team is smaller, not slower than one thread. Between
// calls a worker spins for some tens of microseconds (a stream of steps finds it awake), then
// blocks. Only one caller has the pool at a time; a second Python thread that asks meanwhile
// computes alone, with the same bits. After fork() the child starts with no workers and makes its
// own when it needs them.
#pragma once

#include <atomic>
#include <cstdint>

namespace treadle {

// At most so many threads work on a call: as many as the process's affinity mask has CPUs, until
// set_num_threads sets another number.
int num_threads();
void set_num_threads(int n);

// Returns how often this process has forked so far. In a child, a lock that another thread held in
// the parent stays locked for ever, which this number reveals. Counting begins at the first call.
std::uint64_t fork_count();

// All threads of a team meet at a Barrier. They spin first and then yield, since all are running.
class Barrier {
 public:
  explicit Barrier(int threads) : threads_(threads) {}
  // Returns, to every thread alike, whether any of them voted to stop. A wait that becomes long
  // calls idle(context) now and then.
  bool wait(bool stop, void (*idle)(void*) = nullptr, void* context = nullptr);

 private:
  const int threads_;
  std::atomic<int> arrived_{0};
  std::atomic<bool> vote_{false};
  bool decided_ = false;  // written by the last to arrive, before generation_
  std::atomic<std::uint32_t> generation_{0};
};

class Lease {
 public:
  // Takes up to `threads` threads, the caller included, for work that keeps one thread busy for
  // about so many microseconds.
  Lease(int threads, double microseconds);
  ~Lease();
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;

  int size() const { return size_; }

  // Calls work(thread) for every thread in [0, size()) at the same time; returns when all are done.
  // While the caller waits for the others it calls idle() now and then. A lease can do this once,
  // and neither function may throw.
  template <class Work, class Idle>
  void run(Work& work, Idle& idle) {
    execute(Job{[](void* w, int thread) { (*static_cast<Work*>(w))(thread); }, &work,
                [](void* i) { (*static_cast<Idle*>(i))(); }, &idle});
  }
  template <class Work>
  void run(Work&& work) {
    auto idle = [] {};
    run(work, idle);
  }

  struct Job {
    void (*call)(void*, int);
    void* work;
    void (*call_idle)(void*);
    void* idle;
  };

 private:
  void execute(const Job& job);
  int size_ = 1;
  bool ran_ = false;
  bool asked_ = false;
};

}  // namespace treadle

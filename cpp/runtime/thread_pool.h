// A pool lends threads that run one function together with the caller, which is thread 0.
//
// Workers come when they can: the caller begins at once, and who arrives after the caller has
// finished stays out. A call therefore never waits for a worker that is asleep or has no CPU, only
// for those that are inside. Between calls a worker spins for some tens of microseconds (a stream
// of steps finds it awake), then blocks. Only one caller has the pool at a time; a second Python
// thread that asks meanwhile computes alone, with the same bits. After fork() the child starts with
// no workers and makes its own when it needs them.
#pragma once

namespace treadle {

// At most so many threads work on a call. The first that there is decides: the number that was set,
// treadle_variable(), the number that was suggested, openmp_variable(), usable_cpus().
int num_threads();
void set_num_threads(int n);
// A framework around treadle uses so many threads.
void suggest_num_threads(int n);
// Returns num_threads() or fewer: no more than there are CPUs, since phases would wait for threads
// that do not run.
int useful_threads();

class Pool;

class Lease {
 public:
  // Asks for up to `threads` threads, the caller included, for work that keeps one thread busy for
  // about so many microseconds.
  Lease(int threads, double microseconds);
  ~Lease();
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;

  // The largest number of threads that may come.
  int size() const { return size_; }

  // Calls work(0) here, and work(thread) on workers that arrive before it has returned, each with
  // another number in [1, size()). Returns when all have left; while the caller waits for them it
  // calls idle() now and then. Where one of these functions forks, the child waits for nobody. A
  // lease can do this once, and neither function may throw.
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
  Pool* pool_ = nullptr;  // null: the caller is alone
  int size_ = 1;
  bool asked_ = false;
};

}  // namespace treadle

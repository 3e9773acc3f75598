// Threads that run one function together: the caller is thread 0, the pool supplies the others.
//
// Between calls a worker spins for some tens of microseconds (a stream of steps finds it awake), then
// blocks. Only one caller has the pool at a time; a second Python thread that asks meanwhile gets a
// lease of one and computes alone, with the same bits. After fork() the child starts with no workers
// and makes its own when it first needs them.
#pragma once

#include <atomic>
#include <cstdint>

namespace weft {

// As many as the affinity mask of the process has CPUs, until set.
int num_threads();
void set_num_threads(int n);

// All threads of a team meet here. Spins, then yields: partners run at the same time.
class Barrier {
 public:
  explicit Barrier(int threads) : threads_(threads) {}
  // Returns, to every thread alike, whether any of them voted to stop.
  bool wait(bool stop);

 private:
  const int threads_;
  std::atomic<int> arrived_{0};
  std::atomic<bool> vote_{false};
  bool decided_ = false;  // written by the last to arrive, before generation_
  std::atomic<std::uint32_t> generation_{0};
};

class Lease {
 public:
  // Up to `threads` at once, the caller included, for work of about so many microseconds on one. To
  // wake a sleeping worker takes longer than a short job: unless calls follow one another closely,
  // such a job is done alone.
  Lease(int threads, double microseconds);
  ~Lease();
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;

  int size() const { return size_; }

  // Calls work(thread) for every thread in [0, size()) at the same time; returns when all are done.
  // `work` must not throw.
  template <class Work>
  void run(Work&& work) {
    run([](void* w, int thread) { (*static_cast<Work*>(w))(thread); }, &work);
  }

 private:
  void run(void (*call)(void*, int), void* work);
  int size_ = 1;
};

}  // namespace weft

// A ParallelFor is whoever shares out tasks among threads, as an engine sees it: a member of a
// team, the call of a graph's operator, or a team made for the occasion.
#pragma once

#include <cstdint>

#include "engine/schedule/team.h"

namespace treadle {

// A Task refers to a callable task(i), which must outlive it. Code that shares out Tasks is
// compiled once, whatever they do.
class Task {
 public:
  template <class Callable>
  Task(const Callable& callable)  // NOLINT: it stands for the callable
      : object_(&callable), call_([](const void* object, std::int64_t i) {
          (*static_cast<const Callable*>(object))(i);
        }) {}
  void operator()(std::int64_t i) const { call_(object_, i); }

 private:
  const void* object_;
  void (*call_)(const void*, std::int64_t);
};

class ParallelFor {
 public:
  // `share` has a function parallel_for(tasks, work, task), which calls task(i) once for every
  // i < tasks and returns when all are done; a task takes `work` multiply-adds. It must outlive
  // this object.
  template <class Share>
  explicit ParallelFor(Share& share)
      : share_(&share), call_([](void* s, std::int64_t tasks, double work, const Task& task) {
          static_cast<Share*>(s)->parallel_for(tasks, work, task);
        }) {}

  template <class Callable>
  void operator()(std::int64_t tasks, double work, const Callable& task) const {
    if (tasks > 0) call_(share_, tasks, work, Task(task));
  }

 private:
  void* share_;
  void (*call_)(void*, std::int64_t, double, const Task&);
};

// Alone is a ParallelFor's `share` for a task within a task: the calling thread does everything.
struct Alone {
  template <class Callable>
  void parallel_for(std::int64_t tasks, double, const Callable& task) {
    for (std::int64_t i = 0; i < tasks; ++i) task(i);
  }
};

// OwnTeams is a ParallelFor's `share` for calls by themselves: each parallel_for makes a team of as
// many threads as are of use. It throws Interrupted when the computation is to end.
class OwnTeams {
 public:
  explicit OwnTeams(Interrupt& interrupt) : interrupt_(interrupt) {}

  template <class Callable>
  void parallel_for(std::int64_t tasks, double work, const Callable& task) {
    Team team(work * static_cast<double>(tasks), interrupt_);
    team.run([&](Team::Member& member) { member.parallel_for(tasks, work, task); });
    if (interrupt_.stopped()) throw Interrupted{};
  }

 private:
  Interrupt& interrupt_;
};

}  // namespace treadle

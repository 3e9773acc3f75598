// runtime/thread_pool: teams, forks, and workers that rest.
//
// A team may be smaller than what was asked for whenever the machine is busy, so tests of a full
// team try until they get one; where the process may use a single CPU there may be none.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <ostream>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

#include "runtime/cpu_count.h"
#include "runtime/flush_to_zero.h"
#include "runtime/thread_pool.h"
#include "system.h"

#if !defined(_WIN32)
#include <sys/wait.h>
#include <unistd.h>
#endif

namespace treadle {
namespace {

constexpr double kLong = 1e6;  // microseconds: work that is worth waking anyone for

bool one_cpu() { return allowed_cpus() < 2; }

void sleep_ms(int ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }

// Runs `work` once on a team of `threads`; false when there was none within twenty seconds.
bool run_on_full_team(int threads, const std::function<void(int)>& work) {
  for (int i = 0; i < 2000; ++i) {
    Lease lease(threads, kLong);
    if (lease.size() == threads) {
      // The caller waits for the others, and tells them whether all have come.
      std::atomic<int> here{0}, full{-1};
      lease.run([&](int thread) {
        ++here;
        if (thread == 0) {
          for (int ms = 0; ms < 20 && here < threads; ++ms) sleep_ms(1);
          full = here == threads;
        }
        while (full < 0) std::this_thread::yield();
        if (full > 0) work(thread);
      });
      if (full > 0) return true;
    }
    sleep_ms(10);
  }
  return false;
}

TEST_CASE("the default is what the process may use; the choice is checked") {
  const int before = num_threads();
  const int variable = treadle_variable() ? treadle_variable() : openmp_variable();
  CHECK(before == (variable ? variable : usable_cpus()));
  for (const int wrong : {0, -1, 1025})
    CHECK_THROWS_AS(set_num_threads(wrong), std::invalid_argument);
  CHECK(num_threads() == before);
  set_num_threads(700);
  CHECK(num_threads() == 700);
  CHECK(useful_threads() == usable_cpus());
  set_num_threads(before);
}

TEST_CASE("a lease of one is the caller") {
  Lease lease(1, kLong);
  CHECK(lease.size() == 1);
  std::thread::id who;
  int calls = 0;
  lease.run([&](int thread) {
    who = std::this_thread::get_id();
    calls += 1 + thread;
  });
  CHECK(calls == 1);
  CHECK(who == std::this_thread::get_id());
}

TEST_CASE("every member of a team runs once, each on a thread of its own, the caller first") {
  for (const int threads : {2, 3, 4}) {
    CAPTURE(threads);
    std::vector<std::thread::id> who(threads);
    std::vector<int> calls(threads);
    const bool full = run_on_full_team(threads, [&](int thread) {
      who[thread] = std::this_thread::get_id();
      ++calls[thread];
    });
    if (!full) {
      WARN_MESSAGE(full, "no full team: the machine is too busy");
      continue;
    }
    CHECK(calls == std::vector<int>(threads, 1));
    CHECK(who[0] == std::this_thread::get_id());
    CHECK(std::set<std::thread::id>(who.begin(), who.end()).size() == who.size());
  }
}

TEST_CASE("a team of two comes together") {
  if (one_cpu()) return;
  CHECK(run_on_full_team(2, [](int) {}));
}

TEST_CASE("a lease that never ran gives its team back") {
  for (int i = 0; i < 100; ++i) Lease lease(3, kLong);
  if (!one_cpu()) CHECK(run_on_full_team(2, [](int) {}));
}

TEST_CASE("inside a team, and beside it, a caller computes alone") {
  std::atomic<int> inner_size{0}, beside_size{0};
  const bool full = run_on_full_team(2, [&](int thread) {
    if (thread == 1) {
      Lease inner(2, kLong);
      inner_size = inner.size();
      std::thread([&] {
        Lease beside(2, kLong);
        beside.run([&](int) { ++beside_size; });
      }).join();
    }
  });
  if (!full) return;
  CHECK(inner_size == 1);
  CHECK(beside_size == 1);
}

TEST_CASE("workers flush denormals, the caller keeps its control word") {
  const std::uint64_t before = control_word();
  std::uint64_t word = 0;
  if (!run_on_full_team(2, [&](int thread) {
        if (thread == 1) word = control_word();
      })) {
    return;
  }
  CHECK((word & kFlushBits) == kFlushBits);
  CHECK(control_word() == before);
}

TEST_CASE("many short jobs: all that came are done before run returns") {
  std::int64_t sums[4] = {}, expected[4] = {};
  bool came[4];
  for (int job = 0; job < 5000; ++job) {
    Lease lease(2 + job % 3, 100);
    std::fill_n(came, 4, false);
    lease.run([&](int thread) {  // no atomics: run must order them
      sums[thread] += job;
      came[thread] = true;
    });
    REQUIRE(came[0]);
    for (int thread = 0; thread < 4; ++thread) {
      if (came[thread]) expected[thread] += job;
      REQUIRE((thread < lease.size() || !came[thread]));
    }
    REQUIRE(std::equal(sums, sums + 4, expected));
  }
}

TEST_CASE("jobs with pauses between: workers are met awake, asleep and on the way") {
  for (int job = 0; job < 400; ++job) {
    Lease lease(3, kLong);
    std::atomic<int> here{0}, callers{0};
    lease.run([&](int thread) {
      ++here;
      if (thread == 0) ++callers;
    });
    REQUIRE(callers == 1);
    REQUIRE(here <= lease.size());
    std::this_thread::sleep_for(std::chrono::microseconds(job % 200));
  }
}

TEST_CASE("a worker that comes when the caller has finished stays out") {
  for (int job = 0; job < 200; ++job) {
    std::atomic<bool> over{false}, late{false};
    {
      Lease lease(3, kLong);
      lease.run([&](int) { late = late || over; });
      over = true;
    }
    std::this_thread::sleep_for(std::chrono::microseconds(job % 100));
    REQUIRE(!late);
  }
}

TEST_CASE("several callers at once: one has the team, the others work alone, all finish") {
  std::atomic<int> teams{0}, most{0};
  std::atomic<std::int64_t> done{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 4; ++caller) {
    callers.emplace_back([&] {
      for (int job = 0; job < 500; ++job) {
        Lease lease(3, kLong);
        const bool team = lease.size() > 1;
        if (team) {
          const int now = ++teams;
          int seen = most;
          while (seen < now && !most.compare_exchange_weak(seen, now)) {
          }
        }
        lease.run([&](int thread) { done += thread == 0; });
        if (team) --teams;
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK(done == 4 * 500);
  CHECK(most <= 1);
}

TEST_CASE("short work after a rest wakes nobody") {
  run_on_full_team(2, [](int) {});
  sleep_ms(50);
  Lease lease(2, 1);
  CHECK(lease.size() == 1);
}

TEST_CASE("idle workers take no time") {
  run_on_full_team(3, [](int) {});
  sleep_ms(100);  // to let them find out
  const double before = cpu_seconds();
  sleep_ms(300);
  CHECK(cpu_seconds() - before < 0.03);
}

#if !defined(_WIN32)  // where no process forks

// Runs `work` in a forked child; true when it returned true there.
bool in_child(const std::function<bool()>& work) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);  // a child that hangs is a failure, not a hanging test
    _exit(work() ? 0 : 1);
  }
  int status = -1;
  return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) &&
         WEXITSTATUS(status) == 0;
}

bool computes() {
  for (int i = 0; i < 100; ++i) {
    Lease lease(3, kLong);
    std::atomic<int> calls{0};
    lease.run([&](int) { ++calls; });
    if (calls < 1 || calls > lease.size()) return false;
  }
  return true;
}

bool finds_a_team() {
  return computes() && (one_cpu() || run_on_full_team(2, [](int) {}));
}

TEST_CASE("fork: the child makes a team of its own") {
  CHECK(finds_a_team());
  CHECK(in_child(finds_a_team));
  CHECK(in_child([] { return finds_a_team() && in_child(finds_a_team); }));
  CHECK(finds_a_team());
}

TEST_CASE("fork: in the midst of another thread's jobs") {
  std::atomic<bool> stop{false};
  std::thread other([&] {
    while (!stop) {
      Lease lease(3, kLong);
      lease.run([](int) {});
    }
  });
  for (int i = 0; i < 10; ++i) CHECK(in_child(computes));
  stop = true;
  other.join();
}

TEST_CASE("fork: within a job, the child does not wait for the workers, which it does not have") {
  for (int i = 0; i < 5; ++i) {
    bool child = false, ended = false;
    std::atomic<bool> forked{false};
    const bool full = run_on_full_team(2, [&](int thread) {
      if (thread == 1) {
        while (!forked) std::this_thread::yield();
        return;
      }
      const pid_t pid = fork();
      if (pid == 0) {
        alarm(60);
        child = true;
        return;
      }
      forked = true;
      int status = -1;
      ended = waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
    });
    if (child) _exit(full && finds_a_team() ? 0 : 1);
    if (!full) return;
    CHECK(ended);
  }
}

#endif

}  // namespace
}  // namespace treadle

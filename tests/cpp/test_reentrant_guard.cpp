// runtime/reentrant_guard: one holder at a time; an error where waiting would never end.
#include <doctest/doctest.h>

#include <atomic>
#include <stdexcept>
#include <thread>
#include <vector>

#include "runtime/reentrant_guard.h"

#if !defined(_WIN32)
#include <sys/wait.h>
#include <unistd.h>
#endif

namespace treadle {
namespace {

TEST_CASE("threads take turns") {
  ReentrantGuard turn;
  int count = 0;  // no atomic: the turn must order the threads
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int j = 0; j < 2000; ++j) {
        const ReentrantGuard::Hold hold(turn);
        ++count;
      }
    });
  }
  for (std::thread& t : threads) t.join();
  CHECK(count == 8000);
}

TEST_CASE("who holds it cannot take it again, and holds it still") {
  ReentrantGuard turn;
  const auto take = [&] { const ReentrantGuard::Hold hold(turn); };
  {
    const ReentrantGuard::Hold hold(turn);
    CHECK_THROWS_AS(take(), std::runtime_error);
    CHECK_THROWS_AS(take(), std::runtime_error);
  }
  CHECK_NOTHROW(take());
}

#if !defined(_WIN32)  // where no process forks

TEST_CASE("fork: the child cannot take what another thread held, and can take what was free") {
  ReentrantGuard held, unheld;
  std::atomic<bool> holds{false}, done{false};
  std::thread other([&] {
    const ReentrantGuard::Hold hold(held);
    holds = true;
    while (!done) std::this_thread::yield();
  });
  while (!holds) std::this_thread::yield();
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);
    int refused = 0;
    for (ReentrantGuard* turn : {&held, &unheld}) {
      try {
        const ReentrantGuard::Hold hold(*turn);
      } catch (const std::runtime_error&) {
        refused += turn == &held ? 1 : 10;
      }
    }
    _exit(refused);
  }
  int status = -1;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 1);
  done = true;
  other.join();
}

#endif

}  // namespace
}  // namespace treadle

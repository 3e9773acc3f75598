// engine/schedule/team and engine/schedule/interrupt: phases of shared tasks, and how they end
// early.
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "engine/schedule/team.h"

namespace treadle {
namespace {

constexpr double kMicros = 1e6;  // worth any number of threads

void sleep_ms(int ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }

// Calls test(threads) for one to three threads; it returns how many there were at most. Who comes
// late, as threads do on a busy machine, finds the work done by others.
template <class Test>
void for_each_size(Test test) {
  for (const int threads : {1, 2, 3}) {
    bool full = false;
    for (int i = 0; i < 5 && !full; ++i) {
      full = test(threads) == threads;
      if (!full) sleep_ms(5);
    }
  }
}

TEST_CASE("every task of every phase runs once, and a phase ends before the next begins") {
  for_each_size([](int threads) {
    Interrupt interrupt(nullptr);
    Team team(threads, kMicros, interrupt);
    constexpr std::int64_t kTasks[] = {5, 0, 1, 300, 0, 0, 2, 37};
    constexpr std::int64_t kMost = 300;
    // No atomics: the phases must order them.
    std::vector<std::vector<int>> runs(std::size(kTasks), std::vector<int>(kMost));
    std::vector<int> wrong(team.size()), finished(team.size());
    team.run([&](Team::Member& member) {
      for (std::size_t phase = 0; phase < std::size(kTasks); ++phase) {
        if (!member.parallel_for(kTasks[phase], 1, [&](std::int64_t i) { ++runs[phase][i]; }))
          return;
        for (std::int64_t i = 0; i < kMost; ++i) {
          wrong[member.index()] += runs[phase][i] != (i < kTasks[phase]);
        }
        ++finished[member.index()];
      }
    });
    for (const int n : wrong) CHECK(n == 0);
    CHECK(finished[0] == std::size(kTasks));
    return team.size();
  });
}

TEST_CASE("a team of one thread is for little work") {
  Interrupt interrupt(nullptr);
  Team team(1, interrupt);
  CHECK(team.size() == 1);
}

// Counts its calls and says stop from the n-th on.
struct Poll {
  int stop_at;
  int calls = 0;
  std::thread::id caller = std::this_thread::get_id();
  bool elsewhere = false;
  static bool poll(void* self) {
    Poll& p = *static_cast<Poll*>(self);
    p.elsewhere |= std::this_thread::get_id() != p.caller;
    return ++p.calls >= p.stop_at;
  }
};

TEST_CASE("a stop in the middle of a phase ends all threads, and the phases after it") {
  for_each_size([](int threads) {
    Poll poll{1};
    Interrupt interrupt(Poll::poll, &poll);
    Team team(threads, kMicros, interrupt);
    constexpr std::int64_t kTasks = 4000;  // at a millisecond or more: until the stop, some 50
    std::atomic<std::int64_t> ran{0};
    std::vector<int> ended(team.size(), 1);  // who does not come need not end
    bool later = false;
    team.run([&](Team::Member& member) {
      const bool first = member.parallel_for(kTasks, 1e6, [&](std::int64_t) {
        ++ran;
        sleep_ms(1);
      });
      // Not what a caller should do; but then nothing is run.
      const bool second = member.parallel_for(10, 1e6, [&](std::int64_t) { later = true; });
      ended[member.index()] = !first && !second;
    });
    for (const int e : ended) CHECK(e == 1);
    CHECK(ran > 0);
    CHECK(ran < kTasks);
    CHECK(!later);
    CHECK(poll.calls == 1);
    CHECK(!poll.elsewhere);
    return team.size();
  });
}

TEST_CASE("a long task sees the stop by itself") {
  for_each_size([](int threads) {
    Poll poll{2};  // the first look says to go on
    Interrupt interrupt(Poll::poll, &poll);
    Team team(threads, kMicros, interrupt);
    std::atomic<int> steps{0};
    std::vector<int> went_on(team.size());
    team.run([&](Team::Member& member) {
      went_on[member.index()] = member.parallel_for(3, 1, [&](std::int64_t) {
        for (int i = 0; i < 4000 && member.progress(1e6); ++i) {
          ++steps;
          sleep_ms(1);
        }
      });
    });
    for (const int w : went_on) CHECK(w == 0);
    CHECK(steps < 3 * 4000);
    CHECK(poll.calls == 2);
    return team.size();
  });
}

TEST_CASE("whoever waits for the others looks for a stop, and they hear of it") {
  for_each_size([](int threads) {
    Poll poll{1};
    Interrupt interrupt(Poll::poll, &poll);
    Team team(threads, kMicros, interrupt);
    std::vector<int> steps(team.size());
    team.run([&](Team::Member& member) {
      if (member.index() == 0) return;
      while (steps[member.index()] < 4000 && member.progress(0)) {
        ++steps[member.index()];
        sleep_ms(1);
      }
    });
    for (const int n : steps) CHECK(n < 4000);
    return team.size();
  });
}

TEST_CASE("no clock is read for little work, and none without a poll") {
  Poll poll{1};
  Interrupt interrupt(Poll::poll, &poll);
  sleep_ms(60);
  interrupt.progress(1e5);
  CHECK(poll.calls == 0);
  interrupt.progress(1e6);
  CHECK(poll.calls == 1);
  CHECK(interrupt.stopped());
  interrupt.look();  // once is enough
  CHECK(poll.calls == 1);
  Interrupt never(nullptr);
  sleep_ms(60);
  never.progress(1e9);
  never.look();
  CHECK(!never.stopped());
}

}  // namespace
}  // namespace treadle

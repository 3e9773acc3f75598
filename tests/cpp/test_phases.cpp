// engine/schedule/phases: threads that come, come late or never come, and the order that phases
// give to what they write.
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <thread>
#include <vector>

#include "engine/schedule/phases.h"

namespace treadle {
namespace {

void sleep_ms(int ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }

// Runs `work` on the members first ... last - 1 of the phases, each on a thread of its own.
void in_threads(Phases& phases, int first, int last,
                const std::function<void(Phases::Member&)>& work) {
  std::vector<std::thread> threads;
  for (int i = first; i < last; ++i) {
    threads.emplace_back([&, i] {
      Phases::Member member(phases, i, i == 0);
      work(member);
      if (i == 0) phases.finish();
    });
  }
  for (std::thread& t : threads) t.join();
}

// A recurrence whose steps are shared: unit u of step s is the sum over all units of step s - 1,
// plus u. Nothing is atomic, so that the thread sanitizer sees an order that phases do not give.
struct Recurrence {
  static constexpr int kUnits = 12, kSteps = 400;
  std::vector<std::vector<unsigned>> value =
      std::vector<std::vector<unsigned>>(kSteps + 1, std::vector<unsigned>(kUnits, 1));

  void unit(int s, int u) {
    unsigned sum = static_cast<unsigned>(u);
    for (const unsigned v : value[s]) sum += v;
    value[s + 1][u] = sum;
  }
  bool shared_step(Phases::Member& member, int s, int parts) {
    return member.share([&](int begin, int end) {
      for (int u = kUnits * begin / parts; u < kUnits * end / parts; ++u) unit(s, u);
    });
  }
  // Alternates between the three kinds of phases.
  void run(Phases::Member& member, int parts) {
    for (int s = 0; s < kSteps; ++s) {
      bool goes_on = false;
      switch (s % 3) {
        case 0:
          goes_on = shared_step(member, s, parts);
          break;
        case 1:
          goes_on = member.parallel_for(kUnits, 1, [&](std::int64_t u) { unit(s, int(u)); });
          break;
        default:
          goes_on = member.once([&] {
            for (int u = 0; u < kUnits; ++u) unit(s, u);
          });
      }
      if (!goes_on) return;
    }
  }
};

std::vector<unsigned> expected() {
  Recurrence right;
  for (int s = 0; s < Recurrence::kSteps; ++s) {
    for (int u = 0; u < Recurrence::kUnits; ++u) right.unit(s, u);
  }
  return right.value.back();
}

TEST_CASE("whoever comes, every task and part is done once, in order") {
  for (const int size : {1, 2, 3, 5}) {
    for (int there = 1; there <= size; ++there) {
      CAPTURE(size);
      CAPTURE(there);
      Interrupt interrupt(nullptr);
      Phases phases(size, interrupt);
      Recurrence sums;
      in_threads(phases, 0, there, [&](Phases::Member& m) { sums.run(m, size); });
      CHECK(sums.value.back() == expected());
    }
  }
}

TEST_CASE("a thread that comes late finds where the others are, and then takes part") {
  Interrupt interrupt(nullptr);
  Phases phases(2, interrupt);
  Recurrence sums;
  std::atomic<int> step{0};
  std::atomic<bool> took_part{false};
  const auto run = [&](Phases::Member& member) {
    for (int s = 0; s < Recurrence::kSteps; ++s) {
      if (member.index() == 0) {
        step = s;
        // The leader stays near the end until the other thread has taken part.
        for (int ms = 0; s > 300 && ms < 2000 && !took_part; ++ms) sleep_ms(1);
      }
      if (!member.share([&](int begin, int end) {
            if (member.index() == 1) took_part = true;
            if (member.index() == 0 && s > 300 && end == 1) sleep_ms(1);  // a step takes long
            for (int u = 6 * begin; u < 6 * end; ++u) sums.unit(s, u);
          })) {
        return;
      }
    }
  };
  std::thread late([&] {
    while (step < 200) std::this_thread::yield();
    Phases::Member member(phases, 1, false);
    run(member);
  });
  in_threads(phases, 0, 1, run);
  late.join();
  CHECK(sums.value.back() == expected());
}

TEST_CASE("a thread that loses its CPU within a part is waited for, and then left alone") {
  Interrupt interrupt(nullptr);
  Phases phases(3, interrupt);
  Recurrence sums;
  std::atomic<int> slept{0};
  in_threads(phases, 0, 3, [&](Phases::Member& member) {
    for (int s = 0; s < Recurrence::kSteps; ++s) {
      if (!member.share([&](int begin, int end) {
            if (member.index() > 0 && s % 10 == 5 && slept < 8) {
              ++slept;
              sleep_ms(3);
            }
            for (int u = 4 * begin; u < 4 * end; ++u) sums.unit(s, u);
          })) {
        return;
      }
    }
  });
  CHECK(sums.value.back() == expected());
}

TEST_CASE("the leader does neighbouring parts of threads that do not come in one piece") {
  Interrupt interrupt(nullptr);
  Phases phases(4, interrupt);
  std::vector<std::vector<int>> pieces;
  in_threads(phases, 0, 1, [&](Phases::Member& member) {
    for (int s = 0; s < 2; ++s) {
      member.share([&](int begin, int end) { pieces.push_back({begin, end}); });
    }
  });
  CHECK(pieces == std::vector<std::vector<int>>{{0, 1}, {1, 4}, {0, 1}, {1, 4}});
}

TEST_CASE("only the first thread that asks leads") {
  Interrupt interrupt(nullptr);
  Phases phases(2, interrupt);
  CHECK(phases.lead());
  CHECK(!phases.lead());
}

TEST_CASE("who was left behind does not follow when the leader has finished") {
  Interrupt interrupt(nullptr);
  Phases phases(2, interrupt);
  const auto run = [](Phases::Member& member) {
    return member.parallel_for(3, 1, [](std::int64_t) {}) && member.share([](int, int) {});
  };
  in_threads(phases, 0, 1, [&](Phases::Member& member) { CHECK(run(member)); });
  Phases::Member late(phases, 1, false);
  CHECK(!run(late));
}

TEST_CASE("a stop ends all threads, also those that wait for one which never comes back") {
  for (const int size : {1, 3}) {
    int polls = 0;
    Interrupt interrupt([](void* n) { return ++*static_cast<int*>(n) == 2; }, &polls);
    Phases phases(size, interrupt);
    std::vector<int> ended(size, 0);
    std::atomic<std::int64_t> parts{0};
    in_threads(phases, 0, size, [&](Phases::Member& member) {
      for (int s = 0; s < 100000; ++s) {
        if (!member.share([&](int, int) {
              ++parts;
              sleep_ms(1);
              member.progress(1e6);
              // This part ends only when the computation does.
              while (member.index() == 2 && s == 3 && !member.stopped()) sleep_ms(1);
            })) {
          ended[member.index()] = 1;
          return;
        }
      }
    });
    CHECK(ended == std::vector<int>(size, 1));
    CHECK(parts < 100000);
    CHECK(polls == 2);
  }
}

}  // namespace
}  // namespace treadle

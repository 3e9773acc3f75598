// engine/recurrent/stream_pool: the bits of a stream alone, slots that change hands, and threads.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <stdexcept>
#include <thread>

#include "engine/recurrent/stream.h"
#include "engine/recurrent/stream_pool.h"
#include "guarded.h"
#include "net.h"
#include "runtime/thread_pool.h"
#include "values.h"

namespace treadle {
namespace {

Interrupt never(nullptr);

NetShape shape_of(Mode mode) {
  NetShape shape;
  shape.mode = mode;
  shape.I = 9;
  shape.H = 19;
  shape.layers = 2;
  if (mode == Mode::lstm) shape.P = 6;
  return shape;
}

struct Pool {
  Pool(std::shared_ptr<const RecurrentStack> net, std::int64_t capacity)
      : slots(std::make_shared<StreamSlots>(capacity, StreamPool::state_width(*net))),
        pool(net, slots) {}
  std::shared_ptr<StreamSlots> slots;
  StreamPool pool;
};

std::vector<float> state_of(Pool& pool, std::int64_t id) {
  const StreamSlots::Held held(*pool.slots, &id, 1, never.patience());
  return {held.state(0), held.state(0) + pool.slots->width()};
}

// Returns the outputs and the final state of one row of a sequence, in a stream of its own.
std::vector<float> alone(std::shared_ptr<const RecurrentStack> net, const Sequence& s,
                         std::int64_t row, std::int64_t steps) {
  const CellShape& shape = net->cell(0).shape();
  const std::int64_t I = shape.input_size, S = shape.state_size();
  Stream stream(net, 1);
  std::vector<float> result(steps * S + stream.h_size() + stream.c_size());
  stream.run(steps, s.x.data() + row * I, s.B * I, I, result.data(), S, S, never);
  float* h = result.data() + steps * S;
  stream.get(h, h + stream.h_size(), never);
  return result;
}

TEST_CASE("ragged chunks of several streams give each the bits that it has alone") {
  for (const Mode mode : {Mode::rnn, Mode::lstm, Mode::gru}) {
    CAPTURE(static_cast<int>(mode));
    for_each_isa([&](const KernelTable& table) {
      const NetShape shape = shape_of(mode);
      const Net net(shape);
      const auto packed = net.pack(table);
      const std::int64_t I = shape.I, S = shape.state_size(), rows = 3;
      const Sequence s = net.sequence(9, rows);
      Pool pool(packed, 4);
      std::vector<std::int64_t> ids;
      for (int i = 0; i < rows; ++i) ids.push_back(pool.slots->open(nullptr));
      std::vector<std::vector<float>> found(rows);
      std::vector<std::int64_t> done(rows, 0);
      for (const std::vector<std::int64_t>& lengths :
           std::vector<std::vector<std::int64_t>>{{1, 1, 1}, {2, 0, 5}, {0, 0, 0}, {6, 3, 1}}) {
        std::vector<float> x;
        std::int64_t total = 0, longest = 0;
        for (std::int64_t i = 0; i < rows; ++i) {
          for (std::int64_t t = done[i]; t < done[i] + lengths[i]; ++t) {
            const float* from = s.x.data() + (t * rows + i) * I;
            x.insert(x.end(), from, from + I);
          }
          total += lengths[i];
          longest = std::max(longest, lengths[i]);
        }
        const Guarded<float> frames(x);
        Guarded<float> y(total * S);
        CHECK(pool.pool.step(ids.data(), rows,
                             {longest, lengths.data(), frames.data(), I, 0, y.data()}, never));
        const float* at = y.data();
        for (std::int64_t i = 0; i < rows; ++i) {
          found[i].insert(found[i].end(), at, at + lengths[i] * S);
          at += lengths[i] * S;
          done[i] += lengths[i];
        }
      }
      for (std::int64_t i = 0; i < rows; ++i) {
        const std::vector<float> state = state_of(pool, ids[i]);
        found[i].insert(found[i].end(), state.begin(), state.end());
        const std::vector<float> expected = alone(packed, s, i, done[i]);
        REQUIRE(found[i].size() == expected.size());
        CHECK(first_difference(found[i], expected, static_cast<std::int64_t>(expected.size())) ==
              -1);
      }
    });
  }
}

TEST_CASE("slots change hands, and an id stays that of its stream") {
  StreamSlots slots(2, 3);
  const float given[3] = {1, 2, 3};
  const std::int64_t first = slots.open(given), second = slots.open(nullptr);
  CHECK(slots.open(nullptr) == StreamSlots::kFull);
  CHECK(slots.close(first, never.patience()));
  CHECK_FALSE(slots.close(first, never.patience()));
  const std::int64_t third = slots.open(nullptr);
  CHECK(third != first);
  CHECK_FALSE(slots.is_open(first));
  {
    const StreamSlots::Held held(slots, &third, 1, never.patience());
    CHECK(held.state(0)[2] == 0);
    CHECK(slots.evict(0, 9) == 1);  // the second one, since the third is held
  }
  for (const std::int64_t bad : {first, second, std::int64_t{0}, std::int64_t{-1}, INT64_MAX}) {
    CHECK_THROWS_AS(StreamSlots::Held(slots, &bad, 1, never.patience()), std::invalid_argument);
  }
  const std::int64_t twice[2] = {third, third};
  CHECK_THROWS_AS(StreamSlots::Held(slots, twice, 2, never.patience()), std::invalid_argument);
  CHECK(slots.evict(1e6, 9) == 0);
  CHECK(slots.statistics().open == 1);
  CHECK(slots.statistics().evicted == 1);
}

TEST_CASE("threads step, open, close and evict at the same time") {
  NetShape shape;
  shape.mode = Mode::lstm;
  const Net net(shape);
  const auto packed = net.pack(kernels());
  constexpr std::int64_t kCalls = 50, kThreads = 4;
  const Sequence s = net.sequence(kCalls, kThreads);
  Pool pool(packed, 2 * kThreads + 1);
  const std::int64_t shared = pool.slots->open(nullptr);
  std::vector<std::int64_t> ids;
  for (int i = 0; i < kThreads; ++i) ids.push_back(pool.slots->open(nullptr));
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (std::int64_t thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      Interrupt interrupt(nullptr);
      std::vector<float> x(2 * shape.I), y(2 * shape.H);
      for (std::int64_t t = 0; t < kCalls; ++t) {
        // The shared stream comes first or last: no order of the ids makes two calls wait for
        // each other.
        std::int64_t both[2] = {ids[thread], shared};
        const float* from = s.x.data() + (t * kThreads + thread) * shape.I;
        std::copy(from, from + shape.I, x.begin());
        std::copy(s.x.begin(), s.x.begin() + shape.I, x.begin() + shape.I);
        if (t % 2) {
          std::swap(both[0], both[1]);
          std::swap_ranges(x.begin(), x.begin() + shape.I, x.begin() + shape.I);
        }
        wrong += !pool.pool.step(both, 2, {1, nullptr, x.data(), 0, shape.I, y.data()}, interrupt);
        const std::int64_t brief = pool.slots->open(nullptr);
        wrong += brief == StreamSlots::kFull;
        pool.pool.step(&brief, 1, {1, nullptr, x.data(), 0, shape.I, y.data()}, interrupt);
        wrong += !pool.slots->close(brief, interrupt.patience());
        pool.slots->evict(3600, 1);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
  for (std::int64_t i = 0; i < kThreads; ++i) {
    const std::vector<float> all = alone(packed, s, i, kCalls), state = state_of(pool, ids[i]);
    const std::vector<float> expected(all.end() - pool.slots->width(), all.end());
    CHECK(first_difference(state, expected, pool.slots->width()) == -1);
  }
  CHECK(pool.slots->statistics().calls == 2 * kThreads * kCalls);
  CHECK(pool.slots->statistics().open == kThreads + 1);
}

TEST_CASE("two threads step the same streams, with the workers of the pool") {
  const int before = num_threads();
  set_num_threads(3);
  NetShape shape;
  shape.mode = Mode::lstm;
  shape.H = 64;
  shape.layers = 2;
  const Net net(shape);
  const auto packed = net.pack(kernels());
  constexpr std::int64_t kStreams = 90, kCalls = 6, kSteps = 2;
  // A stream gets the same frame in every step: it does not matter whose call comes first.
  const Sequence one = net.sequence(1, kStreams);
  Sequence all = net.sequence(2 * kCalls * kSteps, kStreams);
  for (std::size_t i = 0; i < all.x.size(); ++i) all.x[i] = one.x[i % one.x.size()];
  Pool pool(packed, kStreams);
  std::vector<std::int64_t> ids;
  for (int i = 0; i < kStreams; ++i) ids.push_back(pool.slots->open(nullptr));
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (const bool reversed : {false, true}) {
    threads.emplace_back([&, reversed] {
      Interrupt interrupt(nullptr);
      std::vector<std::int64_t> mine(ids);
      std::vector<float> x, y(kStreams * kSteps * shape.H);
      if (reversed) std::reverse(mine.begin(), mine.end());
      for (std::int64_t i = 0; i < kStreams; ++i) {
        const float* from = one.x.data() + (reversed ? kStreams - 1 - i : i) * shape.I;
        x.insert(x.end(), from, from + shape.I);
      }
      for (std::int64_t call = 0; call < kCalls; ++call) {
        const StreamPool::Frames frames{kSteps, nullptr, x.data(), 0, shape.I, y.data()};
        wrong += !pool.pool.step(mine.data(), kStreams, frames, interrupt);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  set_num_threads(before);
  CHECK(wrong == 0);
  for (std::int64_t i = 0; i < kStreams; ++i) {
    const std::vector<float> whole = alone(packed, all, i, all.T), state = state_of(pool, ids[i]);
    const std::vector<float> expected(whole.end() - pool.slots->width(), whole.end());
    CHECK(first_difference(state, expected, pool.slots->width()) == -1);
  }
  CHECK(pool.slots->statistics().calls == 2 * kCalls);
}

TEST_CASE("an interrupted step leaves all states as they were") {
  NetShape shape;
  shape.mode = Mode::gru;
  shape.H = 512;
  const Net net(shape);
  Pool pool(net.pack(kernels()), 2);
  const std::int64_t ids[2] = {pool.slots->open(nullptr), pool.slots->open(nullptr)};
  const Sequence first = net.sequence(3, 2);
  std::vector<float> y(3 * 2 * shape.H);
  CHECK(
      pool.pool.step(ids, 2, {3, nullptr, first.x.data(), 2 * shape.I, shape.I, y.data()}, never));
  const std::vector<float> before = state_of(pool, ids[1]);
  bool stopped = false;
  for (std::int64_t T = 3000; T < 100000 && !stopped; T *= 2) {
    const Sequence s = net.sequence(T, 2);
    y.resize(T * 2 * shape.H);
    Interrupt interrupt([](void*) { return true; });
    const StreamPool::Frames frames{T, nullptr, s.x.data(), 2 * shape.I, shape.I, y.data()};
    stopped = !pool.pool.step(ids, 2, frames, interrupt);
  }
  CHECK(stopped);
  CHECK(first_difference(state_of(pool, ids[1]), before, pool.slots->width()) == -1);
}

}  // namespace
}  // namespace treadle

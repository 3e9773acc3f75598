// An interrupt in the midst of what takes long without computing: packing, states, caches. It ends
// the call, and nothing has changed.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#include "engine/attention/cache.h"
#include "engine/product/linear.h"
#include "engine/recurrent/stream.h"
#include "runtime/isa.h"
#include "runtime/reentrant_guard.h"

namespace treadle {
namespace {

// An Interrupt that says stop the first time that it is looked at.
struct Stopping {
  int polls = 0;
  Interrupt interrupt{[](void* n) { return ++*static_cast<int*>(n) > 0; }, &polls};
  Stopping() {
    std::this_thread::sleep_for(std::chrono::milliseconds(60));
  }  // it looks from now on
};

Interrupt never(nullptr);

TEST_CASE("packing of weights throws, in every dtype") {
  constexpr std::int64_t N = 1600, K = 4096;
  const std::vector<float> floats(N * K, 1.0f);
  const std::vector<std::uint16_t> halves(N * K, 0x3F80);
  const std::vector<std::int8_t> bytes(N * K, 1);
  const std::vector<float> scales(N * sum_blocks(K), 1.0f);
  const StoredMatrix matrices[] = {{floats.data()},
                                   {Dtype::bfloat16, halves.data(), nullptr},
                                   {Dtype::int8, bytes.data(), scales.data()}};
  for (const StoredMatrix& matrix : matrices) {
    CAPTURE(static_cast<int>(matrix.dtype));
    const auto pack = [&] { return Linear(kernels(), N, K, matrix, nullptr); };
    {
      Stopping stopping;
      const Listening listening(stopping.interrupt);
      CHECK_THROWS_AS(pack(), Interrupted);
      CHECK(stopping.polls == 1);
    }
    CHECK(pack().outputs() == N);  // nobody listens any more
  }
  Stopping stopping;
  const Listening listening(stopping.interrupt);
  CHECK_THROWS_AS(PackedWeights::transposed(K, {{floats.data(), N}}, kernels().lanes), Interrupted);
}

TEST_CASE("a stream: its making, its state as it was, and incomplete copies of it") {
  constexpr std::int64_t I = 4, H = 16, B = 300'000;
  const std::vector<float> weights(4 * H * std::max(I, H), 0.0f);
  const CellShape shape{Mode::lstm, I, H, 0, true};
  std::vector<Cell> cells;
  cells.emplace_back(kernels(), shape,
                     CellWeights{weights.data(), weights.data(), nullptr, nullptr, {}, nullptr},
                     CellOptions{});
  const auto net = std::make_shared<const RecurrentStack>(Direction::forward, std::move(cells));
  {
    Stopping stopping;
    const Listening listening(stopping.interrupt);
    CHECK_THROWS_AS(Stream(net, B), Interrupted);
  }
  Stream stream(net, B);
  std::vector<float> ones(B * H, 1.0f), twos(B * H, 2.0f), h(B * H), c(B * H);
  stream.set(nullptr, ones.data(), ones.data(), never);
  {
    Stopping stopping;
    stream.set(nullptr, twos.data(), nullptr, stopping.interrupt);
    CHECK(stopping.interrupt.stopped());
    stream.get(h.data(), c.data(), never);
    CHECK(h == ones);
    CHECK(c == ones);
  }
  {
    Stopping stopping;
    std::fill(c.begin(), c.end(), 7.0f);
    stream.get(h.data(), c.data(), stopping.interrupt);
    CHECK(stopping.interrupt.stopped());
    CHECK(c.back() == 7);
  }
  {
    Stopping stopping;
    const std::vector<float> x(B * I, 1.0f);
    CHECK(!stream.run(1, x.data(), 0, I, h.data(), 0, H, stopping.interrupt));
    stream.get(h.data(), c.data(), never);
    CHECK(h == ones);
    CHECK(c == ones);
  }
  // Few rows are changed at once, whatever the interrupt says later.
  std::vector<std::uint8_t> rows(B, 0);
  rows[5] = 1;
  Stopping stopping;
  stream.set(rows.data(), twos.data(), twos.data(), stopping.interrupt);
  CHECK(!stopping.interrupt.stopped());
  stream.get(h.data(), c.data(), never);
  CHECK(h[5 * H] == 2);
  CHECK(std::count(h.begin(), h.end(), 2.0f) == H);
}

TEST_CASE("a cache: append, growth, order and copy are whole or have not happened") {
  constexpr std::int64_t B = 2, E = 256, S = 40'000;
  for (const Dtype dtype : {Dtype::float32, Dtype::bfloat16, Dtype::int8}) {
    CAPTURE(static_cast<int>(dtype));
    KeyValueCache cache({B, 1, E, E, dtype}, 4);
    std::vector<float> x(B * S * E, 1.0f);
    std::fill(x.begin() + S * E, x.end(), 2.0f);
    const HeadView<const float> view{x.data(), S * E, S * E, E};
    const std::vector<std::int64_t> few{3, 2}, all{S, S};
    cache.append(view, view, few.data(), never);
    for (int i = 0; i < 2; ++i) {
      Stopping stopping;
      cache.append(view, view, all.data(), stopping.interrupt);
      CHECK(stopping.interrupt.stopped());
      CHECK(cache.lengths() == few);
    }
    cache.append(view, view, all.data(), never);
    const std::vector<std::int64_t> tokens{S + 3, S + 2}, turned{S + 2, S + 3};
    CHECK(cache.lengths() == tokens);
    const std::vector<std::int64_t> order{1, 0};
    if (dtype == Dtype::float32) {  // 160 MB; less is moved at once
      Stopping stopping;
      const auto before = cache.storage();
      cache.reorder(order.data(), stopping.interrupt);
      CHECK(stopping.interrupt.stopped());
      CHECK(cache.lengths() == tokens);
      CHECK(bool(cache.storage() == before));
    }
    {
      Stopping stopping;
      const KeyValueCache copy(cache, stopping.interrupt);
      CHECK(stopping.interrupt.stopped());
    }
    const auto first = [&](std::int64_t b) {
      const std::uint8_t* vector = cache.storage()->keys.vector(b, 0, S);
      return std::vector<std::uint8_t>(vector, vector + E);
    };
    const auto zero = first(0), one = first(1);
    cache.reorder(order.data(), never);
    CHECK(cache.lengths() == turned);
    CHECK(first(0) == one);
    CHECK(first(1) == zero);
  }
}

TEST_CASE("who waits for a lock listens") {
  ReentrantGuard guard;
  std::atomic<bool> held{false}, done{false};
  std::thread other([&] {
    const ReentrantGuard::Hold hold(guard);
    held = true;
    while (!done) std::this_thread::yield();
  });
  while (!held) std::this_thread::yield();
  Stopping stopping;
  {
    const ReentrantGuard::Hold hold(guard, stopping.interrupt.patience());
    CHECK(!hold);
  }
  CHECK(stopping.interrupt.stopped());
  done = true;
  other.join();
  const ReentrantGuard::Hold hold(guard, never.patience());
  CHECK(bool(hold));
}

}  // namespace
}  // namespace treadle

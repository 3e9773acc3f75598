// One packed net run by several threads at once: the same bits, and nothing for a race detector.
#include <doctest/doctest.h>

#include <atomic>
#include <memory>
#include <thread>

#include "engine/recurrent/stream.h"
#include "net.h"
#include "runtime/thread_pool.h"
#include "values.h"

namespace treadle {
namespace {

Interrupt never(nullptr);

template <class Work>
void in_threads(int count, Work work) {
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i) threads.emplace_back(work, i);
  for (std::thread& t : threads) t.join();
}

TEST_CASE("callers share a net, with and without the pool") {
  const int before = num_threads();
  for (const int pool : {1, 3}) {
    set_num_threads(pool);
    for (const Mode mode : {Mode::rnn, Mode::lstm, Mode::gru}) {
      NetShape shape;
      shape.mode = mode;
      shape.direction = Direction::bidirectional;
      shape.I = 20;
      shape.H = 64;
      const Net net(shape);
      const auto packed = net.pack(kernels());
      const Sequence small = net.sequence(8, 1), large = net.sequence(8, 30);
      const Outputs<float> small_bits = run_plain(*packed, shape, small);
      const Outputs<float> large_bits = run_plain(*packed, shape, large);
      std::atomic<int> wrong{0};
      in_threads(4, [&](int) {
        for (int i = 0; i < 5; ++i) {
          wrong += !same_bits(run_plain(*packed, shape, small), small_bits);
          wrong += !same_bits(run_plain(*packed, shape, large), large_bits);
        }
      });
      CHECK(wrong == 0);
    }
  }
  set_num_threads(before);
}

TEST_CASE("callers of one stream take turns, whole calls at a time") {
  NetShape shape;
  shape.mode = Mode::gru;
  shape.H = 20;
  const Net net(shape);
  Stream stream(net.pack(kernels()), 2);
  const Sequence s = net.sequence(4, 2);
  constexpr std::int64_t kCalls = 60;
  in_threads(3, [&](int) {
    std::vector<float> y(4 * 2 * shape.H);
    for (std::int64_t i = 0; i < kCalls / 3; ++i) {
      Interrupt interrupt(nullptr);
      stream.run(4, s.x.data(), 2 * shape.I, shape.I, y.data(), 2 * shape.H, shape.H, interrupt);
    }
  });
  std::vector<float> state(stream.h_size()), expected(stream.h_size());
  stream.get(state.data(), nullptr, never);
  Stream alone(net.pack(kernels()), 2);
  for (std::int64_t i = 0; i < kCalls; ++i) {
    std::vector<float> y(4 * 2 * shape.H);
    Interrupt interrupt(nullptr);
    alone.run(4, s.x.data(), 2 * shape.I, shape.I, y.data(), 2 * shape.H, shape.H, interrupt);
  }
  alone.get(expected.data(), nullptr, never);
  CHECK(first_difference(state, expected, stream.h_size()) == -1);
}

TEST_CASE("levels may be switched while others pack and run") {
  NetShape shape;
  const Net net(shape);
  const Sequence s = net.sequence(3, 2);
  const Outputs<double> expected = net.definition(s);
  std::atomic<int> wrong{0};
  const std::vector<std::string> isas = available_isas();
  const std::string before = kernels().isa;
  in_threads(4, [&](int thread) {
    for (std::size_t i = 0; i < 40; ++i) {
      if (thread == 0) {
        set_isa(isas[i % isas.size()]);
      } else {
        wrong += !(largest_error(run_plain(*net.pack(kernels()), shape, s), expected) < 1e-5);
      }
    }
  });
  set_isa(before);
  CHECK(wrong == 0);
}

}  // namespace
}  // namespace treadle

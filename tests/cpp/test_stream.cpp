// engine/recurrent/stream: the bits of the whole sequence, however it is cut; rows reset;
// interrupts.
#include <doctest/doctest.h>

#include <memory>

#include "engine/recurrent/stream.h"
#include "guarded.h"
#include "net.h"
#include "values.h"

namespace treadle {
namespace {

Interrupt never(nullptr);

constexpr std::int64_t kSteps = 9, kRows = 3;

NetShape shape_of(Mode mode) {
  NetShape shape;
  shape.mode = mode;
  shape.I = 9;
  shape.H = 19;
  shape.layers = 2;
  if (mode == Mode::lstm) shape.P = 6;
  return shape;
}

// Runs `steps` steps of the sequence from `begin` on, through exact-size arrays.
bool run(Stream& stream, const NetShape& shape, const Sequence& s, std::int64_t begin,
         std::int64_t steps, std::vector<float>& y, bool (*poll)(void*) = nullptr) {
  const std::int64_t row = s.B * shape.I, out = s.B * shape.state_size();
  const Guarded<float> x(
      std::vector<float>(s.x.begin() + begin * row, s.x.begin() + (begin + steps) * row));
  Guarded<float> result(steps * out);
  Interrupt interrupt(poll);
  const bool finished =
      stream.run(steps, x.data(), row, shape.I, result.data(), out, shape.state_size(), interrupt);
  if (finished) y.insert(y.end(), result.begin(), result.end());
  return finished;
}

std::vector<float> state(Stream& stream) {
  std::vector<float> all(stream.h_size() + stream.c_size());
  stream.get(all.data(), all.data() + stream.h_size(), never);
  return all;
}

// For each mode and ISA level: test(stream, net, packed).
template <class Test>
void for_each_stream(Test test) {
  for (const Mode mode : {Mode::rnn, Mode::lstm, Mode::gru}) {
    CAPTURE(static_cast<int>(mode));
    for_each_isa([&](const KernelTable& table) {
      const Net net(shape_of(mode));
      const auto packed = net.pack(table);
      Stream stream(packed, kRows);
      test(stream, net, *packed);
    });
  }
}

TEST_CASE("chunks of any size give the bits of the sequence") {
  for_each_stream([](Stream& stream, const Net& net, const RecurrentStack& packed) {
    Sequence s = net.sequence(kSteps, kRows);
    s.h_0.clear();
    s.c_0.clear();
    const Outputs<float> whole = run(packed, net.shape(), s);
    for (const std::vector<std::int64_t>& chunks :
         std::vector<std::vector<std::int64_t>>{{9}, {1, 1, 1, 1, 1, 1, 1, 1, 1}, {4, 0, 5}}) {
      stream.set(nullptr, nullptr, nullptr, never);
      std::vector<float> y;
      std::int64_t done = 0;
      for (const std::int64_t steps : chunks) {
        CHECK(run(stream, net.shape(), s, done, steps, y));
        done += steps;
      }
      REQUIRE(y.size() == whole.y.size());
      CHECK(first_difference(y, whole.y, static_cast<std::int64_t>(y.size())) == -1);
      std::vector<float> expected = whole.h_n;
      expected.insert(expected.end(), whole.c_n.begin(), whole.c_n.end());
      CHECK(first_difference(state(stream), expected, stream.h_size() + stream.c_size()) == -1);
    }
  });
}

TEST_CASE("chosen rows are set, to values or zero, and the others are not") {
  for_each_stream([](Stream& stream, const Net& net, const RecurrentStack&) {
    const Sequence s = net.sequence(kSteps, kRows);
    std::vector<float> y;
    run(stream, net.shape(), s, 0, 2, y);
    const std::vector<float> before = state(stream);
    const std::uint8_t rows[kRows] = {0, 1, 0};
    for (const bool to_values : {true, false}) {
      const float* c = s.c_0.empty() ? nullptr : s.c_0.data();
      stream.set(rows, to_values ? s.h_0.data() : nullptr, to_values ? c : nullptr, never);
      const std::vector<float> after = state(stream);
      for (std::int64_t i = 0; i < stream.h_size() + stream.c_size(); ++i) {
        const bool is_c = i >= stream.h_size();
        const std::int64_t at = is_c ? i - stream.h_size() : i;
        const std::int64_t width = is_c ? net.shape().H : net.shape().state_size();
        const float value = to_values ? (is_c ? s.c_0 : s.h_0)[at] : 0.0f;
        REQUIRE(after[i] == (at / width % kRows == 1 ? value : before[i]));
      }
    }
  });
}

TEST_CASE("an interrupted run leaves the state as it was") {
  for (const Mode mode : {Mode::rnn, Mode::lstm, Mode::gru}) {
    NetShape shape = shape_of(mode);
    shape.H = 512;
    shape.P = 0;
    const Net net(shape);
    Stream stream(net.pack(kernels()), kRows);
    std::vector<float> y;
    CHECK(run(stream, shape, net.sequence(3, kRows), 0, 3, y));
    const std::vector<float> before = state(stream);
    // The first look at the clock comes after 50 ms.
    bool stopped = false;
    for (std::int64_t T = 3000; T < 100000 && !stopped; T *= 2) {
      stream.set(nullptr, before.data(), before.data() + stream.h_size(), never);
      y.clear();
      stopped = !run(stream, shape, net.sequence(T, kRows), 0, T, y, [](void*) { return true; });
    }
    CHECK(stopped);
    CHECK(y.empty());
    CHECK(first_difference(state(stream), before, stream.h_size() + stream.c_size()) == -1);
  }
}

}  // namespace
}  // namespace treadle

// engine/recurrent/stack on every ISA level against the definition in double (net.cpp).
//
// tests/ in Python has the derived bounds, PyTorch and many more configurations; this is for builds
// without Python (aarch64, sanitizers), and for arrays that end where the memory does.
#include <doctest/doctest.h>

#include <algorithm>
#include <string>

#include "net.h"
#include "runtime/thread_pool.h"
#include "values.h"

namespace treadle {
namespace {

// Sums of up to 40 terms of size one and a few functions, carried through at most twelve steps.
constexpr double kTolerance = 1e-5;

struct NamedShape {
  const char* name;
  NetShape shape;
};

NetShape make(Mode mode, void (*change)(NetShape&) = nullptr) {
  NetShape shape;
  shape.mode = mode;
  if (change) change(shape);
  return shape;
}

// Every way through the engine and the epilogues.
const NamedShape kShapes[] = {
    {"rnn", make(Mode::rnn)},
    {"rnn relu",
     make(Mode::rnn, [](NetShape& s) { s.g = {ActivationFunction::relu, 0, 0}, s.H = 3; })},
    {"rnn clip", make(Mode::rnn, [](NetShape& s) { s.clip = 0.5f; })},
    {"lstm", make(Mode::lstm)},
    {"lstm without bias", make(Mode::lstm, [](NetShape& s) { s.bias = false; })},
    {"lstm projection", make(Mode::lstm, [](NetShape& s) { s.P = 3; })},
    {"lstm peepholes, clip", make(Mode::lstm, [](NetShape& s) { s.peepholes = true, s.clip = 1; })},
    {"lstm input_forget", make(Mode::lstm, [](NetShape& s) { s.input_forget = true; })},
    {"lstm other functions", make(Mode::lstm,
                                  [](NetShape& s) {
                                    s.f = {ActivationFunction::hard_sigmoid, 0.2f, 0.5f};
                                    s.g = {ActivationFunction::softsign, 0, 0};
                                    s.h = {ActivationFunction::linear, 0, 0};
                                  })},
    {"gru", make(Mode::gru)},
    {"gru clip", make(Mode::gru, [](NetShape& s) { s.clip = 0.5f; })},
    {"gru reset before", make(Mode::gru, [](NetShape& s) { s.reset_after = false; })},
};

// For each shape and ISA level: test(net, packed).
template <class Test>
void for_each_net(Test test) {
  for (const NamedShape& c : kShapes) {
    INFO(std::string(c.name));
    for_each_isa([&](const KernelTable& table) {
      // Panels that are full, narrow, or shared by the gates of at most half a vector of units.
      const int lanes = table.lanes;
      for (const std::int64_t H :
           {1, lanes / 2, lanes - 1, lanes, 2 * lanes + 1, 3 * lanes + lanes / 4 + 1}) {
        CAPTURE(H);
        NetShape shape = c.shape;
        shape.H = H;
        if (shape.P) shape.P = std::max<std::int64_t>(1, H - 2);
        const Net net(shape);
        test(net, *net.pack(table));
      }
    });
  }
}

void check(const Net& net, const RecurrentStack& packed, const Sequence& sequence) {
  CAPTURE(sequence.T);
  CAPTURE(sequence.B);
  CHECK(largest_error(run(packed, net.shape(), sequence), net.definition(sequence)) < kTolerance);
}

TEST_CASE("a step and a sequence, with states and without, at every number of rows in a tile") {
  for_each_net([](const Net& net, const RecurrentStack& packed) {
    for (const std::int64_t B : {1, 2, 3, 5, 7, 19}) check(net, packed, net.sequence(1, B));
    for (const std::int64_t B : {1, 4, 17}) {
      Sequence s = net.sequence(7, B);
      check(net, packed, s);
      s.h_0.clear();
      s.c_0.clear();
      check(net, packed, s);
    }
    check(net, packed, net.sequence(0, 3));
    check(net, packed, net.sequence(3, 0));
  });
}

TEST_CASE("layers and directions") {
  for (const Direction direction :
       {Direction::forward, Direction::reverse, Direction::bidirectional}) {
    for (const NamedShape& c : kShapes) {
      INFO(std::string(c.name));
      for_each_isa([&](const KernelTable& table) {
        NetShape shape = c.shape;
        shape.direction = direction;
        shape.layers = 2;
        shape.I = 9;  // long enough for the input part of several steps at once
        const Net net(shape);
        check(net, *net.pack(table), net.sequence(5, 3));
      });
    }
  }
}

// A sequence of T = 12 steps and B = 6 rows for each way that rows can differ in time.
std::vector<std::pair<std::string, Sequence>> ragged(const Net& net) {
  const Sequence plain = net.sequence(12, 6);
  std::vector<std::uint8_t> flags(12 * 6);
  for (std::size_t i = 0; i < flags.size(); ++i) flags[i] = i * i % 7 < 3;
  Sequence lengths = plain, mask = plain, resets = plain, values = plain, both = plain;
  lengths.lengths = both.lengths = {3, 12, 0, 5, 11, 1};
  mask.mask = resets.resets = values.resets = both.resets = flags;
  values.reset_h = random_floats(plain.h_0.size(), 9);
  if (!plain.c_0.empty()) values.reset_c = random_floats(plain.c_0.size(), 10);
  return {{"lengths", lengths},
          {"mask", mask},
          {"resets", resets},
          {"resets to values", values},
          {"lengths and resets", both}};
}

TEST_CASE("lengths, masks and resets, in both directions") {
  for (const Direction direction : {Direction::forward, Direction::bidirectional}) {
    for (const NamedShape& c : kShapes) {
      INFO(std::string(c.name));
      for_each_isa([&](const KernelTable& table) {
        NetShape shape = c.shape;
        shape.direction = direction;
        shape.layers = 2;
        shape.I = 9;
        const Net net(shape);
        const auto packed = net.pack(table);
        for (const auto& [name, sequence] : ragged(net)) {
          check(net, *packed, sequence);
        }
      });
    }
  }
}

TEST_CASE("a row has the same bits alone and in a batch") {
  for_each_net([](const Net& net, const RecurrentStack& packed) {
    const NetShape& shape = net.shape();
    const std::int64_t S = shape.state_size(), B = 17, T = 4;
    const Sequence all = net.sequence(T, B);
    const Outputs<float> together = run(packed, shape, all);
    for (const std::int64_t b : {std::int64_t{0}, std::int64_t{11}, B - 1}) {
      Sequence one;
      one.T = T;
      one.h_0.assign(all.h_0.begin() + b * S, all.h_0.begin() + (b + 1) * S);
      if (!all.c_0.empty()) {
        one.c_0.assign(all.c_0.begin() + b * shape.H, all.c_0.begin() + (b + 1) * shape.H);
      }
      for (std::int64_t t = 0; t < T; ++t) {
        const auto row = all.x.begin() + (t * B + b) * shape.I;
        one.x.insert(one.x.end(), row, row + shape.I);
      }
      const Outputs<float> alone = run(packed, shape, one);
      CHECK(first_difference(alone.h_n, together.h_n.data() + b * S, S) == -1);
      for (std::int64_t t = 0; t < T; ++t) {
        const float* expected = together.y.data() + (t * B + b) * S;
        CHECK(first_difference(alone.y.data() + t * S, expected, S) == -1);
      }
    }
  });
}

// Large enough to be worth a team: by panels at B = 1, with a barrier in every step, and by rows.
TEST_CASE("every number of threads gives the same bits") {
  const int before = num_threads();
  for (const NamedShape& c : kShapes) {
    if (c.shape.f.function != ActivationFunction::sigmoid || c.shape.clip > 0) continue;
    INFO(std::string(c.name));
    for (const Direction direction : {Direction::forward, Direction::bidirectional}) {
      for_each_isa([&](const KernelTable& table) {
        NetShape shape = c.shape;
        shape.direction = direction;
        shape.I = 40;
        shape.H = 256;
        if (shape.P) shape.P = 100;
        const Net net(shape);
        const auto packed = net.pack(table);
        for (const std::int64_t B : {1, 17}) {
          const std::int64_t T = B == 1 ? 40 : 6;
          Sequence sequence = net.sequence(T, B);
          sequence.resets.assign(T * B, 0);
          for (std::int64_t b = 0; b < B; ++b) sequence.resets[3 * B + b] = b % 2;
          set_num_threads(1);
          const Outputs<float> expected = run(*packed, shape, sequence);
          for (const int threads : {2, 3}) {
            set_num_threads(threads);
            // Two calls meet at some 80 barriers: who comes first differs from one to the next.
            for (int repeat = 0; repeat < 2; ++repeat) {
              CHECK(same_bits(run(*packed, shape, sequence), expected));
            }
          }
        }
      });
    }
  }
  set_num_threads(before);
}

TEST_CASE("NaN and infinity stay in their row") {
  for_each_net([](const Net& net, const RecurrentStack& packed) {
    const NetShape& shape = net.shape();
    const std::int64_t B = 5, width = shape.state_size();
    Sequence sequence = net.sequence(3, B);
    const Outputs<float> clean = run(packed, shape, sequence);
    const float nan = std::numeric_limits<float>::quiet_NaN();
    for (const float bad : {nan, std::numeric_limits<float>::infinity()}) {
      sequence.x[2 * shape.I] = bad;
      const Outputs<float> dirty = run(packed, shape, sequence);
      for (std::int64_t t = 0; t < 3; ++t) {
        for (const std::int64_t b : {0, 1, 3, 4}) {
          const std::int64_t at = (t * B + b) * width;
          CHECK(first_difference(clean.y.data() + at, dirty.y.data() + at, width) == -1);
        }
      }
      if (std::isnan(bad)) CHECK(std::isnan(dirty.y[2 * width]));
    }
  });
}

}  // namespace
}  // namespace treadle

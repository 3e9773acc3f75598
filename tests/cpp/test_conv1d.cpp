// engine/product/conv1d on every ISA level, on arrays that end at a page nobody may touch.
#include <doctest/doctest.h>

#include <cmath>

#include "engine/product/conv1d.h"
#include "guarded.h"
#include "runtime/thread_pool.h"
#include "values.h"

namespace treadle {
namespace {

struct Case {
  Conv1dShape shape;
  std::int64_t batch, time;
};

// C, D, J, stride, dilation, groups, zeros before and after; B, T.
const Case kCases[] = {
    {{1, 1, 1, 1, 1, 1, 0, 0}, 1, 1},    {{1, 5, 7, 1, 1, 1, 0, 0}, 2, 30},
    {{3, 70, 3, 1, 1, 1, 1, 1}, 2, 9},   {{5, 17, 4, 2, 1, 1, 3, 0}, 3, 11},
    {{6, 4, 3, 1, 3, 2, 2, 4}, 2, 20},   {{4, 4, 5, 3, 2, 4, 1, 1}, 2, 25},
    {{9, 66, 2, 7, 1, 1, 0, 0}, 1, 40},  {{2, 3, 3, 2, 9, 1, 20, 20}, 2, 5},
    {{8, 12, 3, 1, 1, 1, 1, 1}, 1, 601}, {{3, 2, 1, 1, 5, 1, 0, 0}, 2, 13},
    {{4, 8, 3, 1, 1, 1, 0, 0}, 9, 3},    {{2, 2, 2, 1, 1, 1, 9, 9}, 1, 0},
};

double value(const Case& c, const float* x, std::int64_t b, std::int64_t channel, std::int64_t s) {
  if (s < 0 || s >= c.time) return 0;
  return x[(b * c.shape.inputs + channel) * c.time + s];
}

TEST_CASE("a convolution is within its rounding errors, on exact-size arrays") {
  for_each_isa([](const KernelTable& table) {
    for (const Case& c : kCases) {
      const Conv1dShape& s = c.shape;
      const std::int64_t C = s.inputs / s.groups, D = s.outputs / s.groups, K = s.taps * C;
      const Guarded<float> x(random_floats(c.batch * s.inputs * c.time, 1));
      const Guarded<float> w(random_floats(s.outputs * K, 2)), bias(random_floats(s.outputs, 3));
      const Conv1d conv(table, s, StoredMatrix(w.data()), bias.data());
      const std::int64_t steps = conv.steps(c.time);
      REQUIRE(steps > 0);
      CAPTURE(&c - kCases);
      const Conv1dInput in{c.batch, c.time, x.data(), s.inputs * c.time, c.time};
      for (const int threads : {1, 2}) {
        set_num_threads(threads);
        Guarded<float> y(c.batch * s.outputs * steps);
        Interrupt interrupt(nullptr);
        conv.run(in, nullptr, y.data(), interrupt);
        double worst = 0;  // in eps times the sum of the magnitudes
        for (std::int64_t i = 0; i < y.size(); ++i) {
          const std::int64_t b = i / steps / s.outputs, d = i / steps % s.outputs, t = i % steps;
          double sum = bias[d], magnitude = std::fabs(bias[d]);
          for (std::int64_t k = 0; k < K; ++k) {
            const std::int64_t at = s.stride * t + s.dilation * (k / C) - s.before;
            const double term = value(c, x.data(), b, d / D * C + k % C, at) * w[d * K + k];
            sum += term;
            magnitude += std::fabs(term);
          }
          worst = std::max(worst, std::fabs(y[i] - sum) / magnitude * 0x1p23);
        }
        CHECK(worst <= std::max<double>(1, K));
      }
    }
  });
}

TEST_CASE("a sequence has the same bits alone and among others, and in bfloat16 as well") {
  for_each_isa([](const KernelTable& table) {
    constexpr std::int64_t B = 5, T = 23;
    const Conv1dShape s{6, 10, 3, 2, 1, 2, 1, 2};
    const std::vector<float> x = random_floats(B * s.inputs * T, 1);
    std::vector<std::uint16_t> halves(s.outputs * 9);
    for (std::size_t i = 0; i < halves.size(); ++i) halves[i] = 0x3f80 + i % 50;
    const std::vector<float> floats = random_floats(s.outputs * 9, 2);
    for (const StoredMatrix& w :
         {StoredMatrix(floats.data()), StoredMatrix(Dtype::bfloat16, halves.data(), nullptr)}) {
      const Conv1d conv(table, s, w, nullptr);
      const std::int64_t size = s.outputs * conv.steps(T);
      std::vector<float> all(B * size), one(size);
      Interrupt interrupt(nullptr);
      const std::int64_t stride = s.inputs * T;
      conv.run({B, T, x.data(), stride, T}, nullptr, all.data(), interrupt);
      for (std::int64_t b = 0; b < B; ++b) {
        conv.run({1, T, x.data() + b * stride, stride, T}, nullptr, one.data(), interrupt);
        CHECK(first_difference(one, all.data() + b * size, size) == -1);
      }
    }
  });
}

}  // namespace
}  // namespace treadle

// engine/conv/depthwise on every ISA level, on arrays that end at a page nobody may touch.
#include <doctest/doctest.h>

#include <cmath>

#include "engine/conv/depthwise.h"
#include "guarded.h"
#include "runtime/flush_to_zero.h"
#include "runtime/thread_pool.h"
#include "values.h"

namespace treadle {
namespace {

struct Case {
  std::int64_t C, m;
  ConvAxis vertical, horizontal;  // taps, stride, dilation, zeros before and after
  std::int64_t batch, height, width;
};

const Case kCases[] = {{1, 1, {}, {}, 1, 1, 1},
                       {5, 1, {3, 1, 1, 1, 1}, {3, 1, 1, 1, 1}, 2, 9, 23},
                       {16, 1, {3, 2, 1, 1, 1}, {3, 2, 1, 1, 1}, 1, 8, 40},
                       {17, 1, {5, 1, 1, 2, 2}, {5, 1, 1, 2, 2}, 2, 7, 7},
                       {33, 1, {5, 2, 1, 2, 2}, {5, 2, 1, 2, 2}, 1, 14, 15},
                       {8, 1, {}, {5, 1, 1, 2, 2}, 3, 1, 50},
                       {64, 1, {}, {4, 3, 2, 9, 0}, 2, 1, 31},
                       {3, 1, {2, 1, 3, 2, 0}, {3, 1, 2, 0, 5}, 1, 6, 12},
                       {4, 3, {3, 1, 1, 1, 1}, {3, 1, 1, 1, 1}, 2, 5, 6},
                       {24, 1, {3, 1, 9, 9, 9}, {5, 1, 1, 20, 20}, 1, 2, 2},
                       {2, 1, {7, 1, 1, 3, 3}, {7, 3, 1, 3, 3}, 1, 9, 9},
                       {40, 1, {1, 2, 1, 0, 0}, {1, 2, 1, 0, 0}, 1, 5, 5},
                       {70, 1, {3, 1, 1, 1, 1}, {3, 1, 1, 1, 1}, 2, 14, 14},
                       {37, 1, {3, 2, 1, 1, 1}, {5, 2, 1, 2, 2}, 1, 9, 400}};

struct Expected {
  double value, magnitude;
};

Expected expected(const Case& c, const float* x, const float* w, double bias, std::int64_t b,
                  std::int64_t i, std::int64_t j, std::int64_t d) {
  Expected e{bias, std::fabs(bias)};
  for (std::int64_t p = 0; p < c.vertical.taps; ++p) {
    for (std::int64_t q = 0; q < c.horizontal.taps; ++q) {
      const std::int64_t r = i * c.vertical.stride + p * c.vertical.dilation - c.vertical.before;
      const std::int64_t s =
          j * c.horizontal.stride + q * c.horizontal.dilation - c.horizontal.before;
      if (r < 0 || s < 0 || r >= c.height || s >= c.width) continue;
      const double term =
          static_cast<double>(x[((b * c.height + r) * c.width + s) * c.C + d / c.m]) *
          w[(d * c.vertical.taps + p) * c.horizontal.taps + q];
      e.value += term;
      e.magnitude += std::fabs(term);
    }
  }
  return e;
}

TEST_CASE("a depthwise convolution is within its rounding errors, on exact-size arrays") {
  for_each_isa([](const KernelTable& table) {
    for (const Case& c : kCases) {
      CAPTURE(&c - kCases);
      const ConvShape shape{c.C, c.C * c.m, c.C, c.vertical, c.horizontal};
      const std::int64_t D = shape.outputs, taps = shape.taps();
      const std::int64_t H = c.vertical.outputs(c.height), W = c.horizontal.outputs(c.width);
      const Guarded<float> x(random_floats(c.batch * c.height * c.width * c.C, 1));
      const Guarded<float> w(random_floats(D * taps, 2)), bias(random_floats(D, 3));
      const Depthwise conv(table, shape, w.data(), bias.data());
      std::vector<float> first;
      for (const bool channels_first : {false, true}) {
        for (const int threads : {1, 2}) {
          set_num_threads(threads);
          Guarded<float> y(c.batch * H * W * D);
          ConvCall call{c.batch, c.height, c.width, x.data(), y.data()};
          call.channels_first = channels_first;
          Buffer scratch(conv.scratch_floats(call));
          Interrupt interrupt(nullptr);
          OwnTeams teams(interrupt);
          conv.run(call, scratch.data(), ParallelFor(teams));
          double worst = 0;  // in the unit roundoff times the sum of the magnitudes
          bool same_bits = true;
          for (std::int64_t at = 0; at < y.size(); ++at) {
            const std::int64_t b = at / (H * W * D), rest = at % (H * W * D);
            const std::int64_t d = channels_first ? rest / (H * W) : rest % D;
            const std::int64_t pixel = channels_first ? rest % (H * W) : rest / D;
            const Expected e = expected(c, x.data(), w.data(), bias[d], b, pixel / W, pixel % W, d);
            worst = std::max(worst, std::fabs(y[at] - e.value) / e.magnitude * 0x1p24);
            const auto last = static_cast<std::size_t>((b * H * W + pixel) * D + d);
            if (first.size() == static_cast<std::size_t>(y.size())) {
              same_bits = same_bits && same(first[last], y[at]);
            }
          }
          CHECK(worst <= 2.0 * static_cast<double>(taps));
          CHECK(same_bits);
          if (first.empty()) first.assign(y.begin(), y.end());
        }
      }
    }
  });
}

TEST_CASE("an image has the same bits alone and among others") {
  for_each_isa([](const KernelTable& table) {
    const Case& c = kCases[1];
    const ConvShape shape{c.C, c.C, c.C, c.vertical, c.horizontal};
    const std::int64_t B = 5, image = c.height * c.width * c.C;
    const std::vector<float> x = random_floats(B * image, 1), w = random_floats(c.C * 9, 2);
    const Depthwise conv(table, shape, w.data(), nullptr);
    std::vector<float> all(x.size()), one(static_cast<std::size_t>(image));
    Interrupt interrupt(nullptr);
    OwnTeams teams(interrupt);
    conv.run({B, c.height, c.width, x.data(), all.data()}, nullptr, ParallelFor(teams));
    for (std::int64_t b = 0; b < B; ++b) {
      const ConvCall call{1, c.height, c.width, x.data() + b * image, one.data()};
      conv.run(call, nullptr, ParallelFor(teams));
      CHECK(first_difference(one, all.data() + b * image, image) == -1);
    }
  });
}

TEST_CASE("an activation and a residual follow, and NaN stays where it is seen") {
  for_each_isa([](const KernelTable& table) {
    const ConvShape shape{20, 20, 20, {3, 1, 1, 1, 1}, {3, 1, 1, 1, 1}};
    const std::int64_t H = 4, W = 11, n = H * W * 20;
    std::vector<float> x = random_floats(n, 1);
    const std::vector<float> w = random_floats(20 * 9, 2), residual = random_floats(n, 3);
    const Depthwise conv(table, shape, w.data(), nullptr);
    Interrupt interrupt(nullptr);
    OwnTeams teams(interrupt);
    std::vector<float> plain(x.size()), y(x.size());
    conv.run({1, H, W, x.data(), plain.data()}, nullptr, ParallelFor(teams));
    for (const Activation& f : {Activation{ActivationFunction::relu, 0, 0},
                                Activation{ActivationFunction::clip, -.5, .25},
                                Activation{ActivationFunction::hard_swish, 0, 0}}) {
      const FlushToZero guard;
      ConvCall call{1, H, W, x.data(), y.data(), &f, residual.data()};
      conv.run(call, nullptr, ParallelFor(teams));
      std::vector<float> expected(x.size());
      table.apply(f, plain.data(), expected.data(), n);
      for (std::size_t i = 0; i < expected.size(); ++i) expected[i] += residual[i];
      CHECK(first_difference(y, expected, n) == -1);
      call.residual_first = true;
      conv.run(call, nullptr, ParallelFor(teams));
      for (std::size_t i = 0; i < expected.size(); ++i) expected[i] = plain[i] + residual[i];
      table.apply(f, expected.data(), expected.data(), n);
      CHECK(first_difference(y, expected, n) == -1);
    }
    x[(1 * W + 5) * 20 + 7] = std::numeric_limits<float>::quiet_NaN();
    conv.run({1, H, W, x.data(), y.data()}, nullptr, ParallelFor(teams));
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int64_t row = i / 20 / W, column = i / 20 % W;
      const bool seen = i % 20 == 7 && row <= 2 && column >= 4 && column <= 6;
      CHECK(std::isnan(y[static_cast<std::size_t>(i)]) == seen);
    }
  });
}

}  // namespace
}  // namespace treadle

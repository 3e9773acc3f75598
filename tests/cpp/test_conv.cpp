// engine/conv/conv on every ISA level, on arrays that end at a page nobody may touch.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "engine/conv/channels_first.h"
#include "engine/conv/conv.h"
#include "engine/conv/conv_transpose.h"
#include "guarded.h"
#include "runtime/thread_pool.h"
#include "values.h"

namespace treadle {
namespace {

struct Case {
  ConvShape shape;
  std::int64_t batch, height, width;

  std::int64_t rows() const { return shape.vertical.outputs(height); }
  std::int64_t columns() const { return shape.horizontal.outputs(width); }
  std::int64_t inputs() const { return batch * height * width * shape.inputs; }
  std::int64_t outputs() const { return batch * rows() * columns() * shape.outputs; }
  std::int64_t k() const { return shape.taps() * shape.group_inputs(); }
};

// C, D, groups; along an axis: taps, stride, dilation, zeros before and after; B, H, W.
const Case kCases[] = {
    {{1, 1, 1, {}, {}}, 1, 1, 1},
    {{1, 5, 1, {}, {7}}, 2, 1, 30},
    {{3, 70, 1, {}, {3, 1, 1, 1, 1}}, 2, 1, 9},
    {{5, 17, 1, {}, {4, 2, 1, 3, 0}}, 3, 1, 11},
    {{6, 4, 2, {}, {3, 1, 3, 2, 4}}, 2, 1, 20},
    {{4, 4, 4, {}, {5, 3, 2, 1, 1}}, 2, 1, 25},
    {{9, 66, 1, {}, {2, 7}}, 1, 1, 40},
    {{2, 3, 1, {}, {3, 2, 9, 20, 20}}, 2, 1, 5},
    {{130, 12, 1, {}, {3, 1, 1, 1, 1}}, 1, 1, 101},
    {{2, 2, 1, {}, {2, 1, 1, 9, 9}}, 1, 1, 0},
    {{3, 20, 1, {3, 2, 1, 1, 1}, {3, 2, 1, 1, 1}}, 2, 9, 8},
    {{16, 70, 1, {3, 1, 1, 1, 1}, {3, 1, 1, 1, 1}}, 1, 7, 13},
    {{40, 34, 2, {2, 1, 2, 0, 3}, {3, 1, 1, 2, 0}}, 2, 6, 5},
    {{17, 65, 1, {1}, {1}}, 2, 5, 11},
    {{12, 9, 1, {1, 2}, {1, 3}}, 2, 5, 11},
    {{130, 66, 1, {3, 1, 1, 1, 1}, {3, 1, 1, 1, 1}}, 1, 5, 5},
    {{300, 4, 1, {3, 1, 1, 1, 1}, {3, 1, 1, 1, 1}}, 1, 4, 5},
    {{8, 8, 1, {9, 1, 1, 8, 8}, {9, 1, 1, 8, 8}}, 3, 2, 1},
    {{64, 16, 1, {3, 1, 3, 3, 3}, {3, 1, 3, 3, 3}}, 1, 4, 6},
    {{3, 20, 1, {5, 2, 1, 2, 2}, {7, 2, 1, 3, 3}}, 2, 4, 139},
    {{2, 7, 1, {2}, {3}}, 2, 4, 130},
    {{9, 67, 1, {1}, {1}}, 2, 5, 53},
    {{4, 6, 2, {1, 2, 1, 1, 0}, {1, 3, 1, 1, 2}}, 1, 7, 200},
};

double element(const Case& c, const float* x, std::int64_t b, std::int64_t i, std::int64_t j,
               std::int64_t channel) {
  if (i < 0 || i >= c.height || j < 0 || j >= c.width) return 0;
  return x[((b * c.height + i) * c.width + j) * c.shape.inputs + channel];
}

// Returns the largest error of y [B, H', W', D], in eps times the sum of the magnitudes.
double worst_error(const Case& c, const float* x, const float* w, const float* bias,
                   const float* y) {
  const ConvShape& s = c.shape;
  const std::int64_t C = s.group_inputs(), D = s.group_outputs();
  double worst = 0;
  for (std::int64_t n = 0; n < c.outputs(); ++n) {
    const std::int64_t d = n % s.outputs, j = n / s.outputs % c.columns();
    const std::int64_t i = n / s.outputs / c.columns() % c.rows();
    const std::int64_t b = n / s.outputs / c.columns() / c.rows();
    double sum = bias[d], magnitude = std::fabs(bias[d]);
    for (std::int64_t k = 0; k < c.k(); ++k) {
      const std::int64_t p = k / C / s.horizontal.taps, q = k / C % s.horizontal.taps;
      const double term =
          element(c, x, b, s.vertical.stride * i + s.vertical.dilation * p - s.vertical.before,
                  s.horizontal.stride * j + s.horizontal.dilation * q - s.horizontal.before,
                  d / D * C + k % C) *
          w[d * c.k() + k];
      sum += term;
      magnitude += std::fabs(term);
    }
    worst = std::max(worst, std::fabs(y[n] - sum) / magnitude * 0x1p23);
  }
  return worst;
}

// Weights in the forms of their dtypes.
struct Weights {
  std::vector<float> floats, scales;
  std::vector<std::uint16_t> halves;
  std::vector<std::int8_t> integers;

  explicit Weights(const Case& c)
      : floats(random_floats(c.shape.outputs * c.k(), 2)),
        scales(random_floats(c.shape.outputs * c.k(), 4, 0.25f)),
        halves(floats.size()),
        integers(floats.size()) {
    for (float& scale : scales) scale = std::fabs(scale) + 0.5f;
    for (std::size_t i = 0; i < floats.size(); ++i) {
      halves[i] = static_cast<std::uint16_t>(0x3f80 + i % 50 + (i % 3 == 0 ? 0x8000 : 0));
      integers[i] = static_cast<std::int8_t>(floats[i] * 127);
    }
  }
  StoredMatrix of(Dtype dtype) const {
    if (dtype == Dtype::float32) return floats.data();
    if (dtype == Dtype::bfloat16) return {dtype, halves.data(), nullptr};
    return {dtype, integers.data(), scales.data()};
  }
};

TEST_CASE("a convolution is within its rounding errors, on exact-size arrays") {
  for_each_isa([](const KernelTable& table) {
    for (const Case& c : kCases) {
      const Guarded<float> x(random_floats(c.inputs(), 1));
      const Guarded<float> w(random_floats(c.shape.outputs * c.k(), 2));
      const Guarded<float> bias(random_floats(c.shape.outputs, 3));
      const Conv conv(table, c.shape, StoredMatrix(w.data()), bias.data());
      REQUIRE(c.outputs() > 0);
      CAPTURE(&c - kCases);
      for (const int threads : {1, 2}) {
        set_num_threads(threads);
        Guarded<float> y(c.outputs()), turned(c.outputs());
        Interrupt interrupt(nullptr);
        ConvCall call{c.batch, c.height, c.width, x.data(), y.data()};
        convolve(conv, call, interrupt);
        CHECK(worst_error(c, x.data(), w.data(), bias.data(), y.data()) <=
              std::max<double>(1, static_cast<double>(c.k())));

        call.y = turned.data();
        call.channels_first = true;
        convolve(conv, call, interrupt);
        const std::int64_t size = c.rows() * c.columns(), D = c.shape.outputs;
        std::int64_t wrong = 0;
        for (std::int64_t i = 0; i < y.size(); ++i) {
          wrong += !same(y[i], turned[(i / D / size * D + i % D) * size + i / D % size]);
        }
        CHECK(wrong == 0);
      }
    }
  });
}

TEST_CASE("an image has the same bits alone and among others, in every dtype") {
  for_each_isa([](const KernelTable& table) {
    for (const Case& one : kCases) {
      CAPTURE(&one - kCases);
      const Weights weights(one);
      Case many = one;
      many.batch = 9;
      const Guarded<float> x(random_floats(many.inputs(), 1));
      const std::vector<float> bias = random_floats(one.shape.outputs, 3);
      for (const Dtype dtype : {Dtype::float32, Dtype::bfloat16, Dtype::int8}) {
        const Conv conv(table, one.shape, weights.of(dtype), bias.data());
        Guarded<float> all(many.outputs()), alone(one.outputs() / one.batch);
        const Activation relu{ActivationFunction::relu, 0, 0};
        Interrupt interrupt(nullptr);
        set_num_threads(2);
        convolve(conv, {9, one.height, one.width, x.data(), all.data(), &relu}, interrupt);
        set_num_threads(1);
        for (std::int64_t b = 0; b < 9; b += 4) {
          const float* image = x.data() + b * one.height * one.width * one.shape.inputs;
          convolve(conv, {1, one.height, one.width, image, alone.data(), &relu}, interrupt);
          CHECK(first_difference(alone, all.data() + b * alone.size(), alone.size()) == -1);
        }
      }
    }
  });
}

TEST_CASE("a residual may be the output") {
  for_each_isa([](const KernelTable& table) {
    const Case c{{20, 70, 1, {3, 1, 1, 1, 1}, {3, 1, 1, 1, 1}}, 2, 6, 7};
    const Weights weights(c);
    const std::vector<float> x = random_floats(c.inputs(), 1);
    for (const Dtype dtype : {Dtype::float32, Dtype::bfloat16, Dtype::int8}) {
      const Conv conv(table, c.shape, weights.of(dtype), nullptr);
      const std::vector<float> before = random_floats(c.outputs(), 5);
      std::vector<float> plain(before.size()), added = before;
      Interrupt interrupt(nullptr);
      ConvCall call{c.batch, c.height, c.width, x.data(), plain.data()};
      convolve(conv, call, interrupt);
      call.y = added.data();
      call.residual = added.data();
      convolve(conv, call, interrupt);
      for (std::size_t i = 0; i < plain.size(); ++i) plain[i] += before[i];
      CHECK(first_difference(plain, added, c.outputs()) == -1);
    }
  });
}

TEST_CASE("planes that end at a page are read in place or turned, rows apart or not") {
  for_each_isa([](const KernelTable& table) {
    for (const Case& c : kCases) {
      if (c.height == 0 || c.width == 0) continue;
      CAPTURE(&c - kCases);
      const ConvShape& s = c.shape;
      const Weights weights(c);
      const Conv conv(table, s, weights.of(Dtype::float32), nullptr);
      const std::int64_t size = c.height * c.width, C = s.inputs, apart = c.width + 3;
      const std::vector<float> values = random_floats(c.inputs(), 1);
      const std::int64_t rows = c.batch * C * c.height;
      Guarded<float> last(c.inputs()), first(c.inputs()), spread((rows - 1) * apart + c.width);
      for (std::int64_t i = 0; i < c.inputs(); ++i) {
        const std::int64_t b = i / (C * size), channel = i / size % C, p = i % size;
        first[i] = values[i];
        last[(b * size + p) * C + channel] = values[i];
        spread[i / c.width * apart + i % c.width] = values[i];
      }
      Guarded<float> expected(c.outputs()), y(c.outputs());
      Interrupt interrupt(nullptr);
      ConvCall call{c.batch, c.height, c.width, last.data(), expected.data()};
      call.channels_first = true;
      convolve(conv, call, interrupt);
      convolve(conv, Planes{c.batch, c.height, c.width, first.data(), C * size, size, c.width},
               nullptr, y.data(), interrupt);
      CHECK(first_difference(y, expected, c.outputs()) == -1);
      const std::int64_t plane = c.height * apart;
      convolve(conv, Planes{c.batch, c.height, c.width, spread.data(), C * plane, plane, apart},
               nullptr, y.data(), interrupt);
      CHECK(first_difference(y, expected, c.outputs()) == -1);
    }
  });
}

// C, D, groups; along an axis: taps, stride, dilation, zeros before and after.
const ConvTransposeShape kTransposed[] = {
    {{3, 5, 1, {}, {4, 2, 1, 1, 1}}},
    {{4, 70, 2, {3, 2, 1, 1, 0}, {3, 2, 1, 0, 1}}},
    {{20, 6, 1, {2, 3, 2, 0, -1}, {1, 4, 1, 0, -3}}},
    {{2, 3, 1, {3, 2, 2, 0, 0}, {2, 6, 4, 1, 1}}},
    {{300, 3, 1, {2, 2, 1, 0, 0}, {2, 2, 1, 0, 0}}},
};

TEST_CASE("a transposed convolution adds every product where it belongs, on exact-size arrays") {
  for_each_isa([&](const KernelTable& table) {
    for (const ConvTransposeShape& s : kTransposed) {
      CAPTURE(&s - kTransposed);
      constexpr std::int64_t B = 3, H = 4, W = 5;
      const std::int64_t C = s.group_inputs(), D = s.group_outputs(), taps = s.taps();
      const Guarded<float> x(random_floats(B * H * W * s.inputs, 1));
      const Guarded<float> w(random_floats(s.outputs * taps * C, 2));
      const Guarded<float> bias(random_floats(s.outputs, 3));
      const ConvTranspose conv(table, s, w.data(), bias.data());
      ConvCall call{B, H, W, x.data(), nullptr};
      const std::int64_t rows = conv.height(call), columns = conv.width(call);
      REQUIRE(rows > 0);
      REQUIRE(columns > 0);
      std::vector<double> sums(B * rows * columns * s.outputs), sizes(sums.size());
      for (std::size_t i = 0; i < sums.size(); ++i) {
        sums[i] = bias[i % s.outputs];
        sizes[i] = std::fabs(sums[i]);
      }
      for (std::int64_t n = 0; n < B * H * W; ++n) {
        for (std::int64_t d = 0; d < s.outputs; ++d) {
          for (std::int64_t tap = 0; tap < taps; ++tap) {
            const ConvAxis &down = s.vertical, &across = s.horizontal;
            const std::int64_t i =
                n / W % H * down.stride + tap / across.taps * down.dilation - down.before;
            const std::int64_t j =
                n % W * across.stride + tap % across.taps * across.dilation - across.before;
            if (i < 0 || i >= rows || j < 0 || j >= columns) continue;
            const std::int64_t at = ((n / W / H * rows + i) * columns + j) * s.outputs + d;
            for (std::int64_t k = 0; k < C; ++k) {
              const double term = static_cast<double>(x[n * s.inputs + d / D * C + k]) *
                                  w[(d * taps + tap) * C + k];
              sums[at] += term;
              sizes[at] += std::fabs(term);
            }
          }
        }
      }
      for (const int threads : {1, 2}) {
        set_num_threads(threads);
        Guarded<float> y(static_cast<std::int64_t>(sums.size()));
        call.y = y.data();
        Interrupt interrupt(nullptr);
        convolve(conv, call, interrupt);
        double worst = 0;
        for (std::int64_t i = 0; i < y.size(); ++i) {
          worst = std::max(worst, std::fabs(y[i] - sums[i]) / sizes[i] * 0x1p23);
        }
        CHECK(worst <= static_cast<double>(taps * C));
      }
    }
  });
}

TEST_CASE("a transposed convolution in low precision has the bits of its images, one by one") {
  constexpr std::int64_t B = 3, H = 4, W = 5;
  const auto check = [](const KernelTable& table, const ConvTransposeShape& s,
                        const StoredMatrix& weight) {
    const std::int64_t image = H * W * s.inputs;
    const Guarded<float> x(random_floats(B * image, 1)), bias(random_floats(s.outputs, 3));
    const ConvTranspose conv(table, s, weight, bias.data());
    ConvCall call{B, H, W, x.data(), nullptr};
    const std::int64_t size = conv.height(call) * conv.width(call) * s.outputs;
    for (const int threads : {1, 2}) {
      set_num_threads(threads);
      Guarded<float> whole(B * size);
      call.y = whole.data();
      Interrupt interrupt(nullptr);
      convolve(conv, call, interrupt);
      for (std::int64_t b = 0; b < B; ++b) {
        const Guarded<float> own(
            std::vector<float>(x.data() + b * image, x.data() + (b + 1) * image));
        Guarded<float> alone(size);
        convolve(conv, ConvCall{1, H, W, own.data(), alone.data()}, interrupt);
        std::int64_t different = 0;
        for (std::int64_t i = 0; i < size; ++i) different += !(alone[i] == whole[b * size + i]);
        CHECK(different == 0);
      }
    }
  };
  for_each_isa([&](const KernelTable& table) {
    for (const ConvTransposeShape& s : kTransposed) {
      CAPTURE(&s - kTransposed);
      const std::int64_t C = s.group_inputs(), rows = s.outputs * s.taps();
      const std::vector<float> numbers = random_floats(rows * C, 2);
      std::vector<std::uint16_t> halves;
      std::vector<std::int8_t> integers;
      for (const float number : numbers) {
        std::uint32_t bits;
        std::memcpy(&bits, &number, sizeof bits);
        halves.push_back(static_cast<std::uint16_t>(bits >> 16));
        integers.push_back(static_cast<std::int8_t>(std::fmod(number * 100, 100.0f)));
      }
      const Guarded<std::uint16_t> bfloat16(halves);
      const Guarded<std::int8_t> int8(integers);
      const Guarded<float> scales(std::vector<float>(rows * sum_blocks(C), 0.01f));
      check(table, s, {Dtype::bfloat16, bfloat16.data(), nullptr});
      check(table, s, {Dtype::int8, int8.data(), scales.data()});
    }
  });
}

}  // namespace
}  // namespace treadle

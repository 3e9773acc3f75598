// engine/conv/pool and resize and engine/product/norms and pad, with channels last, on every ISA
// level and on arrays that end at a page nobody may touch. tests/functional has PyTorch's layout.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "engine/conv/pool.h"
#include "engine/conv/resize.h"
#include "engine/product/norms.h"
#include "engine/product/pad.h"
#include "guarded.h"
#include "runtime/buffer.h"
#include "runtime/thread_pool.h"
#include "values.h"

namespace treadle {
namespace {

constexpr double kUnit = 0x1p-24;

struct PoolCase {
  std::int64_t batch, height, width, channels;
  PoolAxis vertical, horizontal;
};

const PoolCase kPools[] = {{1, 1, 1, 1, {}, {}},
                           {2, 7, 9, 5, {3, 2, 1, 1, 1, false}, {3, 2, 1, 1, 1, false}},
                           {1, 6, 8, 64, {2, 2, 1, 0, 0, true}, {3, 2, 1, 0, 1, true}},
                           {2, 1, 31, 70, {}, {4, 3, 2, 0, 2, true}},
                           {1, 5, 5, 17, {5, 1, 1, 2, 2, false}, {2, 1, 3, 1, 0, false}}};

// Every number of a window, by the definition.
std::vector<double> window(const PoolCase& c, const float* x, std::int64_t b, std::int64_t i,
                           std::int64_t j, std::int64_t channel) {
  std::vector<double> found;
  for (std::int64_t p = 0; p < c.vertical.taps; ++p) {
    for (std::int64_t q = 0; q < c.horizontal.taps; ++q) {
      const std::int64_t r = i * c.vertical.stride + p * c.vertical.dilation - c.vertical.before;
      const std::int64_t s =
          j * c.horizontal.stride + q * c.horizontal.dilation - c.horizontal.before;
      if (r < 0 || s < 0 || r >= c.height || s >= c.width) continue;
      found.push_back(x[((b * c.height + r) * c.width + s) * c.channels + channel]);
    }
  }
  return found;
}

TEST_CASE("pools with channels last are what their definition says") {
  for_each_isa([](const KernelTable& table) {
    for (const PoolCase& c : kPools) {
      CAPTURE(&c - kPools);
      const std::int64_t H = c.vertical.outputs(c.height), W = c.horizontal.outputs(c.width);
      const Guarded<float> x(random_floats(c.batch * c.height * c.width * c.channels, 1));
      for (const PoolKind kind : {PoolKind::max, PoolKind::average}) {
        const Pool pool = Pool::regular(table, kind, c.vertical, c.horizontal, c.height, c.width);
        REQUIRE(pool.out_height() == H);
        REQUIRE(pool.out_width() == W);
        for (const int threads : {1, 2}) {
          set_num_threads(threads);
          Interrupt interrupt(nullptr);
          OwnTeams teams(interrupt);
          Guarded<float> y(c.batch * H * W * c.channels);
          pool.run(c.batch, c.channels, x.data(), y.data(), ParallelFor(teams));
          bool good = true;
          for (std::int64_t at = 0; at < y.size(); ++at) {
            const std::int64_t pixel = at / c.channels;
            const auto seen =
                window(c, x.data(), pixel / (H * W), pixel / W % H, pixel % W, at % c.channels);
            REQUIRE(!seen.empty());
            double sum = 0, magnitude = 0;
            for (const double v : seen) {
              sum += v;
              magnitude += std::fabs(v);
            }
            const double n = static_cast<double>(seen.size());
            const double exact =
                kind == PoolKind::max ? *std::max_element(seen.begin(), seen.end()) : sum / n;
            const double bound = kind == PoolKind::max ? 0 : kUnit * (n + 2) * magnitude / n;
            good = good && std::fabs(y[at] - exact) <= bound;
          }
          CHECK(good);
        }
      }
    }
  });
}

TEST_CASE("global pools read whole images, with channels first and last") {
  for_each_isa([](const KernelTable& table) {
    for (const std::int64_t P : {1, 3, 16, 49, 300}) {
      for (const std::int64_t C : {1, 5, 16, 33}) {
        const Guarded<float> x(random_floats(2 * P * C, 1));
        Interrupt interrupt(nullptr);
        OwnTeams teams(interrupt);
        for (const PoolKind kind : {PoolKind::max, PoolKind::average}) {
          Guarded<float> last(2 * C), first(2 * C);
          pool_all(table, kind, 2, P, C, x.data(), last.data(), ParallelFor(teams));
          pool_rows(table, kind, 2 * C, P, x.data(), first.data(), ParallelFor(teams));
          for (std::int64_t i = 0; i < 2 * C; ++i) {
            const auto check = [&](float y, const float* from, std::int64_t stride) {
              double sum = 0, magnitude = 0, most = -INFINITY;
              for (std::int64_t p = 0; p < P; ++p) {
                const double v = from[p * stride];
                sum += v;
                magnitude += std::fabs(v);
                most = std::max(most, v);
              }
              const double n = static_cast<double>(P);
              if (kind == PoolKind::max) return static_cast<double>(y) == most;
              return std::fabs(y - sum / n) <= kUnit * (26 + n / 64) * magnitude / n;
            };
            CHECK(check(last[i], x.data() + i / C * P * C + i % C, C));
            CHECK(check(first[i], x.data() + i * P, 1));
          }
        }
      }
    }
  });
}

TEST_CASE("a norm has nearly the same numbers with channels first and last") {
  for_each_isa([](const KernelTable& table) {
    constexpr std::int64_t B = 3, C = 12, P = 70;
    const std::vector<float> values = random_floats(B * C * P, 1);
    std::vector<float> turned(values.size());
    for (std::size_t i = 0; i < values.size(); ++i) {
      const std::size_t b = i / (C * P), c = i / P % C, p = i % P;
      turned[(b * P + p) * C + c] = values[i];
    }
    const Guarded<float> first(values), last(turned), weight(random_floats(C, 2));
    const Guarded<float> bias(random_floats(C, 3));
    for (const int threads : {1, 2}) {
      set_num_threads(threads);
      Interrupt interrupt(nullptr);
      OwnTeams teams(interrupt);
      for (const std::int64_t groups : {1, 3, 12}) {
        Guarded<float> y(B * C * P), z(B * C * P), one(C * P);
        NormArgs a{B, C, P, first.data(), weight.data(), bias.data(), y.data()};
        Buffer scratch(group_norm_floats(a));
        group_norm(table, a, groups, 1e-5f, scratch.data(), ParallelFor(teams));
        NormArgs b{B, C, P, last.data(), weight.data(), bias.data(), z.data(), true};
        group_norm(table, b, groups, 1e-5f, scratch.data(), ParallelFor(teams));
        double worst = 0;
        for (std::size_t i = 0; i < values.size(); ++i) {
          const std::size_t image = i / (C * P), c = i / P % C, p = i % P;
          const std::size_t at = (image * P + p) * C + c;
          worst = std::max(worst, std::fabs(static_cast<double>(y[i]) - z[at]));
        }
        // Numbers of x are below 1, and those of the result below 4: some roundings of each.
        CHECK(worst <= 64 * kUnit);
        b.batch = 1;
        b.x += C * P;
        b.y = one.data();
        group_norm(table, b, groups, 1e-5f, scratch.data(), ParallelFor(teams));
        CHECK(first_difference(one, z.data() + C * P, C * P) == -1);
      }
      Guarded<float> y(B * C * P), z(B * C * P);
      scale_channels(table, {B, C, P, first.data(), weight.data(), bias.data(), y.data()},
                     ParallelFor(teams));
      scale_channels(table, {B, C, P, last.data(), weight.data(), bias.data(), z.data(), true},
                     ParallelFor(teams));
      bool good = true;
      for (std::size_t i = 0; i < values.size(); ++i) {
        const std::size_t image = i / (C * P), c = i / P % C, p = i % P;
        const float scaled = values[i] * weight[c];
        good = good && same(y[i], scaled + bias[c]) && same(y[i], z[(image * P + p) * C + c]);
      }
      CHECK(good);
    }
  });
}

TEST_CASE("pixels of another size are where ONNX puts them") {
  using Rounding = ResizeRounding;
  using Coordinates = ResizeCoordinates;
  using Pixels = std::vector<std::int64_t>;
  // Examples of the operator Resize in ONNX's specification, worked out by hand.
  CHECK(nearest_pixels({2, 4}, Coordinates::asymmetric, Rounding::floor) == Pixels{0, 0, 1, 1});
  CHECK(nearest_pixels({4, 2}, Coordinates::half_pixel, Rounding::round_prefer_floor) ==
        Pixels{0, 2});
  CHECK(nearest_pixels({4, 2}, Coordinates::half_pixel, Rounding::round_prefer_ceil) ==
        Pixels{1, 3});
  CHECK(nearest_pixels({4, 8}, Coordinates::align_corners, Rounding::floor) ==
        Pixels{0, 0, 0, 1, 1, 2, 2, 3});
  CHECK(nearest_pixels({4, 8}, Coordinates::half_pixel, Rounding::ceil) ==
        Pixels{0, 1, 1, 2, 2, 3, 3, 3});
  CHECK(nearest_pixels({5, 1}, Coordinates::pytorch_half_pixel, Rounding::floor) == Pixels{0});
  CHECK(torch_nearest_pixels({2, 3}, true) == Pixels{0, 1, 1});
  const auto taps = linear_taps({2, 4}, Coordinates::half_pixel);
  const float expected[] = {0, 0.25f, 0.75f, 0};
  const std::int64_t from[] = {0, 0, 0, 1};
  for (int i = 0; i < 4; ++i) {
    CHECK(taps[i].from == from[i]);
    CHECK(taps[i].to == 1);
    CHECK(taps[i].t == expected[i]);
  }
  // A scale of the caller's, and places that are far outside of x.
  CHECK(nearest_pixels({3, 2, 1e-30}, Coordinates::asymmetric, Rounding::floor) == Pixels{0, 2});
  CHECK(linear_taps({3, 1, 0.5}, Coordinates::half_pixel)[0].t == 0.5f);
}

TEST_CASE("images are resized with channels last, on exact-size arrays") {
  for_each_isa([](const KernelTable& table) {
    for (const std::int64_t C : {1, 3, 16, 37}) {
      constexpr std::int64_t B = 2, H = 4, W = 7;
      const Guarded<float> x(random_floats(B * H * W * C, 1));
      const auto rows = linear_taps({H, 6}, ResizeCoordinates::half_pixel);
      const auto columns = linear_taps({W, 9}, ResizeCoordinates::align_corners);
      const auto near =
          nearest_pixels({H, 6}, ResizeCoordinates::asymmetric, ResizeRounding::floor);
      const auto beside =
          nearest_pixels({W, 9}, ResizeCoordinates::asymmetric, ResizeRounding::floor);
      Interrupt interrupt(nullptr);
      OwnTeams teams(interrupt);
      Guarded<float> y(B * 6 * 9 * C), z(B * 6 * 9 * C);
      const LinearResize args{B, H, W, C, rows, columns, x.data(), y.data()};
      Guarded<float> scratch(args.scratch_floats());
      resize_linear(table, args, scratch.data(), ParallelFor(teams));
      resize_nearest(near, beside, B, H, W, C, x.data(), z.data(), ParallelFor(teams));
      bool good = true;
      for (std::int64_t at = 0; at < y.size(); ++at) {
        const std::int64_t c = at % C, j = at / C % 9, i = at / C / 9 % 6, b = at / C / 54;
        const auto pixel = [&](std::int64_t r, std::int64_t s) {
          return static_cast<double>(x[((b * H + r) * W + s) * C + c]);
        };
        const BlendTap &v = rows[static_cast<std::size_t>(i)],
                       &h = columns[static_cast<std::size_t>(j)];
        const double s = v.t, t = h.t;
        const double exact = (1 - s) * ((1 - t) * pixel(v.from, h.from) + t * pixel(v.from, h.to)) +
                             s * ((1 - t) * pixel(v.to, h.from) + t * pixel(v.to, h.to));
        good =
            good && std::fabs(y[at] - exact) <= 8 * kUnit &&
            z[at] == pixel(near[static_cast<std::size_t>(i)], beside[static_cast<std::size_t>(j)]);
      }
      CHECK(good);
    }
  });
}

TEST_CASE("elements of every size are padded") {
  Interrupt interrupt(nullptr);
  OwnTeams teams(interrupt);
  const Padding padding(PadMode::reflect, {2, 3}, {0, 2}, {1, 1});
  CHECK(padding.sizes() == std::vector<std::int64_t>{3, 6});
  const auto check = [&](auto zero) {
    using T = decltype(zero);
    const std::vector<T> x{1, 2, 3, 4, 5, 6};
    std::vector<T> y(18);
    padding.run(sizeof(T), x.data(), &zero, y.data(), ParallelFor(teams));
    CHECK(y == std::vector<T>{3, 2, 1, 2, 3, 2, 6, 5, 4, 5, 6, 5, 3, 2, 1, 2, 3, 2});
  };
  check(std::uint8_t{});
  check(std::int16_t{});
  check(std::int32_t{});
  check(std::int64_t{});
  const float x = 7, constant = 1;
  float y = 0;
  Padding(PadMode::constant, {}, {}, {}).run(4, &x, &constant, &y, ParallelFor(teams));
  CHECK(y == 7);
  CHECK_THROWS_AS(Padding(PadMode::reflect, {2}, {2}, {0}), std::invalid_argument);
  CHECK_THROWS_AS(Padding(PadMode::edge, {0}, {1}, {0}), std::invalid_argument);
  CHECK_THROWS_AS(Padding(PadMode::constant, {2}, {-3}, {2}), std::invalid_argument);
  CHECK_THROWS_AS(Padding(PadMode::constant, {2}, {INT64_MAX}, {1}), std::invalid_argument);
}

}  // namespace
}  // namespace treadle

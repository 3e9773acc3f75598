// Elementwise functions on every ISA level against libm in double. A smoke test, for builds that
// have no Python (aarch64): tests/native/test_activation.py sweeps every exponent and asserts each
// maximum.
#include <doctest/doctest.h>

#include <cmath>
#include <string>

#include "guarded.h"
#include "runtime/flush_to_zero.h"
#include "values.h"

namespace treadle {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct FunctionCase {
  const char* name;
  Activation activation;
  double (*exact)(double);
  double low, high;  // what is swept
};

const FunctionCase kCases[] = {
    {"exp", {ActivationFunction::exp, 0, 0}, [](double x) { return std::exp(x); }, -80, 88.7},
    {"tanh", {ActivationFunction::tanh, 0, 0}, [](double x) { return std::tanh(x); }, -12, 12},
    {"sigmoid",
     {ActivationFunction::sigmoid, 0, 0},
     [](double x) { return 1 / (1 + std::exp(-x)); },
     -80,
     90},
    {"erf", {ActivationFunction::erf, 0, 0}, [](double x) { return std::erf(x); }, -5, 5},
    {"log1p", {ActivationFunction::log1p, 0, 0}, [](double x) { return std::log1p(x); }, 0, 1},
    {"softplus",
     {ActivationFunction::softplus, 0, 0},
     [](double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::fabs(x))); },
     -80,
     80},
    {"elu",
     {ActivationFunction::elu, 1, 0},
     [](double x) { return x >= 0 ? x : std::expm1(x); },
     -20,
     20},
    {"softsign",
     {ActivationFunction::softsign, 0, 0},
     [](double x) { return x / (1 + std::fabs(x)); },
     -9,
     9},
    {"relu", {ActivationFunction::relu, 0, 0}, [](double x) { return std::max(x, 0.0); }, -9, 9},
    {"hard_sigmoid",
     {ActivationFunction::hard_sigmoid, 0.25f, 0.5f},
     [](double x) { return std::max(0.0, std::min(1.0, 0.25 * x + 0.5)); },
     -3,
     3},
    {"leaky_relu",
     {ActivationFunction::leaky_relu, 0.125f, 0},
     [](double x) { return x >= 0 ? x : 0.125 * x; },
     -9,
     9},
    {"thresholded_relu",
     {ActivationFunction::thresholded_relu, 0.25f, 0},
     [](double x) { return x > 0.25 ? x : 0; },
     -9,
     9},
    {"affine",
     {ActivationFunction::affine, 0.25f, 0.5f},
     [](double x) { return 0.25 * x + 0.5; },
     0,
     9},
    {"scaled_tanh",
     {ActivationFunction::scaled_tanh, 1.5f, 0.5f},
     [](double x) { return 1.5 * std::tanh(0.5 * x); },
     -12,
     12},
    {"linear", {ActivationFunction::linear, 0, 0}, [](double x) { return x; }, -9, 9},
    {"silu",
     {ActivationFunction::silu, 0, 0},
     [](double x) { return x / (1 + std::exp(-x)); },
     -80,
     90},
    {"hard_swish",
     {ActivationFunction::hard_swish, 0, 0},
     [](double x) { return x * std::max(0.0, std::min(1.0, x / 6 + 0.5)); },
     -2,
     9},
    {"clip",
     {ActivationFunction::clip, -0.5f, 6},
     [](double x) { return std::max(-0.5, std::min(6.0, x)); },
     -9,
     9},
};

double ulp(double x) {
  const float size = std::max(static_cast<float>(std::fabs(x)), std::numeric_limits<float>::min());
  return std::nextafter(size, kInfinity) - static_cast<double>(size);
}

TEST_CASE("functions err by at most four ULP") {
  for (const FunctionCase& c : kCases) {
    INFO(std::string(c.name));
    std::vector<float> x = random_floats(20000, 3);
    for (float& v : x) v = static_cast<float>(c.low + (v + 1) / 2 * (c.high - c.low));
    for (std::size_t i = 0; i < x.size(); i += 2) x[i] *= std::fabs(x[i / 2] / 97);  // small ones
    for_each_isa([&](const KernelTable& table) {
      const FlushToZero guard;
      std::vector<float> y(x.size());
      table.apply(c.activation, x.data(), y.data(), static_cast<std::int64_t>(x.size()));
      double worst = 0;
      for (std::size_t i = 0; i < x.size(); ++i) {
        const double exact = c.exact(x[i]);
        const double error = std::fabs(y[i] - exact) / ulp(exact);
        worst = std::max(worst, std::isnan(error) ? INFINITY : error);
      }
      CHECK(worst <= 4);
    });
  }
}

TEST_CASE("GELU errs by some ULP of half its argument, its approximation by tanh of its exponent") {
  const double root = std::sqrt(2 / std::acos(-1.0));
  std::vector<float> x = random_floats(20000, 4, 20.0f);
  for (std::size_t i = 0; i < x.size(); i += 2) x[i] *= std::fabs(x[i / 2] / 97);  // small ones
  const std::int64_t n = static_cast<std::int64_t>(x.size());
  for_each_isa([&](const KernelTable& table) {
    const FlushToZero guard;
    std::vector<float> y(x.size()), by_tanh(x.size());
    table.apply({ActivationFunction::gelu, 0, 0}, x.data(), y.data(), n);
    table.apply({ActivationFunction::gelu_tanh, 0, 0}, x.data(), by_tanh.data(), n);
    double worst = 0, worst_by_tanh = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      const double v = x[i], exact = v / 2 * std::erfc(-v / std::sqrt(2.0));
      // 1 + erf cancels below zero.
      worst = std::max(worst, std::fabs(y[i] - exact) / ulp(v / 2));
      const double u = 2 * root * (v + 0.044715 * v * v * v), approximate = v / (1 + std::exp(-u));
      if (u < -87) continue;  // flushed to zero
      // e^-u multiplies the roundings of u by |u|.
      worst_by_tanh = std::max(worst_by_tanh, std::fabs(by_tanh[i] - approximate) /
                                                  (ulp(approximate) * (4 + 3 * std::max(0.0, -u))));
    }
    CHECK(worst <= 4);
    CHECK(worst_by_tanh <= 1);
  });
}

TEST_CASE("NaN stays NaN and infinities give the limits, in every lane") {
  struct Limits {
    ActivationFunction function;
    float at_infinity, at_minus_infinity;
  };
  const Limits limits[] = {{ActivationFunction::exp, kInfinity, 0},
                           {ActivationFunction::tanh, 1, -1},
                           {ActivationFunction::sigmoid, 1, 0},
                           {ActivationFunction::erf, 1, -1},
                           {ActivationFunction::softplus, kInfinity, 0},
                           {ActivationFunction::elu, kInfinity, -1},
                           {ActivationFunction::relu, kInfinity, 0},
                           {ActivationFunction::gelu, kInfinity, kNan},
                           {ActivationFunction::silu, kInfinity, kNan},
                           {ActivationFunction::hard_swish, kInfinity, kNan},
                           {ActivationFunction::gelu_tanh, kInfinity, kNan}};
  for_each_isa([&](const KernelTable& table) {
    const FlushToZero guard;
    for (const Limits& l : limits) {
      CAPTURE(static_cast<int>(l.function));
      for (int lane = 0; lane < 2 * table.lanes; ++lane) {
        std::vector<float> x(2 * table.lanes, 0.5f), y(x.size()), plain(x.size());
        const auto apply = [&](float value) {
          x[lane] = value;
          table.apply({l.function, 1, 0}, x.data(), y.data(), static_cast<std::int64_t>(x.size()));
          return y[lane];
        };
        apply(0.5f);
        plain = y;
        CHECK(std::isnan(apply(kNan)));
        CHECK(same(apply(kInfinity), l.at_infinity));
        CHECK(same(apply(-kInfinity), l.at_minus_infinity));
        y[lane] = plain[lane];
        CHECK(first_difference(y, plain, 2 * table.lanes) == -1);  // its neighbours never notice
      }
    }
  });
}

TEST_CASE("tanh and erf are odd to the last bit, zeros included") {
  for_each_isa([](const KernelTable& table) {
    for (const ActivationFunction function : {ActivationFunction::tanh, ActivationFunction::erf}) {
      std::vector<float> x = random_floats(4096, 5, 8.0f), y(4096), mirrored(4096);
      x[0] = 0.0f;
      table.apply({function, 0, 0}, x.data(), y.data(), 4096);
      for (float& v : x) v = -v;
      table.apply({function, 0, 0}, x.data(), mirrored.data(), 4096);
      for (float& v : mirrored) v = -v;
      CHECK(first_difference(y, mirrored, 4096) == -1);
    }
  });
}

TEST_CASE("apply reads and writes its floats and no others, in place too") {
  for_each_isa([](const KernelTable& table) {
    const FlushToZero guard;
    const Activation tanh{ActivationFunction::tanh, 0, 0};
    const std::vector<float> values = random_floats(70, 7);
    std::vector<float> whole(70);
    table.apply(tanh, values.data(), whole.data(), 70);
    for (const Edge edge : {Edge::end, Edge::begin}) {
      for (std::int64_t n = 0; n <= 70; ++n) {
        CAPTURE(n);
        const std::vector<float> start(values.begin(), values.begin() + n);
        Guarded<float> x(start, edge), y(n, edge);
        table.apply(tanh, x.data(), y.data(), n);
        CHECK(first_difference(y, whole, n) == -1);
        table.apply(tanh, x.data(), x.data(), n);
        CHECK(first_difference(x, whole, n) == -1);
      }
    }
  });
}

}  // namespace
}  // namespace treadle

// Numbers to test with, and what it means that two are the same.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "runtime/isa.h"

namespace treadle {

// Every kind of float32 there is.
inline std::vector<float> special_values() {
  using Limits = std::numeric_limits<float>;
  const float largest_denormal = std::nextafter(Limits::min(), 0.0f);
  std::vector<float> values;
  for (const float x : {0.0f, Limits::denorm_min(), largest_denormal, Limits::min(), 1.0f / 3, 1.0f,
                        std::nextafter(1.0f, 2.0f), 1.5f, 8388609.0f, Limits::max(),
                        Limits::infinity(), Limits::quiet_NaN()}) {
    values.push_back(x);
    values.push_back(-x);
  }
  return values;
}

inline std::vector<float> random_floats(std::int64_t count, unsigned seed, float scale = 1.0f) {
  std::mt19937 generator(seed);
  std::vector<float> values(static_cast<std::size_t>(count));
  // Not a std:: distribution: those differ from one C++ library to the next.
  for (float& x : values) {
    x = scale * (static_cast<float>(generator() >> 8) * 0x1p-23f - 1.0f);  // [-scale, scale)
  }
  return values;
}

// Tells whether two numbers have the same bits or are both NaN.
inline bool same(float a, float b) {
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && std::isnan(b);
  return std::memcmp(&a, &b, sizeof a) == 0;
}

// The first place where two arrays differ, or -1.
template <class A, class B>
std::int64_t first_difference(const A& a, const B& b, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    if (!same(a[i], b[i])) return i;
  }
  return -1;
}

// Calls test(table) for every ISA level that this CPU can run.
template <class Test>
void for_each_isa(Test test) {
  const std::string before = kernels().isa;
  for (const std::string& isa : available_isas()) {
    INFO(isa);  // said of whatever fails in there
    set_isa(isa);
    test(kernels());
  }
  set_isa(before);
}

}  // namespace treadle

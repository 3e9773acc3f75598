// A number as one of another type, whatever it is: no number makes the behaviour undefined.
#pragma once

#include <cmath>
#include <limits>
#include <type_traits>

namespace treadle::graph {

// Integers keep their low bits. A float loses its fraction; beyond the integers it becomes the
// nearest one, and NaN becomes 0 (ONNX leaves both open).
template <class To, class From>
To cast_number(From x) {
  if constexpr (std::is_same_v<To, bool>) {
    return x != From(0);
  } else if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>) {
    constexpr auto kLeast = static_cast<From>(std::numeric_limits<To>::min());
    // 2^bits, which is one more than the largest integer and a float exactly.
    constexpr From kBeyond = static_cast<From>(std::numeric_limits<To>::max() / 2 + 1) * 2;
    if (x >= kLeast && x < kBeyond) return static_cast<To>(x);
    if (x != x) return 0;
    return x < 0 ? x > kLeast - 1 ? static_cast<To>(std::trunc(x)) : std::numeric_limits<To>::min()
                 : std::numeric_limits<To>::max();
  } else {
    return static_cast<To>(x);
  }
}

}  // namespace treadle::graph

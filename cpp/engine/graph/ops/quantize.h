// Floats become small integers here: x = scale (integer - zero).
#pragma once

#include <limits>

#include "engine/graph/call.h"

namespace treadle::graph {

// Returns the integer that is nearest to value + zero, the even one in the middle between two, and
// the least or the largest where T has none; NaN becomes the least.
template <class T>
T quantized(float value, T zero) {
  constexpr auto kLow = static_cast<float>(std::numeric_limits<T>::min());
  constexpr auto kHigh = static_cast<float>(std::numeric_limits<T>::max());
  // Beyond kFar nothing but the least and the largest is left. A float of kRound's size has no
  // fraction: the sum is rounded.
  constexpr float kFar = 1 << 20, kRound = 3 << 22;
  const float above = value > -kFar ? value : -kFar;
  const float rounded = ((above < kFar ? above : kFar) + kRound) - kRound;
  const float moved = rounded + static_cast<float>(zero);
  const float high = moved < kHigh ? moved : kHigh;
  return static_cast<T>(static_cast<std::int32_t>(high > kLow ? high : kLow));
}

// Writes quantized(value, zero), where `zero` holds one int8 or uint8.
void put_quantized(const Tensor& zero, float value, char* to);

struct Quantization {
  float scale;
  std::uint8_t zero;
};

// Returns the scale and the zero point with which uint8 covers 0 and all the numbers.
Quantization quantization_of(Call& call, const float* x, std::int64_t count);

}  // namespace treadle::graph

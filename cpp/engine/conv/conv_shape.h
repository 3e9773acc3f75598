// The sizes of convolutions. A one-dimensional convolution has images of height 1.
#pragma once

#include <cstdint>

namespace treadle {

// Returns a / b rounded up, for b > 0; what it returns for a negative a is not positive.
inline std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// ConvAxis describes a convolution along one axis.
struct ConvAxis {
  std::int64_t taps = 1, stride = 1, dilation = 1;
  std::int64_t before = 0, after = 0;  // zeros that x begins and ends with

  // Returns the number of places of x that the taps reach over.
  std::int64_t span() const { return dilation * (taps - 1) + 1; }
  // Returns the number of outputs for so many inputs, or 0 where the taps reach over more than x.
  std::int64_t outputs(std::int64_t size) const {
    const std::int64_t padded = size + before + after;
    return padded < span() ? 0 : (padded - span()) / stride + 1;
  }
};

struct ConvShape {
  std::int64_t inputs, outputs, groups;  // C, D and g
  ConvAxis vertical, horizontal;

  std::int64_t taps() const { return vertical.taps * horizontal.taps; }
  std::int64_t group_inputs() const { return inputs / groups; }
  std::int64_t group_outputs() const { return outputs / groups; }
};

}  // namespace treadle

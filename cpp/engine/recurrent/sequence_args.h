// SequenceArgs are the arrays of one call of a recurrent net. A whole net, one layer in one
// direction, the forward and the backward pass all use them.
#pragma once

#include <cstdint>

namespace treadle {

// A net's states are [L*D, B, ...], those of a layer in one direction [B, ...]; all are contiguous.
// A null pointer stands for an array that is absent.
struct SequenceArgs {
  std::int64_t T, B;
  const float* x;               // [T, B, I] with the strides x_t and x_b; I is contiguous
  std::int64_t x_t, x_b;        // strides in floats
  const std::int64_t* lengths;  // [B], 0 <= length <= T
  const std::uint8_t* mask;     // [B, T]
  bool continued;               // steps before the first one that the mask keeps repeat h_0, not 0
  const std::uint8_t* resets;   // [T, B]
  const float* reset_h;         // [..., B, state_size]; null: a reset state is zero
  const float* reset_c;         // [..., B, H]
  const float* h_0;             // [..., B, state_size]; null: the first state is zero
  const float* c_0;             // [..., B, H]
  // [B] or null: the sequences lie one behind the other, without padding, in x and in y. That of
  // row b begins at step first_step[b]; x_b and y_b mean nothing, and lengths are given.
  const std::int64_t* first_step;

  const float* x_row(std::int64_t t, std::int64_t b) const { return x + offset(t, b, x_t, x_b); }
  // Returns where step t of row b lies in an array with these strides, in floats.
  std::int64_t offset(std::int64_t t, std::int64_t b, std::int64_t t_stride,
                      std::int64_t b_stride) const {
    return first_step ? (first_step[b] + t) * t_stride : t * t_stride + b * b_stride;
  }
  // Returns the number of steps that x holds of all rows together.
  std::int64_t steps() const {
    if (!first_step) return T * B;
    std::int64_t sum = 0;
    for (std::int64_t b = 0; b < B; ++b) sum += lengths[b];
    return sum;
  }

  // Returns this call with the states of number i of the L*D layers and directions.
  SequenceArgs states_of(std::int64_t i, std::int64_t state_size, std::int64_t hidden_size) const {
    const auto at = [&](const float* states, std::int64_t floats) {
      return states ? states + i * B * floats : nullptr;
    };
    SequenceArgs one = *this;
    one.reset_h = at(reset_h, state_size);
    one.reset_c = at(reset_c, hidden_size);
    one.h_0 = at(h_0, state_size);
    one.c_0 = at(c_0, hidden_size);
    return one;
  }
};

}  // namespace treadle

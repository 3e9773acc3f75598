// This header reads ONNX's attributes of windows, those of convolutions and pools.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/conv/conv_shape.h"
#include "engine/graph/operator.h"

namespace treadle::graph {

// AutoPad says how the zeros around an input are chosen: as the attribute pads has them, none, or
// as many as make an output for each stride of the input, of which an odd one lies behind the input
// (upper) or before it (lower).
enum class AutoPad { none, valid, same_upper, same_lower };

// Returns the attribute auto_pad. Throws std::invalid_argument for a text that is no such choice.
AutoPad auto_pad_of(const NodeDescription& node);
// Returns whether the padding depends on the size of the input.
inline bool is_same(AutoPad pad) {
  return pad == AutoPad::same_upper || pad == AutoPad::same_lower;
}
// Returns an axis with the zeros that is_same(pad) wants around an input of `size` elements.
ConvAxis padded_same(AutoPad pad, ConvAxis axis, std::int64_t size);

// Windows holds the attributes kernel_shape, strides, dilations, pads and auto_pad of a node.
class Windows {
 public:
  // Throws std::invalid_argument for attributes that are out of range.
  explicit Windows(const NodeDescription& node);

  // Returns the window along axis i of an input of `size` elements.
  ConvAxis at(std::size_t i, std::int64_t taps, std::int64_t size) const;
  // Throws std::invalid_argument unless the attributes are for so many axes.
  void check(std::size_t axes) const;
  // Throws std::invalid_argument unless the attributes are for the taps of a weight, whose first
  // two axes are channels.
  void check_weight(const Shape& weight) const;

 protected:
  // Returns the window along axis i, with the padding of the attribute pads if that holds.
  ConvAxis unchosen(std::size_t i, std::int64_t taps) const;
  AutoPad auto_pad() const { return auto_pad_; }

 private:
  std::vector<std::int64_t> kernel_, strides_, dilations_, pads_;
  AutoPad auto_pad_;
};

// TransposedWindows holds the attributes output_padding and output_shape as well.
class TransposedWindows : public Windows {
 public:
  explicit TransposedWindows(const NodeDescription& node);

  // Returns the axis of the convolution that is transposed, for an input of `size` elements, at
  // least one. Its `after` is negative where more outputs are wanted than the taps reach.
  ConvAxis at(std::size_t i, std::int64_t taps, std::int64_t size) const;
  void check(std::size_t axes) const;

 private:
  std::vector<std::int64_t> extra_, outputs_;
};

// Throws std::invalid_argument unless least <= value <= 2^31 - 1.
std::int64_t checked_size(const char* name, std::int64_t value, std::int64_t least);

}  // namespace treadle::graph

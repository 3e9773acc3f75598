// This header reads ONNX's attributes of windows, those of convolutions and pools.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/graph/operator.h"

namespace treadle::graph {

// A Window has the sizes of a window along one axis of an input of known size.
struct Window {
  std::int64_t taps, stride, dilation, before, after;
};

// Windows holds the attributes strides, dilations, pads and auto_pad of a node.
class Windows {
 public:
  // Throws std::invalid_argument for attributes that do not fit each other, or are out of range.
  explicit Windows(const NodeDescription& node);

  // Returns the window along axis i of an input of `size` elements. Padding that makes as many
  // outputs as there are strides in the input follows from that size.
  Window at(std::size_t i, std::int64_t taps, std::int64_t size) const;
  // Throws std::invalid_argument unless the attributes are for so many axes.
  void check(std::size_t axes) const;

 private:
  enum class Auto { none, valid, same_upper, same_lower };
  std::vector<std::int64_t> strides_, dilations_, pads_;
  Auto auto_ = Auto::none;
};

// Throws std::invalid_argument unless least <= value <= 2^31 - 1.
std::int64_t checked_size(const char* name, std::int64_t value, std::int64_t least);

}  // namespace treadle::graph

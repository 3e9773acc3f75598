#include "engine/graph/ops/windows.h"

#include <algorithm>
#include <cstdint>
#include <string>

namespace treadle::graph {
namespace {

std::vector<std::int64_t> checked_list(const NodeDescription& node, const char* name,
                                       std::int64_t least) {
  std::vector<std::int64_t> values = node.integers(name, {});
  for (const std::int64_t value : values) checked_size(name, value, least);
  return values;
}

void check_count(const std::vector<std::int64_t>& values, std::size_t count, const char* name) {
  if (values.empty() || values.size() == count) return;
  refuse(std::string(name) + " has " + std::to_string(values.size()) + " numbers, expected " +
         std::to_string(count));
}

// Shares out zeros between both ends: an odd one lies behind with same_upper, and before otherwise.
void share_out(AutoPad pad, std::int64_t zeros, ConvAxis& axis) {
  axis.before = pad == AutoPad::same_upper ? zeros / 2 : zeros - zeros / 2;
  axis.after = zeros - axis.before;
}

}  // namespace

std::int64_t checked_size(const char* name, std::int64_t value, std::int64_t least) {
  if (value < least || value > INT32_MAX) {
    refuse(std::string(name) + " holds " + std::to_string(value) + ", expected " +
           std::to_string(least) + " to 2**31 - 1");
  }
  return value;
}

AutoPad auto_pad_of(const NodeDescription& node) {
  const std::string pad = node.text("auto_pad", "NOTSET");
  if (pad == "NOTSET" || pad.empty()) return AutoPad::none;
  if (pad == "VALID") return AutoPad::valid;
  if (pad == "SAME_UPPER") return AutoPad::same_upper;
  if (pad == "SAME_LOWER") return AutoPad::same_lower;
  refuse("auto_pad is '" + pad + "'");
}

ConvAxis padded_same(AutoPad pad, ConvAxis axis, std::int64_t size) {
  const std::int64_t reach = (ceil_div(size, axis.stride) - 1) * axis.stride + axis.span();
  share_out(pad, std::max<std::int64_t>(0, reach - size), axis);
  return axis;
}

Windows::Windows(const NodeDescription& node)
    : kernel_(checked_list(node, "kernel_shape", 1)),
      strides_(checked_list(node, "strides", 1)),
      dilations_(checked_list(node, "dilations", 1)),
      pads_(checked_list(node, "pads", 0)),
      auto_pad_(auto_pad_of(node)) {}

void Windows::check(std::size_t axes) const {
  check_count(kernel_, axes, "kernel_shape");
  check_count(strides_, axes, "strides");
  check_count(dilations_, axes, "dilations");
  check_count(pads_, 2 * axes, "pads");
}

void Windows::check_weight(const Shape& weight) const {
  for (std::size_t i = 0; i < kernel_.size(); ++i) {
    const int axis = static_cast<int>(i) + 2;
    if (axis >= weight.rank() || kernel_[i] != weight[axis]) {
      refuse("kernel_shape is not that of the weight " + weight.text());
    }
  }
}

ConvAxis Windows::unchosen(std::size_t i, std::int64_t taps) const {
  ConvAxis axis{taps, strides_.empty() ? 1 : strides_[i], dilations_.empty() ? 1 : dilations_[i]};
  if (auto_pad_ == AutoPad::none && !pads_.empty()) {
    axis.before = pads_[i];
    axis.after = pads_[i + pads_.size() / 2];
  }
  return axis;
}

ConvAxis Windows::at(std::size_t i, std::int64_t taps, std::int64_t size) const {
  const ConvAxis axis = unchosen(i, taps);
  return is_same(auto_pad_) ? padded_same(auto_pad_, axis, size) : axis;
}

TransposedWindows::TransposedWindows(const NodeDescription& node)
    : Windows(node),
      extra_(checked_list(node, "output_padding", 0)),
      outputs_(checked_list(node, "output_shape", 1)) {}

void TransposedWindows::check(std::size_t axes) const {
  Windows::check(axes);
  check_count(extra_, axes, "output_padding");
  check_count(outputs_, axes, "output_shape");
}

ConvAxis TransposedWindows::at(std::size_t i, std::int64_t taps, std::int64_t size) const {
  ConvAxis axis = unchosen(i, taps);
  const std::int64_t extra = extra_.empty() ? 0 : extra_[i];
  if (outputs_.empty() && !is_same(auto_pad())) {
    axis.after -= extra;
    return axis;
  }
  const std::int64_t reach = (size - 1) * axis.stride + axis.span() + extra;
  const std::int64_t wanted = outputs_.empty() ? size * axis.stride : outputs_[i];
  share_out(auto_pad(), std::max<std::int64_t>(0, reach - wanted), axis);
  // Of a size that the node names, all outputs are made, those that no tap reaches included.
  axis.after = outputs_.empty() ? axis.after - extra : reach - extra - axis.before - wanted;
  return axis;
}

}  // namespace treadle::graph

#include "engine/graph/ops/windows.h"

#include <algorithm>
#include <cstdint>
#include <string>

namespace treadle::graph {

std::int64_t checked_size(const char* name, std::int64_t value, std::int64_t least) {
  if (value < least || value > INT32_MAX) {
    refuse(std::string(name) + " holds " + std::to_string(value) + ", expected " +
           std::to_string(least) + " to 2**31 - 1");
  }
  return value;
}

Windows::Windows(const NodeDescription& node)
    : strides_(node.integers("strides", {})),
      dilations_(node.integers("dilations", {})),
      pads_(node.integers("pads", {})) {
  for (const std::int64_t stride : strides_) checked_size("strides", stride, 1);
  for (const std::int64_t dilation : dilations_) checked_size("dilations", dilation, 1);
  for (const std::int64_t pad : pads_) checked_size("pads", pad, 0);
  const std::string pad = node.text("auto_pad", "NOTSET");
  if (pad == "VALID") {
    auto_ = Auto::valid;
  } else if (pad == "SAME_UPPER") {
    auto_ = Auto::same_upper;
  } else if (pad == "SAME_LOWER") {
    auto_ = Auto::same_lower;
  } else if (pad != "NOTSET" && !pad.empty()) {
    refuse("auto_pad is '" + pad + "'");
  }
}

void Windows::check(std::size_t axes) const {
  const auto fits = [](const std::vector<std::int64_t>& values, std::size_t count) {
    return values.empty() || values.size() == count;
  };
  if (!fits(strides_, axes) || !fits(dilations_, axes) || !fits(pads_, 2 * axes)) {
    refuse("strides, dilations or pads are not for " + std::to_string(axes) + " axes");
  }
}

Window Windows::at(std::size_t i, std::int64_t taps, std::int64_t size) const {
  Window w{taps, strides_.empty() ? 1 : strides_[i], dilations_.empty() ? 1 : dilations_[i], 0, 0};
  if (auto_ == Auto::none) {
    if (!pads_.empty()) {
      w.before = pads_[i];
      w.after = pads_[i + pads_.size() / 2];
    }
  } else if (auto_ != Auto::valid) {
    const std::int64_t outputs = (size + w.stride - 1) / w.stride;
    const std::int64_t reach = (outputs - 1) * w.stride + w.dilation * (taps - 1) + 1;
    const std::int64_t all = std::max<std::int64_t>(0, reach - size);
    w.before = auto_ == Auto::same_upper ? all / 2 : all - all / 2;
    w.after = all - w.before;
  }
  return w;
}

}  // namespace treadle::graph

#include "bindings/masks.h"

#include <algorithm>

namespace treadle {

Mask check_mask(const std::string& function, const char* name, const py::object& mask,
                std::initializer_list<Axis> axes) {
  Mask m;
  if (mask.is_none()) return m;
  const auto bytes = [](const auto& v, std::int64_t size) {
    return HeadView<const std::uint8_t>{reinterpret_cast<const std::uint8_t*>(v.data),
                                        v.strides[0] * size, v.strides[1] * size,
                                        v.strides[2] * size};
  };
  m.adds = !py::isinstance<py::array_t<bool>>(mask);
  if (m.adds) {
    m.view = bytes(check_array<float>(function, name, mask, axes, Layout::last_contiguous), 4);
  } else {
    m.view = bytes(check_array<bool>(function, name, mask, axes, Layout::last_contiguous), 1);
  }
  return m;
}

bool clear(float* data, std::int64_t floats, Interrupt& interrupt) {
  constexpr std::int64_t kPiece = 1 << 22;
  for (std::int64_t i = 0; i < floats && !interrupt.stopped(); i += kPiece) {
    std::fill(data + i, data + std::min(floats, i + kPiece), 0.0f);
    interrupt.look();
  }
  return !interrupt.stopped();
}

}  // namespace treadle

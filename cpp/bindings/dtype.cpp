#include "bindings/dtype.h"

#include <cfloat>
#include <cmath>

namespace treadle {
namespace {

// A scale below FLT_MIN would be flushed to zero in some places and not in others. With a scale
// above FLT_MAX / 127 the largest weight is infinite.
void check_scales(const std::string& function, const std::string& name,
                  const View<const float>& scales) {
  for (std::int64_t i = 0; i < scales.shape[0] * scales.shape[1]; ++i) {
    const float scale = scales.data[i];
    if (scale == 0 || (scale >= FLT_MIN && scale <= FLT_MAX / 127) || std::isnan(scale)) continue;
    throw py::value_error(function + ": " + name + " holds " +
                          py::cast<std::string>(py::str(py::float_(scale))) +
                          ", expected 0, positive normal numbers, or NaN");
  }
}

}  // namespace

Dtype parse_dtype(const std::string& function, const std::string& name) {
  if (name == "float32") return Dtype::float32;
  if (name == "bfloat16") return Dtype::bfloat16;
  if (name == "int8") return Dtype::int8;
  throw py::value_error(function + ": dtype is '" + name + "', expected float32, bfloat16 or int8");
}

Weight check_weight(const std::string& function, const char* name, const py::handle& value,
                    Dtype dtype, Axis rows, Axis columns) {
  const auto checked = [&](const auto& view, const float* scales) {
    return Weight{StoredMatrix(dtype, view.data, scales), view.shape[0], view.shape[1]};
  };
  constexpr Layout kDense = Layout::contiguous;
  switch (dtype) {
    case Dtype::float32:
      return checked(check_array<float>(function, name, value, {rows, columns}, kDense), nullptr);
    case Dtype::bfloat16:
      return checked(check_array<std::uint16_t>(function, name, value, {rows, columns}, kDense),
                     nullptr);
    case Dtype::int8:
      break;
  }
  if (!py::isinstance<py::tuple>(value) || py::len(value) != 2) {
    throw py::type_error(function + ": " + name + " is a " +
                         py::cast<std::string>(py::type::handle_of(value).attr("__name__")) +
                         ", expected a tuple of two arrays, int8 and its scales");
  }
  const py::tuple parts = py::reinterpret_borrow<py::tuple>(value);
  const auto integers = check_array<std::int8_t>(function, name, parts[0], {rows, columns}, kDense);
  const std::string scales_name = std::string(name) + ".scale";
  const auto scales = check_array<float>(
      function, scales_name.c_str(), parts[1],
      {{rows.letter, integers.shape[0]}, {"ceil(K/256)", sum_blocks(integers.shape[1])}}, kDense);
  check_scales(function, scales_name, scales);
  return checked(integers, scales.data);
}

}  // namespace treadle

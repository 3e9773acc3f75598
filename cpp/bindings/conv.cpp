// Conv holds the packed weights of a convolution in one or two dimensions.
#include "engine/conv/conv.h"

#include <pybind11/pybind11.h>

#include <memory>
#include <string>

#include "bindings/arrays.h"
#include "bindings/construct.h"
#include "bindings/dtype.h"
#include "bindings/gil.h"
#include "bindings/named_values.h"
#include "engine/conv/depthwise.h"
#include "runtime/isa.h"

namespace treadle {
namespace {

// Sizes are below 2^31, as in every layer, so that products of two fit in 64 bits.
std::int64_t take_size(const std::string& f, NamedValues& values, const char* name,
                       std::int64_t least, std::int64_t most = INT32_MAX) {
  const auto size = values.require<std::int64_t>(name);
  if (size >= least && size <= most) return size;
  throw py::value_error(f + ": " + name + " is " + std::to_string(size) + ", expected " +
                        std::to_string(least) + " to " + std::to_string(most));
}

ConvAxis take_axis(const std::string& f, const char* what, const py::dict& axis) {
  NamedValues values(f, what, axis);
  ConvAxis a{};
  a.taps = take_size(f, values, "taps", 1);
  a.stride = take_size(f, values, "stride", 1);
  a.dilation = take_size(f, values, "dilation", 1);
  // With the size of an array, which is below 2^61, the sum fits in 64 bits.
  a.before = take_size(f, values, "before", 0, std::int64_t{1} << 61);
  a.after = take_size(f, values, "after", 0, std::int64_t{1} << 61);
  values.finish();
  return a;
}

ConvShape take_shape(const std::string& f, const py::dict& shape) {
  NamedValues values(f, "shape", shape);
  ConvShape s{};
  s.inputs = take_size(f, values, "inputs", 1);
  s.outputs = take_size(f, values, "outputs", 0);
  s.groups = take_size(f, values, "groups", 1);
  s.vertical = take_axis(f, "vertical", values.require<py::dict>("vertical"));
  s.horizontal = take_axis(f, "horizontal", values.require<py::dict>("horizontal"));
  values.finish();
  if (s.inputs % s.groups || s.outputs % s.groups) {
    throw py::value_error(
        f + ": inputs and outputs are no multiples of groups = " + std::to_string(s.groups));
  }
  if (checked_product(f, {s.vertical.taps, s.horizontal.taps, s.group_inputs()}) > INT32_MAX) {
    throw py::value_error(f + ": weight has more than 2**31 - 1 columns");
  }
  return s;
}

std::shared_ptr<Conv> make_conv(const std::string& f, const py::dict& shape,
                                const py::object& weight, const py::object& bias,
                                const std::string& dtype_name) {
  const ConvShape s = take_shape(f, shape);
  const std::int64_t taps = s.taps(), K = taps * s.group_inputs();
  const Dtype dtype = parse_dtype(f, dtype_name);
  const bool rows = dtype == Dtype::int8 && Conv::taps_are_rows(s);
  const Weight w =
      rows ? check_weight(f, "weight", weight, dtype,
                          {"D*J", checked_product(f, {s.outputs, taps})}, {"C/g", s.group_inputs()})
           : check_weight(f, "weight", weight, dtype, {"D", s.outputs}, {"J*C/g", K});
  const float* b = optional_array<float>(f, "bias", bias, {{"D", s.outputs}});
  std::shared_ptr<Conv> conv;
  interruptible([&](Interrupt&) { conv = std::make_shared<Conv>(kernels(), s, w.matrix, b); });
  return conv;
}

std::shared_ptr<Depthwise> make_depthwise(const std::string& f, const py::dict& shape,
                                          const py::object& weight, const py::object& bias) {
  const ConvShape s = take_shape(f, shape);
  if (!Depthwise::is(s)) throw py::value_error(f + ": groups is not the number of channels");
  const auto w = check_array<float>(f, "weight", weight, {{"D", s.outputs}, {"J", s.taps()}},
                                    Layout::contiguous);
  const float* b = optional_array<float>(f, "bias", bias, {{"D", s.outputs}});
  std::shared_ptr<Depthwise> conv;
  interruptible([&](Interrupt&) { conv = std::make_shared<Depthwise>(kernels(), s, w.data, b); });
  return conv;
}

}  // namespace

void register_conv(py::module_& m) {
  py::class_<Conv, std::shared_ptr<Conv>>(m, "Conv", py::is_final(), constructed_by_new())
      .def(py::init(&make_conv), py::arg("function"), py::arg("shape"), py::arg("weight"),
           py::arg("bias"), py::arg("dtype") = "float32")
      .def_static(
          "taps_are_rows",
          [](std::int64_t inputs, std::int64_t groups) {
            return groups > 0 && Conv::taps_are_rows({inputs, 0, groups, {}, {}});
          },
          py::arg("inputs"), py::arg("groups"))
      .def_property_readonly("weight_bytes", &Conv::weight_bytes)
      .def_property_readonly("isa", &Conv::isa);
  py::class_<Depthwise, std::shared_ptr<Depthwise>>(m, "Depthwise", py::is_final(),
                                                    constructed_by_new())
      .def(py::init(&make_depthwise), py::arg("function"), py::arg("shape"), py::arg("weight"),
           py::arg("bias"))
      .def_property_readonly("weight_bytes", &Depthwise::weight_bytes)
      .def_property_readonly("isa", &Depthwise::isa);
}

}  // namespace treadle

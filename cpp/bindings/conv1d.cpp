// Conv1d checks its arguments and calls the engine.
#include "engine/product/conv1d.h"

#include <pybind11/pybind11.h>

#include <optional>
#include <utility>

#include "bindings/activation.h"
#include "bindings/arrays.h"
#include "bindings/construct.h"
#include "bindings/dtype.h"
#include "bindings/gil.h"
#include "bindings/named_values.h"
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

Conv1d make_conv1d(const std::string& f, const py::dict& shape, const py::object& weight,
                   const py::object& bias, const std::string& dtype_name) {
  NamedValues values(f, "shape", shape);
  Conv1dShape s{};
  s.inputs = take_size(f, values, "inputs", 1);
  s.outputs = take_size(f, values, "outputs", 0);
  s.taps = take_size(f, values, "taps", 1);
  s.stride = take_size(f, values, "stride", 1);
  s.dilation = take_size(f, values, "dilation", 1);
  s.groups = take_size(f, values, "groups", 1);
  // Padding that keeps the number of steps is half of what the taps reach over, below 2^62. With
  // the steps of an array, which are below 2^61, the sum fits in 64 bits.
  s.before = take_size(f, values, "before", 0, std::int64_t{1} << 61);
  s.after = take_size(f, values, "after", 0, std::int64_t{1} << 61);
  values.finish();
  if (s.inputs % s.groups || s.outputs % s.groups) {
    throw py::value_error(
        f + ": inputs and outputs are no multiples of groups = " + std::to_string(s.groups));
  }
  const std::int64_t K = s.inputs / s.groups * s.taps;
  if (K > INT32_MAX) throw py::value_error(f + ": weight has more than 2**31 - 1 columns");
  const Weight w =
      check_weight(f, "weight", weight, parse_dtype(f, dtype_name), {"D", s.outputs}, {"J*C/g", K});
  const float* b = optional_array<float>(f, "bias", bias, {{"D", s.outputs}});
  std::optional<Conv1d> conv;
  interruptible([&](Interrupt&) { conv.emplace(kernels(), s, w.matrix, b); });
  return std::move(*conv);
}

py::array_t<float> run_conv1d(const Conv1d& conv, const std::string& f, const py::object& x,
                              const py::object& activation) {
  const Conv1dShape& s = conv.shape();
  const View<const float> in = check_array<float>(
      f, "x", x, {{"B", kAny}, {"C", s.inputs}, {"T", kAny}}, Layout::last_contiguous);
  const std::int64_t steps = conv.steps(in.shape[2]);
  if (steps == 0) {
    throw py::value_error(f + ": x has shape [B, C, T] with T = " + std::to_string(in.shape[2]) +
                          ", expected T with the padding (" + std::to_string(s.before) + " + " +
                          std::to_string(s.after) + ") of at least " + std::to_string(conv.span()) +
                          ", the span of the taps");
  }
  checked_product(f, {in.shape[0], std::max(s.inputs, s.outputs), steps});
  std::optional<Activation> act;
  if (!activation.is_none()) act = parse_activation(f, activation);
  py::array_t<float> y = new_array(f, {in.shape[0], s.outputs, steps});
  float* out = y.mutable_data();
  const Conv1dInput input{in.shape[0], in.shape[2], in.data, in.strides[0], in.strides[1]};
  interruptible(
      [&](Interrupt& interrupt) { conv.run(input, act ? &*act : nullptr, out, interrupt); });
  return y;
}

}  // namespace

void register_conv1d(py::module_& m) {
  py::class_<Conv1d>(m, "Conv1d", py::is_final(), constructed_by_new())
      .def(py::init(&make_conv1d), py::arg("function"), py::arg("shape"), py::arg("weight"),
           py::arg("bias"), py::arg("dtype") = "float32")
      .def("run", &run_conv1d, py::arg("function"), py::arg("x"),
           py::arg("activation") = py::none())
      .def_property_readonly("weight_bytes", &Conv1d::weight_bytes)
      .def_property_readonly("isa", &Conv1d::isa);
}

}  // namespace treadle

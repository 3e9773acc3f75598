// Convolutions check their arguments and call the engine.
#include "engine/conv/conv.h"

#include <pybind11/pybind11.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>

#include "bindings/activation.h"
#include "bindings/arrays.h"
#include "bindings/construct.h"
#include "bindings/dtype.h"
#include "bindings/gil.h"
#include "bindings/named_values.h"
#include "engine/conv/channels_first.h"
#include "engine/conv/conv_transpose.h"
#include "engine/conv/depthwise.h"
#include "runtime/isa.h"

namespace treadle {
namespace {

// With the size of an array, which is below 2^61, the sum fits in 64 bits.
constexpr std::int64_t kMostPadding = std::int64_t{1} << 61;
// Outputs of a transposed convolution beyond those that its taps reach are padding below zero.
constexpr std::int64_t kLeastAfter = -std::int64_t{INT32_MAX};

std::int64_t take_size(const std::string& f, NamedValues& values, const char* name,
                       std::int64_t least, std::int64_t most = INT32_MAX) {
  return check_size(f, name, values.require<std::int64_t>(name), least, most);
}

ConvAxis take_axis(const std::string& f, const char* what, const py::dict& axis,
                   std::int64_t least_after) {
  NamedValues values(f, what, axis);
  ConvAxis a{};
  a.taps = take_size(f, values, "taps", 1);
  a.stride = take_size(f, values, "stride", 1);
  a.dilation = take_size(f, values, "dilation", 1);
  a.before = take_size(f, values, "before", 0, kMostPadding);
  a.after = take_size(f, values, "after", least_after, kMostPadding);
  values.finish();
  return a;
}

ConvShape take_shape(const std::string& f, const py::dict& shape, std::int64_t least_after = 0) {
  NamedValues values(f, "shape", shape);
  ConvShape s{};
  s.inputs = take_size(f, values, "inputs", 1);
  s.outputs = take_size(f, values, "outputs", 0);
  s.groups = take_size(f, values, "groups", 1);
  s.vertical = take_axis(f, "vertical", values.require<py::dict>("vertical"), least_after);
  s.horizontal = take_axis(f, "horizontal", values.require<py::dict>("horizontal"), least_after);
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

// Checks a weight [D, J C/g], or [D J, C/g] where the taps are rows.
Weight weight_of_taps(const std::string& f, const py::object& weight, Dtype dtype,
                      const ConvShape& s, bool rows) {
  const std::int64_t taps = s.taps(), K = taps * s.group_inputs();
  if (!rows) return check_weight(f, "weight", weight, dtype, {"D", s.outputs}, {"J*C/g", K});
  return check_weight(f, "weight", weight, dtype, {"D*J", checked_product(f, {s.outputs, taps})},
                      {"C/g", s.group_inputs()});
}

std::shared_ptr<Conv> make_conv(const std::string& f, const py::dict& shape,
                                const py::object& weight, const py::object& bias,
                                const std::string& dtype_name) {
  const ConvShape s = take_shape(f, shape);
  const Dtype dtype = parse_dtype(f, dtype_name);
  const bool rows = dtype == Dtype::int8 && Conv::taps_are_rows(s);
  const Weight w = weight_of_taps(f, weight, dtype, s, rows);
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

std::shared_ptr<ConvTranspose> make_conv_transpose(const std::string& f, const py::dict& shape,
                                                   const py::object& weight, const py::object& bias,
                                                   const std::string& dtype_name) {
  const ConvTransposeShape s{take_shape(f, shape, kLeastAfter)};
  const Dtype dtype = parse_dtype(f, dtype_name);
  const Weight w = weight_of_taps(f, weight, dtype, s, dtype == Dtype::int8);
  const float* b = optional_array<float>(f, "bias", bias, {{"D", s.outputs}});
  std::shared_ptr<ConvTranspose> conv;
  interruptible(
      [&](Interrupt&) { conv = std::make_shared<ConvTranspose>(kernels(), s, w.matrix, b); });
  return conv;
}

// Returns the same weights with other outputs: `after` is that of each axis.
std::shared_ptr<ConvTranspose> with_after(const ConvTranspose& conv, const std::string& f,
                                          std::int64_t vertical, std::int64_t horizontal) {
  for (const std::int64_t after : {vertical, horizontal}) {
    check_size(f, "after", after, kLeastAfter, kMostPadding);
  }
  return std::make_shared<ConvTranspose>(conv.with_after(vertical, horizontal));
}

// Runs over x [B, C, H, W], or with channels_last over x [B, H, W, C] to y [B, H', W', D].
template <class Engine>
py::array_t<float> run_conv(const Engine& conv, const std::string& f, const py::object& x,
                            const py::object& activation, bool channels_last) {
  const ConvShape& s = conv.shape();
  const View<const float> in =
      channels_last
          ? check_array<float>(f, "x", x, {{"B", kAny}, {"H", kAny}, {"W", kAny}, {"C", s.inputs}},
                               Layout::contiguous)
          : check_array<float>(f, "x", x, {{"B", kAny}, {"C", s.inputs}, {"H", kAny}, {"W", kAny}},
                               Layout::last_contiguous);
  const int first = channels_last ? 1 : 2;
  ConvCall call{in.shape[0], in.shape[first], in.shape[first + 1], in.data, nullptr};
  const std::int64_t height = conv.height(call), width = conv.width(call);
  if (height <= 0 || width <= 0) {
    throw py::value_error(f + ": x has shape [B, C, H, W] with H = " + std::to_string(call.height) +
                          " and W = " + std::to_string(call.width) +
                          ", which leaves no output: the taps reach over more");
  }
  checked_product(f, {call.batch, std::max(s.inputs, s.outputs), height, width});
  std::optional<Activation> act;
  if (!activation.is_none()) act = parse_activation(f, activation);
  call.f = act ? &*act : nullptr;
  py::array_t<float> y = channels_last ? new_array(f, {call.batch, height, width, s.outputs})
                                       : new_array(f, {call.batch, s.outputs, height, width});
  call.y = y.mutable_data();
  interruptible([&](Interrupt& interrupt) {
    if (channels_last) {
      if (call.batch > 0 && s.outputs > 0) convolve(conv, call, interrupt);
    } else {
      const Planes planes{call.batch,    call.height,   call.width,   call.x,
                          in.strides[0], in.strides[1], in.strides[2]};
      convolve(conv, planes, call.f, call.y, interrupt);
    }
  });
  return y;
}

template <class Engine>
void define_run(py::class_<Engine, std::shared_ptr<Engine>>& c) {
  c.def("run", &run_conv<Engine>, py::arg("function"), py::arg("x"),
        py::arg("activation") = py::none(), py::arg("channels_last") = false);
  c.def_property_readonly("weight_bytes", &Engine::weight_bytes);
  c.def_property_readonly("isa", &Engine::isa);
}

}  // namespace

[[gnu::cold]] void register_conv(py::module_& m) {
  py::class_<Conv, std::shared_ptr<Conv>> conv(m, "Conv", py::is_final(), constructed_by_new());
  conv.def(py::init(&make_conv), py::arg("function"), py::arg("shape"), py::arg("weight"),
           py::arg("bias"), py::arg("dtype") = "float32");
  conv.def_static(
      "taps_are_rows",
      [](std::int64_t inputs, std::int64_t groups) {
        return groups > 0 && Conv::taps_are_rows({inputs, 0, groups, {}, {}});
      },
      py::arg("inputs"), py::arg("groups"));
  define_run(conv);
  py::class_<Depthwise, std::shared_ptr<Depthwise>> depthwise(m, "Depthwise", py::is_final(),
                                                              constructed_by_new());
  depthwise.def(py::init(&make_depthwise), py::arg("function"), py::arg("shape"), py::arg("weight"),
                py::arg("bias"));
  define_run(depthwise);
  py::class_<ConvTranspose, std::shared_ptr<ConvTranspose>> transposed(
      m, "ConvTranspose", py::is_final(), constructed_by_new());
  transposed.def(py::init(&make_conv_transpose), py::arg("function"), py::arg("shape"),
                 py::arg("weight"), py::arg("bias"), py::arg("dtype") = "float32");
  transposed.def("with_after", &with_after, py::arg("function"), py::arg("vertical"),
                 py::arg("horizontal"));
  define_run(transposed);
}

}  // namespace treadle

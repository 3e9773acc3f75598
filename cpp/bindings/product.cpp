// Linear, layer_norm, softmax, log_softmax, turn and embedding_sum check arguments and call the
// engine.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "bindings/activation.h"
#include "bindings/arrays.h"
#include "bindings/construct.h"
#include "bindings/dtype.h"
#include "bindings/gil.h"
#include "engine/product/linear.h"
#include "engine/product/rows.h"
#include "runtime/isa.h"

namespace treadle {
namespace {

using Object = py::object;

Linear make_linear(const std::string& f, const Object& weight, const Object& bias,
                   const std::string& dtype_name) {
  const Dtype dtype = parse_dtype(f, dtype_name);
  const Weight w = check_weight(f, "weight", weight, dtype, {"N", kAny}, {"K", kAny});
  const float* b = optional_array<float>(f, "bias", bias, {{"N", w.rows}});
  // Sizes are below 2^31, as in every layer, so that products of two fit in 64 bits.
  if (w.rows > INT32_MAX || w.columns > INT32_MAX) {
    throw py::value_error(f + ": weight has more than 2**31 - 1 rows or columns");
  }
  Linear linear;
  interruptible([&](Interrupt&) { linear = Linear(kernels(), w.rows, w.columns, w.matrix, b); });
  return linear;
}

py::array_t<float> run_linear(const Linear& linear, const std::string& f, const Object& x,
                              const Object& activation, const Object& residual) {
  const View<const float> in =
      check_array<float>(f, "x", x, {{"M", kAny}, {"K", linear.inputs()}}, Layout::last_contiguous);
  const std::int64_t M = in.shape[0], N = linear.outputs();
  checked_product(f, {M, std::max(N, linear.inputs())});
  const float* add = optional_array<float>(f, "residual", residual, {{"M", M}, {"N", N}});
  std::optional<Activation> act;
  if (!activation.is_none()) act = parse_activation(f, activation);
  py::array_t<float> y = new_array(f, {M, N});
  float* out = y.mutable_data();
  interruptible([&](Interrupt& interrupt) {
    product(linear, M, in.data, in.strides[0], act ? &*act : nullptr, add, out, interrupt);
  });
  return y;
}

py::array_t<float> layer_norm(const std::string& f, const Object& x, const Object& weight,
                              const Object& bias, float eps, const Object& residual) {
  const View<const float> in =
      check_array<float>(f, "x", x, {{"M", kAny}, {"N", kAny}}, Layout::last_contiguous);
  RowArgs a{};
  a.rows = in.shape[0];
  a.size = in.shape[1];
  a.x = in.data;
  a.x_stride = in.strides[0];
  const Axis N{"N", a.size};
  a.weight = optional_array<float>(f, "weight", weight, {N});
  a.bias = optional_array<float>(f, "bias", bias, {N});
  a.residual = optional_array<float>(f, "residual", residual, {{"M", a.rows}, N});
  a.residual_stride = a.out_stride = a.size;
  a.eps = eps;
  py::array_t<float> y = new_array(f, {a.rows, a.size});
  a.out = y.mutable_data();
  interruptible([&](Interrupt& interrupt) { run_rows(kernels().layer_norm, a, interrupt); });
  return y;
}

py::array_t<float> run_softmax(const std::string& f, const Object& x, RowKernel kernel) {
  const View<const float> in =
      check_array<float>(f, "x", x, {{"M", kAny}, {"N", kAny}}, Layout::last_contiguous);
  RowArgs a{};
  a.rows = in.shape[0];
  a.size = a.out_stride = in.shape[1];
  a.x = in.data;
  a.x_stride = in.strides[0];
  py::array_t<float> y = new_array(f, {a.rows, a.size});
  a.out = y.mutable_data();
  interruptible([&](Interrupt& interrupt) { run_rows(kernel, a, interrupt); });
  return y;
}

void turn_into(const std::string& f, const Object& x, const Object& out) {
  const View<const float> from =
      check_array<float>(f, "x", x, {{"R", kAny}, {"C", kAny}}, Layout::last_contiguous);
  const std::int64_t R = from.shape[0], C = from.shape[1];
  const View<float> to = check_output(f, "out", out, {{"C", C}, {"R", R}});
  const TransposeArgs args{R, C, from.data, from.strides[0], to.data, R};
  interruptible([&](Interrupt& interrupt) { turn(kernels().transpose, args, interrupt); });
}

py::array_t<float> embedding_sum(const std::string& f, const std::vector<Object>& tables,
                                 const std::vector<Object>& ids) {
  if (tables.empty() || tables.size() != ids.size()) {
    throw py::value_error(f + ": " + std::to_string(tables.size()) + " tables and " +
                          std::to_string(ids.size()) + " ids are given, expected as many, some");
  }
  std::vector<EmbeddingTable> checked;
  std::int64_t M = kAny, H = kAny;
  for (std::size_t i = 0; i < tables.size(); ++i) {
    const auto table = check_array<float>(f, "tables", tables[i], {{"V", kAny}, {"H", H}},
                                          Layout::last_contiguous);
    H = table.shape[1];
    const auto rows = check_array<std::int64_t>(f, "ids", ids[i], {{"M", M}}, Layout::contiguous);
    M = rows.shape[0];
    checked.push_back({table.data, table.shape[0], table.strides[0], rows.data});
  }
  py::array_t<float> y = new_array(f, {M, H});
  float* out = y.mutable_data();
  std::optional<WrongId> wrong;
  interruptible(
      [&](Interrupt& interrupt) { wrong = sum_embeddings(checked, M, H, out, interrupt); });
  if (wrong) {
    throw py::value_error(
        f + ": ids[" + std::to_string(wrong->m) + "] is " + std::to_string(wrong->id) +
        ", expected 0 to V - 1 with V = " + std::to_string(checked[wrong->table].count));
  }
  return y;
}

}  // namespace

[[gnu::cold]] void register_product(py::module_& m) {
  py::class_<Linear, std::shared_ptr<Linear>>(m, "Linear", py::is_final(), constructed_by_new())
      .def(py::init(&make_linear), py::arg("function"), py::arg("weight"), py::arg("bias"),
           py::arg("dtype") = "float32")
      .def("run", &run_linear, py::arg("function"), py::arg("x"),
           py::arg("activation") = py::none(), py::arg("residual") = py::none())
      .def_property_readonly("weight_bytes", &Linear::weight_bytes)
      .def_property_readonly("isa", &Linear::isa);
  m.def(
      "linear",
      [](const Object& x, const Object& weight, const Object& bias) {
        const std::string f = "treadle.functional.linear";
        return run_linear(make_linear(f, weight, bias, "float32"), f, x, py::none(), py::none());
      },
      py::arg("x"), py::arg("weight"), py::arg("bias"));
  m.def(
      "check_weight",
      [](const std::string& f, const std::string& name, const Object& value,
         const std::string& dtype) {
        check_weight(f, name.c_str(), value, parse_dtype(f, dtype), {"N", kAny}, {"K", kAny});
      },
      py::arg("function"), py::arg("name"), py::arg("value"), py::arg("dtype"));
  m.def("layer_norm", &layer_norm, py::arg("function"), py::arg("x"), py::arg("weight"),
        py::arg("bias"), py::arg("eps"), py::arg("residual") = py::none());
  m.def(
      "softmax",
      [](const std::string& f, const Object& x) { return run_softmax(f, x, kernels().softmax); },
      py::arg("function"), py::arg("x"));
  m.def(
      "log_softmax",
      [](const std::string& f, const Object& x) {
        return run_softmax(f, x, kernels().log_softmax);
      },
      py::arg("function"), py::arg("x"));
  m.def("turn", &turn_into, py::arg("function"), py::arg("x"), py::arg("out"));
  m.def("embedding_sum", &embedding_sum, py::arg("function"), py::arg("tables"), py::arg("ids"));
}

}  // namespace treadle

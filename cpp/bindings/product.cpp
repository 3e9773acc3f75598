// Linear, and functions of whole rows: argument checks around the engine.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "bindings/activation.h"
#include "bindings/arrays.h"
#include "bindings/gil.h"
#include "engine/linear.h"
#include "runtime/isa.h"

namespace weft {
namespace {

using Object = py::object;

Linear make_linear(const std::string& f, const Object& weight, const Object& bias) {
  const View<const float> w =
      check_array<float>(f, "weight", weight, {{"N", kAny}, {"K", kAny}}, Layout::contiguous);
  const float* b = optional_array<float>(f, "bias", bias, {{"N", w.shape[0]}});
  // Sizes below 2^31, as in every layer: products of two stay within 64 bits.
  if (w.shape[0] > INT32_MAX || w.shape[1] > INT32_MAX) {
    throw py::value_error(f + ": weight has more than 2**31 - 1 rows or columns");
  }
  const WithoutGil native;
  return Linear(kernels(), w.shape[0], w.shape[1], w.data, b);
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

// Rows, one after another, in pieces between which a signal is seen.
void run_rows(void (*kernel)(const RowArgs&), const RowArgs& all) {
  interruptible([&](Interrupt& interrupt) {
    const FlushToZero guard;
    constexpr std::int64_t kRows = 64;
    RowArgs a = all;
    for (std::int64_t row = 0; row < all.rows && !interrupt.stopped(); row += kRows) {
      a.rows = std::min(kRows, all.rows - row);
      a.x = all.x + row * all.x_stride;
      a.out = all.out + row * all.out_stride;
      if (all.residual) a.residual = all.residual + row * all.residual_stride;
      kernel(a);
      interrupt.progress(static_cast<double>(a.rows) * a.size * 16);
    }
  });
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
  if (a.size > 0) run_rows(kernels().layer_norm, a);
  return y;
}

py::array_t<float> softmax(const std::string& f, const Object& x) {
  const View<const float> in =
      check_array<float>(f, "x", x, {{"M", kAny}, {"N", kAny}}, Layout::last_contiguous);
  RowArgs a{};
  a.rows = in.shape[0];
  a.size = a.out_stride = in.shape[1];
  a.x = in.data;
  a.x_stride = in.strides[0];
  py::array_t<float> y = new_array(f, {a.rows, a.size});
  a.out = y.mutable_data();
  if (a.size > 0) run_rows(kernels().softmax, a);
  return y;
}

// out[m] = sum_i tables[i][ids[i][m]]
py::array_t<float> embedding_sum(const std::string& f, const std::vector<Object>& tables,
                                 const std::vector<Object>& ids) {
  if (tables.empty() || tables.size() != ids.size()) {
    throw py::value_error(f + ": " + std::to_string(tables.size()) + " tables and " +
                          std::to_string(ids.size()) + " ids are given, expected as many, some");
  }
  std::vector<View<const float>> from;
  std::vector<std::vector<std::int64_t>> rows;
  std::int64_t M = kAny, H = kAny;
  for (std::size_t i = 0; i < tables.size(); ++i) {
    from.push_back(check_array<float>(f, "tables", tables[i], {{"V", kAny}, {"H", H}},
                                      Layout::last_contiguous));
    H = from[i].shape[1];
    const View<const std::int64_t> list =
        check_array<std::int64_t>(f, "ids", ids[i], {{"M", M}}, Layout::contiguous);
    M = list.shape[0];
    // A copy: another Python thread must not change them once they have been checked.
    rows.emplace_back(list.data, list.data + M);
    for (std::int64_t m = 0; m < M; ++m) {
      if (rows[i][m] < 0 || rows[i][m] >= from[i].shape[0]) {
        throw py::value_error(f + ": ids[" + std::to_string(m) + "] is " +
                              std::to_string(rows[i][m]) +
                              ", expected 0 to V - 1 with V = " + std::to_string(from[i].shape[0]));
      }
    }
  }
  py::array_t<float> y = new_array(f, {M, H});
  float* out = y.mutable_data();
  interruptible([&](Interrupt& interrupt) {
    for (std::int64_t m = 0; m < M && !interrupt.stopped(); ++m, out += H) {
      for (std::size_t i = 0; i < from.size(); ++i) {
        const float* row = from[i].data + rows[i][m] * from[i].strides[0];
        if (i == 0) {
          std::copy(row, row + H, out);
        } else {
          for (std::int64_t h = 0; h < H; ++h) out[h] += row[h];
        }
      }
      interrupt.progress(static_cast<double>(H) * 64);  // a row from memory counts for so much
    }
  });
  return y;
}

}  // namespace

void register_product(py::module_& m) {
  py::class_<Linear>(m, "Linear")
      .def(py::init(&make_linear), py::arg("function"), py::arg("weight"), py::arg("bias"))
      .def("run", &run_linear, py::arg("function"), py::arg("x"),
           py::arg("activation") = py::none(), py::arg("residual") = py::none())
      .def_property_readonly("weight_bytes", &Linear::weight_bytes);
  m.def(
      "linear",
      [](const Object& x, const Object& weight, const Object& bias) {
        const std::string f = "weft.functional.linear";
        return run_linear(make_linear(f, weight, bias), f, x, py::none(), py::none());
      },
      py::arg("x"), py::arg("weight"), py::arg("bias"));
  m.def("layer_norm", &layer_norm, py::arg("function"), py::arg("x"), py::arg("weight"),
        py::arg("bias"), py::arg("eps"), py::arg("residual") = py::none());
  m.def("softmax", &softmax, py::arg("function"), py::arg("x"));
  m.def("embedding_sum", &embedding_sum, py::arg("function"), py::arg("tables"), py::arg("ids"));
}

}  // namespace weft

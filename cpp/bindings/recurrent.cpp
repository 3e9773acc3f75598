// The Python class Recurrent.
#include "bindings/recurrent.h"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "bindings/arrays.h"
#include "bindings/checked_inputs.h"
#include "bindings/construct.h"
#include "bindings/gil.h"

namespace treadle {
namespace {

using Object = py::object;

py::tuple run(const BoundRecurrent& net, const Object& x, const Object& h0, const Object& c0,
              const Object& lengths, const Object& mask, const Object& resets,
              const Object& reset_h, const Object& reset_c, bool batch_first, bool save,
              bool recompute) {
  const std::string& f = net.function;
  CheckedInputs given =
      check_inputs(net, x, h0, c0, lengths, mask, resets, reset_h, reset_c, batch_first);
  RunArgs& args = given.args;
  const std::int64_t O = net.engine->output_size(), D = net.engine->directions();
  const std::int64_t states = net.engine->layers() * D;
  py::array_t<float> y = new_array(f, {given.shape[0], given.shape[1], O});
  py::array_t<float> h_n = new_array(f, {states, args.B, net.shape().state_size()});
  std::optional<py::array_t<float>> c_n, saved;
  if (net.lstm()) c_n = new_array(f, {states, args.B, net.shape().hidden_size});
  if (save) saved = new_array(f, {D, args.T, args.B, net.saved_size(recompute)});
  args.y = y.mutable_data();
  args.y_t = batch_first ? O : args.B * O;
  args.y_b = batch_first ? args.T * O : O;
  args.h_n = h_n.mutable_data();
  args.c_n = c_n ? c_n->mutable_data() : nullptr;
  args.saved = saved && saved->size() ? saved->mutable_data() : nullptr;
  args.recompute = recompute;
  interruptible([&](Interrupt& interrupt) { net.engine->run(args, interrupt); });
  const auto object = [](std::optional<py::array_t<float>>& array) {
    return array ? py::object(std::move(*array)) : py::none();
  };
  py::tuple result = py::make_tuple(std::move(y), std::move(h_n), object(c_n));
  return save ? py::make_tuple(result[0], result[1], result[2], object(saved)) : result;
}

// Whether two lists of contiguous float32 arrays have the same shapes and bytes. Asked in every
// call of a module of treadle.torch: no conversions.
bool same_bits(const py::list& a, const py::list& b) {
  if (a.size() != b.size()) return false;
  const int float32 = py::dtype::of<float>().num();
  const auto checked = [&](const py::handle& value) {
    if (!py::isinstance<py::array>(value)) throw py::type_error("same_bits: expected NumPy arrays");
    const auto array = py::reinterpret_borrow<py::array>(value);
    if (array.dtype().num() != float32 || !(array.flags() & py::array::c_style)) {
      throw py::type_error("same_bits: expected contiguous arrays of float32");
    }
    return array;
  };
  for (std::size_t i = 0; i < a.size(); ++i) {
    const py::array left = checked(a[i]), right = checked(b[i]);
    const py::ssize_t axes = left.ndim();
    if (axes != right.ndim() || !std::equal(left.shape(), left.shape() + axes, right.shape())) {
      return false;
    }
    const auto bytes = static_cast<std::size_t>(left.nbytes());
    if (bytes && std::memcmp(left.data(), right.data(), bytes) != 0) return false;
  }
  return true;
}

}  // namespace

void register_recurrent(py::module_& m) {
  m.def("same_bits", &same_bits, py::arg("a"), py::arg("b"));
  py::class_<BoundRecurrent> recurrent(m, "Recurrent", py::is_final(), constructed_by_new());
  recurrent
      .def(py::init(&make_net), py::arg("function"), py::arg("mode"), py::arg("input_size"),
           py::arg("hidden_size"), py::arg("proj_size"), py::arg("num_layers"),
           py::arg("direction"), py::arg("weights"), py::arg("options"))
      .def("run", &run, py::arg("x"), py::arg("h0"), py::arg("c0"), py::arg("lengths"),
           py::arg("mask"), py::arg("resets"), py::arg("reset_h"), py::arg("reset_c"),
           py::arg("batch_first"), py::arg("save") = false, py::arg("recompute") = false)
      .def_property_readonly("weight_bytes",
                             [](const BoundRecurrent& net) { return net.engine->weight_bytes(); })
      .def_property_readonly("isa",
                             [](const BoundRecurrent& net) { return net.engine->cell(0).isa(); });
  register_backward(recurrent);
  register_stream(m, recurrent);
}

}  // namespace treadle

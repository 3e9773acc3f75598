// The Python class RecurrentStack.
#include "bindings/recurrent.h"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "bindings/activation.h"
#include "bindings/arrays.h"
#include "bindings/checked_inputs.h"
#include "bindings/construct.h"
#include "bindings/gil.h"
#include "bindings/stream_slots.h"

namespace treadle {
namespace {

using Object = py::object;

py::tuple run(const BoundRecurrent& net, const Object& inputs, bool save, bool recompute) {
  const std::string& f = net.function;
  const CheckedInputs checked = check_inputs(net, inputs);
  RunArgs args{};
  args.in = checked.args;
  const std::int64_t T = args.in.T, B = args.in.B;
  const std::int64_t O = net.engine->output_size(), D = net.engine->directions();
  const std::int64_t states = net.engine->layers() * D;
  py::array_t<float> y = new_array(f, {checked.shape[0], checked.shape[1], O});
  py::array_t<float> h_n = new_array(f, {states, B, net.shape().state_size()});
  std::optional<py::array_t<float>> c_n, saved;
  if (net.lstm()) c_n = new_array(f, {states, B, net.shape().hidden_size});
  if (save) saved = new_array(f, {D, T, B, net.saved_size(recompute)});
  args.y = y.mutable_data();
  args.y_t = checked.batch_first ? O : B * O;
  args.y_b = checked.batch_first ? T * O : O;
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

// Tells whether two lists of contiguous float32 arrays have the same shapes and bytes. Every call
// of a module of treadle.torch asks this, so nothing is converted.
bool same_bits(const py::list& a, const py::list& b) {
  if (a.size() != b.size()) return false;
  // Items of a sequence are held while they are read, those of a list are not.
  const auto lefts = py::reinterpret_borrow<py::sequence>(a);
  const auto rights = py::reinterpret_borrow<py::sequence>(b);
  const std::size_t count = a.size();
  const int float32 = py::dtype::of<float>().num();
  const auto checked = [&](const py::handle& value) {
    if (!py::isinstance<py::array>(value)) throw py::type_error("same_bits: expected NumPy arrays");
    const auto array = py::reinterpret_borrow<py::array>(value);
    if (array.dtype().num() != float32 || !(array.flags() & py::array::c_style)) {
      throw py::type_error("same_bits: expected contiguous arrays of float32");
    }
    return array;
  };
  for (std::size_t i = 0; i < count; ++i) {
    const py::array left = checked(lefts[i]), right = checked(rights[i]);
    const py::ssize_t axes = left.ndim();
    if (axes != right.ndim() || !std::equal(left.shape(), left.shape() + axes, right.shape())) {
      return false;
    }
    const auto bytes = static_cast<std::size_t>(left.nbytes());
    if (bytes && std::memcmp(left.data(), right.data(), bytes) != 0) return false;
  }
  return true;
}

// Returns how many floats a step saves for each row, in a net of float32 (Cell::saved_size).
std::int64_t saved_floats(const std::string& mode, std::int64_t hidden_size,
                          const std::string& activation, bool clips, bool reset_after,
                          bool recompute) {
  const std::string function = "treadle._core.saved_size";
  if (hidden_size < 1 || hidden_size > INT32_MAX) {
    throw py::value_error(function + ": hidden_size is " + std::to_string(hidden_size) +
                          ", expected 1 to 2**31 - 1");
  }
  const CellShape shape{parse_mode(function, mode), 1, hidden_size, 0, reset_after};
  const Activation candidate{parse_function(function, activation), 0, 0};
  const CellOptions options{{}, candidate, {}, clips ? 1.0f : 0.0f, false, nullptr};
  return saved_size(shape, options, recompute);
}

}  // namespace

[[gnu::cold]] void register_recurrent(py::module_& m) {
  m.def("gate_counts", [] {
    return std::map<std::string, int>{{"rnn", gate_count(Mode::rnn)},
                                      {"lstm", gate_count(Mode::lstm)},
                                      {"gru", gate_count(Mode::gru)}};
  });
  m.def("saved_size", &saved_floats, py::arg("mode"), py::arg("hidden_size"), py::kw_only(),
        py::arg("activation") = "tanh", py::arg("clips") = false, py::arg("reset_after") = true,
        py::arg("recompute") = false);
  m.def("same_bits", &same_bits, py::arg("a"), py::arg("b"));
  py::class_<BoundRecurrent> recurrent(m, "RecurrentStack", py::is_final(), constructed_by_new());
  recurrent.def(py::init(&make_recurrent), py::arg("function"), py::arg("weights"))
      .def("renewed", &renewed, py::arg("weights"))
      .def("run", &run, py::arg("inputs"), py::kw_only(), py::arg("save") = false,
           py::arg("recompute") = false)
      .def_property_readonly("weight_bytes",
                             [](const BoundRecurrent& net) { return net.engine->weight_bytes(); })
      .def_property_readonly(
          "saves_activated",
          [](const BoundRecurrent& net) { return net.engine->cell(0).saves_activated(); })
      .def_property_readonly("isa",
                             [](const BoundRecurrent& net) { return net.engine->cell(0).isa(); })
      .def_property_readonly("isas", [](const BoundRecurrent& net) {
        std::vector<std::string> isas;
        const int D = net.engine->directions();
        for (std::int64_t i = 0; i < net.engine->layers(); ++i) {
          isas.push_back(net.engine->cell(i * D).isa());
        }
        return isas;
      });
  register_backward(recurrent);
  register_tensor_run(recurrent);
  register_tensor_backward(recurrent);
  register_stream(m, recurrent);
  register_stream_slots(m);
  register_stream_pool(m, recurrent);
}

}  // namespace treadle

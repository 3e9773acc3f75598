#include "bindings/checked_inputs.h"

#include <pybind11/gil_safe_call_once.h>

#include <algorithm>

namespace treadle {
namespace {

void check_lengths(const std::string& function, const std::int64_t* lengths, std::int64_t B,
                   std::int64_t T) {
  for (std::int64_t b = 0; b < B; ++b) {
    if (lengths[b] < 0 || lengths[b] > T) {
      throw py::value_error(function + ": lengths[" + std::to_string(b) + "] is " +
                            std::to_string(lengths[b]) +
                            ", expected 0 to T = " + std::to_string(T));
    }
  }
}

// The attributes of a SequenceInputs. Their names are made once: a step of a small net takes
// microseconds.
struct Names {
  PyObject* const x = PyUnicode_InternFromString("x");
  PyObject* const h_0 = PyUnicode_InternFromString("h_0");
  PyObject* const c_0 = PyUnicode_InternFromString("c_0");
  PyObject* const lengths = PyUnicode_InternFromString("lengths");
  PyObject* const mask = PyUnicode_InternFromString("mask");
  PyObject* const resets = PyUnicode_InternFromString("resets");
  PyObject* const reset_h = PyUnicode_InternFromString("reset_h");
  PyObject* const reset_c = PyUnicode_InternFromString("reset_c");
  PyObject* const batch_first = PyUnicode_InternFromString("batch_first");
};

// Returns an attribute of `inputs`; throws TypeError if it has none of this name.
py::object attribute(const std::string& function, const py::object& inputs, PyObject* name) {
  PyObject* value = PyObject_GetAttr(inputs.ptr(), name);
  if (!value) {
    PyErr_Clear();
    throw py::type_error(function + ": inputs is of type " + Py_TYPE(inputs.ptr())->tp_name +
                         ", expected a SequenceInputs");
  }
  return py::reinterpret_steal<py::object>(value);
}

// Copies flags [T, B] or [B, T] and lets `flags` point to the copy.
void copy_flags(std::vector<std::uint8_t>& copy, const std::uint8_t*& flags, std::int64_t count) {
  if (!flags) return;
  copy.assign(flags, flags + count);
  copy.resize(copy.size() + 1);  // data() of an empty copy would be null, which means absent
  flags = copy.data();
}

}  // namespace

CheckedInputs check_inputs(const BoundRecurrent& net, const py::object& inputs) {
  PYBIND11_CONSTINIT static py::gil_safe_call_once_and_store<Names> storage;
  const Names& names = storage.call_once_and_store_result([] { return Names(); }).get_stored();
  const std::string& f = net.function;
  const CellShape& shape = net.shape();
  const py::object flag = attribute(f, inputs, names.batch_first);
  if (!PyBool_Check(flag.ptr())) throw py::type_error(f + ": batch_first is no bool");
  CheckedInputs checked;
  std::size_t count = 0;
  const auto get = [&](PyObject* name) -> const py::object& {
    return checked.owners[count++] = attribute(f, inputs, name);
  };
  checked.batch_first = flag.is(py::bool_(true));
  const int t = checked.batch_first ? 1 : 0, b = 1 - t;
  const View<const float> x = check_array<float>(
      f, "x", get(names.x), {{t ? "B" : "T", kAny}, {t ? "T" : "B", kAny}, {"I", shape.input_size}},
      Layout::last_contiguous);
  checked.shape[0] = x.shape[0];
  checked.shape[1] = x.shape[1];
  SequenceArgs& args = checked.args;
  args.T = x.shape[t];
  args.B = x.shape[b];
  args.x = x.data;
  args.x_t = x.strides[t];
  args.x_b = x.strides[b];
  const std::int64_t states = net.engine->layers() * net.engine->directions();
  const std::int64_t S = shape.state_size(), H = shape.hidden_size, O = net.engine->output_size();
  const Axis LD{"D*L", states}, B{"B", args.B}, T{"T", args.T};
  const Axis h_size{shape.proj_size ? "P" : "H", S}, c_size{"H", H};
  const auto flags = [&](const char* name, PyObject* attribute, Axis rows, Axis columns) {
    return reinterpret_cast<const std::uint8_t*>(
        optional_array<bool>(f, name, get(attribute), {rows, columns}));
  };
  args.h_0 = optional_array<float>(f, "h_0", get(names.h_0), {LD, B, h_size});
  args.c_0 = optional_array<float>(f, "c_0", get(names.c_0), {LD, B, c_size});
  args.lengths = optional_array<std::int64_t>(f, "lengths", get(names.lengths), {B});
  args.mask = flags("mask", names.mask, B, T);
  args.resets = flags("resets", names.resets, T, B);
  args.reset_h = optional_array<float>(f, "reset_state", get(names.reset_h), {LD, B, h_size});
  args.reset_c = optional_array<float>(f, "reset_state", get(names.reset_c), {LD, B, c_size});
  if (!net.lstm() && (args.c_0 || args.reset_c)) {
    throw py::value_error(f + ": c_0 is given, expected None for a layer without a cell state");
  }
  if (args.lengths && args.mask) {
    throw py::value_error(f + ": lengths and mask are both given, expected one of them");
  }
  if (args.lengths) {
    checked.lengths.assign(args.lengths, args.lengths + args.B);
    checked.lengths.resize(checked.lengths.size() + 1);  // as in copy_flags
    args.lengths = checked.lengths.data();
    check_lengths(f, args.lengths, args.B, args.T);
  }
  checked_product(f, {args.T, args.B, std::max(O, net.engine->cell(0).input_sums())});
  copy_flags(checked.mask, args.mask, args.T * args.B);
  copy_flags(checked.resets, args.resets, args.T * args.B);
  return checked;
}

}  // namespace treadle

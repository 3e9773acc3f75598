// PlainInputs takes the inputs of most calls of a model as they are: NumPy arrays of the right
// dtype and shape, contiguous and aligned. The Python layer converts all others.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "bindings/construct.h"
#include "bindings/program.h"

namespace treadle {
namespace {

using KnownSizes = std::vector<std::optional<std::int64_t>>;

class PlainInputs {
 public:
  // An input has a name, NumPy's name of its dtype, and a shape, or None where nothing is known.
  using Description = std::tuple<py::str, std::string, std::optional<KnownSizes>>;

  explicit PlainInputs(const std::vector<Description>& inputs) {
    for (const auto& [name, dtype, shape] : inputs) {
      inputs_.push_back({name, py::dtype(dtype).num(), shape});
    }
  }

  // Runs the program on arguments by position and by name, or returns None if they are not plain.
  py::object run(const graph::Program& program, const std::string& f, const py::tuple& args,
                 const py::dict& named) const {
    if (args.size() + named.size() != inputs_.size()) return py::none();
    py::list arrays(inputs_.size());
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      py::object value = i < args.size() ? py::object(args[i]) : found(named, inputs_[i].name);
      if (!value || !is_plain(inputs_[i], value.ptr())) return py::none();
      arrays[i] = std::move(value);
    }
    return run_program(program, f, arrays);
  }

 private:
  // Returns the value of a name, which another thread may drop from the dict; null if it has none.
  static py::object found(const py::dict& named, const py::str& name) {
#if PY_VERSION_HEX >= 0x030D0000
    PyObject* value = nullptr;
    PyDict_GetItemRef(named.ptr(), name.ptr(), &value);
    auto owned = py::reinterpret_steal<py::object>(value);
#else
    PyObject* const value = PyDict_GetItemWithError(named.ptr(), name.ptr());
    auto owned = py::reinterpret_borrow<py::object>(value);
#endif
    if (!owned && PyErr_Occurred()) throw py::error_already_set();
    return owned;
  }

  struct Input {
    py::str name;
    int number;  // of the dtype
    std::optional<KnownSizes> shape;
  };

  static bool is_plain(const Input& input, PyObject* value) {
    const auto& api = py::detail::npy_api::get();
    if (Py_TYPE(value) != reinterpret_cast<PyTypeObject*>(api.PyArray_Type_)) return false;
    const auto array = py::reinterpret_borrow<py::array>(value);
    constexpr int kReady = py::array::c_style | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
    if ((array.flags() & kReady) != kReady) return false;
    const py::dtype dtype = array.dtype();
    if (dtype.num() != input.number || dtype.byteorder() == '>') return false;
    if (!input.shape) return true;
    const KnownSizes& sizes = *input.shape;
    if (array.ndim() != static_cast<py::ssize_t>(sizes.size())) return false;
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      if (sizes[i] && *sizes[i] != array.shape(static_cast<py::ssize_t>(i))) return false;
    }
    return true;
  }

  std::vector<Input> inputs_;
};

}  // namespace

[[gnu::cold]] void register_plain_inputs(py::module_& m) {
  py::class_<PlainInputs>(m, "PlainInputs", py::is_final(), constructed_by_new())
      .def(py::init<const std::vector<PlainInputs::Description>&>(), py::arg("inputs"))
      .def("run", &PlainInputs::run, py::arg("program"), py::arg("function"), py::arg("args"),
           py::arg("named"));
}

}  // namespace treadle

// The function tensor_array takes the memory of a PyTorch tensor. torch.Tensor.numpy() would make
// the storage of the tensor unresizable for good; nothing of the tensor changes here.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace treadle {
namespace {

namespace py = pybind11;

// The names and objects that every call compares or asks for. They are looked up once and never
// given back, since PyTorch outlives every call.
struct Torch {
  PyTypeObject* tensor;
  py::handle strided;
  std::vector<std::pair<py::handle, py::dtype>> dtypes;
  PyObject *is_cpu, *layout, *dtype, *shape;                                // attributes
  PyObject *stride, *untyped_storage, *storage_offset, *data_ptr, *nbytes;  // methods
};

const Torch& torch() {
  static const Torch* const found = []() -> const Torch* {
    const py::dict modules = py::module_::import("sys").attr("modules");
    if (!modules.contains("torch")) throw py::type_error("tensor_array: PyTorch is not imported");
    const py::object module = modules["torch"];
    auto* own = new Torch{};
    own->tensor =
        reinterpret_cast<PyTypeObject*>(py::object(module.attr("Tensor")).release().ptr());
    own->strided = py::object(module.attr("strided")).release();
    for (const char* name :
         {"float32", "bool", "int64", "int32", "int16", "int8", "uint8", "float64", "float16"}) {
      own->dtypes.emplace_back(py::object(module.attr(name)).release(), py::dtype(name));
    }
    own->is_cpu = PyUnicode_InternFromString("is_cpu");
    own->layout = PyUnicode_InternFromString("layout");
    own->dtype = PyUnicode_InternFromString("dtype");
    own->shape = PyUnicode_InternFromString("shape");
    own->stride = PyUnicode_InternFromString("stride");
    own->untyped_storage = PyUnicode_InternFromString("untyped_storage");
    own->storage_offset = PyUnicode_InternFromString("storage_offset");
    own->data_ptr = PyUnicode_InternFromString("data_ptr");
    own->nbytes = PyUnicode_InternFromString("nbytes");
    return own;
  }();
  return *found;
}

[[noreturn]] void wrong(const std::string& what) {
  throw py::type_error("tensor_array: the tensor " + what);
}

py::object checked(PyObject* result) {
  if (!result) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(result);
}
py::object attribute(py::handle owner, PyObject* name) {
  return checked(PyObject_GetAttr(owner.ptr(), name));
}
py::object call(py::handle owner, PyObject* method) {
  return checked(PyObject_CallMethodNoArgs(owner.ptr(), method));
}
py::ssize_t number(py::handle value) {
  const py::ssize_t found = PyLong_AsSsize_t(value.ptr());
  if (found == -1 && PyErr_Occurred()) throw py::error_already_set();
  return found;
}

const py::dtype& dtype_of(const Torch& known, py::handle tensor) {
  const py::object found = attribute(tensor, known.dtype);
  for (const auto& [theirs, ours] : known.dtypes) {
    if (found.is(theirs)) return ours;
  }
  wrong("has " + py::cast<std::string>(py::str(found)) + ", which NumPy does not have");
}

// Returns an array that shares the memory of a tensor, and keeps its storage (not the tensor)
// alive. The memory is that of the storage now: whoever keeps the array compares data_ptr before
// it is used again.
py::array tensor_array(const py::object& tensor) {
  const Torch& known = torch();
  if (!PyObject_TypeCheck(tensor.ptr(), known.tensor)) {
    throw py::type_error("tensor_array: expected a torch.Tensor");
  }
  if (attribute(tensor, known.is_cpu).ptr() != Py_True) wrong("is not on the CPU");
  if (!attribute(tensor, known.layout).is(known.strided)) wrong("is not strided");
  const py::dtype& dtype = dtype_of(known, tensor);
  const py::tuple sizes = attribute(tensor, known.shape), steps = call(tensor, known.stride);
  const py::ssize_t itemsize = dtype.itemsize();
  std::vector<py::ssize_t> shape(sizes.size()), strides(steps.size());
  if (shape.size() != strides.size()) wrong("has fewer strides than axes, or more");
  py::ssize_t last = 0;  // the distance of the last element from the first one, in bytes
  bool empty = false;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    const py::ssize_t size = number(sizes[i]), step = number(steps[i]);
    py::ssize_t reach = 0;
    if (size < 0 || step < 0 || __builtin_mul_overflow(step, itemsize, &strides[i]) ||
        (size > 1 && __builtin_mul_overflow(strides[i], size - 1, &reach)) ||
        __builtin_add_overflow(last, reach, &last)) {
      wrong("has a shape or strides that no memory has");
    }
    shape[i] = size;
    empty = empty || size == 0;
  }
  if (empty) return py::array(dtype, shape);
  const py::object storage = call(tensor, known.untyped_storage);
  const py::ssize_t bytes = number(call(storage, known.nbytes));
  const py::ssize_t offset = number(call(tensor, known.storage_offset));
  if (offset < 0 || last > bytes || offset > bytes || offset * itemsize + last + itemsize > bytes) {
    wrong("has a storage of " + std::to_string(bytes) + " bytes, which are fewer than it needs");
  }
  void* address = PyLong_AsVoidPtr(call(tensor, known.data_ptr).ptr());
  if (PyErr_Occurred()) throw py::error_already_set();
  if (!address) wrong("has no memory");
  return py::array(dtype, shape, strides, address, storage);
}

}  // namespace

void register_tensor(py::module_& m) { m.def("tensor_array", &tensor_array, py::arg("tensor")); }

}  // namespace treadle

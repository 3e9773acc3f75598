// The function tensor_array takes the memory of a PyTorch tensor. torch.Tensor.numpy() would make
// the storage of the tensor unresizable for good; nothing of the tensor changes here.
#include "bindings/tensor.h"

#include <pybind11/gil_safe_call_once.h>

#include <algorithm>
#include <cstdint>
#include <string>

namespace treadle {
namespace {

[[noreturn]] void wrong(const std::string& what) {
  throw py::type_error("tensor_array: the tensor " + what);
}

const py::dtype& dtype_of(const Torch& known, py::handle tensor) {
  const py::object found = attribute(tensor, known.dtype);
  for (const auto& [theirs, ours] : known.dtypes) {
    if (found.is(theirs)) return ours;
  }
  wrong("has " + py::cast<std::string>(py::str(found)) + ", which NumPy does not have");
}

// Returns the bytes from the first element to the last one, or -1 if there is none.
py::ssize_t reach_of(const TensorMemory& memory, py::ssize_t itemsize) {
  py::ssize_t last = 0;
  bool empty = false;
  for (int i = 0; i < memory.axes; ++i) {
    const py::ssize_t size = memory.shape[i], step = memory.strides[i];
    py::ssize_t bytes = 0, reach = 0;
    if (size < 0 || step < 0 || __builtin_mul_overflow(step, itemsize, &bytes) ||
        (size > 1 && __builtin_mul_overflow(bytes, size - 1, &reach)) ||
        __builtin_add_overflow(last, reach, &last)) {
      wrong("has a shape or strides that no memory has");
    }
    empty = empty || size == 0;
  }
  return empty ? -1 : last;
}

// Takes hold of the storage, which must reach as far as the last element.
void hold_storage(const Torch& known, py::handle tensor, py::ssize_t itemsize, py::ssize_t last,
                  TensorMemory& memory) {
  memory.storage = call(tensor, known.untyped_storage);
  const py::ssize_t bytes = number(call(memory.storage, known.nbytes));
  const py::ssize_t offset = number(call(tensor, known.storage_offset));
  if (offset < 0 || last > bytes || offset > bytes || offset * itemsize + last + itemsize > bytes) {
    wrong("has a storage of " + std::to_string(bytes) + " bytes, which are fewer than it needs");
  }
}

// Returns the function that describes a tensor, or null where PyTorch has none of that layout.
int (*describe_function(const py::object& type))(void*, dlpack::Tensor*) {
  const py::object table = py::getattr(type, "__dlpack_c_exchange_api__", py::none());
  if (!PyCapsule_IsValid(table.ptr(), "dlpack_exchange_api")) return nullptr;
  const auto* functions = static_cast<const dlpack::Functions*>(
      PyCapsule_GetPointer(table.ptr(), "dlpack_exchange_api"));
  return functions->major == dlpack::kVersion ? functions->describe : nullptr;
}

// Returns an array that shares the memory of a tensor, and keeps its storage (not the tensor)
// alive.
py::array tensor_array(const py::object& tensor) {
  const Torch& known = torch();
  if (!PyObject_TypeCheck(tensor.ptr(), known.tensor)) {
    throw py::type_error("tensor_array: expected a torch.Tensor");
  }
  const py::dtype& dtype = dtype_of(known, tensor);
  const py::ssize_t itemsize = dtype.itemsize();
  const TensorMemory memory = tensor_memory(known, tensor, itemsize);
  const std::vector<py::ssize_t> shape(memory.shape.begin(), memory.shape.begin() + memory.axes);
  if (!memory.address) return py::array(dtype, shape);
  std::vector<py::ssize_t> strides(memory.strides.begin(), memory.strides.begin() + memory.axes);
  for (py::ssize_t& stride : strides) stride *= itemsize;
  return py::array(dtype, shape, strides, memory.address, memory.storage);
}

const Torch* find_torch() {
  const py::dict modules = py::module_::import("sys").attr("modules");
  if (!modules.contains("torch")) throw py::type_error("tensor_array: PyTorch is not imported");
  const py::object module = modules["torch"];
  const auto own_of = [](const py::handle& owner, const char* name) {
    return py::object(owner.attr(name)).release();
  };
  auto* own = new Torch{};
  own->tensor = reinterpret_cast<PyTypeObject*>(own_of(module, "Tensor").ptr());
  own->parameter = reinterpret_cast<PyTypeObject*>(own_of(module.attr("nn"), "Parameter").ptr());
  own->strided = own_of(module, "strided");
  own->float32 = own_of(module, "float32");
  own->empty = own_of(module, "empty");
  own->empty_like = own_of(module, "empty_like");
  for (const char* name :
       {"float32", "bool", "int64", "int32", "int16", "int8", "uint8", "float64", "float16"}) {
    own->dtypes.emplace_back(own_of(module, name), py::dtype(name));
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
  own->is_neg = PyUnicode_InternFromString("is_neg");
  own->is_contiguous = PyUnicode_InternFromString("is_contiguous");
  own->contiguous = PyUnicode_InternFromString("contiguous");
  own->dtype_and_device = py::make_tuple("dtype", "device").release();
  own->cpu = py::object(module.attr("device")("cpu")).release();
  own->describe = describe_function(module.attr("Tensor"));
  return own;
}

}  // namespace

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

const Torch& torch() {
  // A static of C++ would let threads wait for its maker, who may wait for the GIL that one of them
  // holds.
  PYBIND11_CONSTINIT static py::gil_safe_call_once_and_store<const Torch*> found;
  return *found.call_once_and_store_result(find_torch).get_stored();
}

bool TensorMemory::contiguous() const {
  py::ssize_t floats = 1;
  for (int i = axes - 1; i >= 0; --i) {
    if (shape[i] != 1 && strides[i] != floats) return false;
    floats *= shape[i];
  }
  return true;
}

TensorMemory tensor_memory(const Torch& known, py::handle tensor, py::ssize_t itemsize) {
  if (attribute(tensor, known.is_cpu).ptr() != Py_True) wrong("is not on the CPU");
  if (!attribute(tensor, known.layout).is(known.strided)) wrong("is not strided");
  const py::tuple sizes = attribute(tensor, known.shape), steps = call(tensor, known.stride);
  TensorMemory memory;
  memory.axes = static_cast<int>(sizes.size());
  if (sizes.size() != steps.size()) wrong("has fewer strides than axes, or more");
  if (memory.axes > TensorMemory::kMostAxes) wrong("has more axes than any other");
  for (int i = 0; i < memory.axes; ++i) {
    memory.shape[i] = number(sizes[i]);
    memory.strides[i] = number(steps[i]);
  }
  const py::ssize_t last = reach_of(memory, itemsize);
  if (last < 0) return memory;
  hold_storage(known, tensor, itemsize, last, memory);
  memory.address = PyLong_AsVoidPtr(call(tensor, known.data_ptr).ptr());
  if (PyErr_Occurred()) throw py::error_already_set();
  if (!memory.address) wrong("has no memory");
  return memory;
}

bool describe_floats(const Torch& known, py::handle tensor, TensorMemory& memory) {
  dlpack::Tensor seen{};
  if (known.describe(tensor.ptr(), &seen) != 0) throw py::error_already_set();
  if (seen.device != dlpack::kCpu || seen.code != dlpack::kFloat || seen.bits != 32 ||
      seen.lanes != 1 || seen.axes > TensorMemory::kMostAxes) {
    return false;
  }
  memory.axes = seen.axes;
  std::copy_n(seen.shape, seen.axes, memory.shape.begin());
  std::copy_n(seen.strides, seen.axes, memory.strides.begin());
  memory.address = static_cast<char*>(seen.data) + seen.byte_offset;
  return true;
}

bool float_memory(const Torch& known, py::handle tensor, TensorMemory& memory) {
  if (!describe_floats(known, tensor, memory) || !memory.address) return false;
  const py::ssize_t last = reach_of(memory, sizeof(float));
  if (last < 0) return false;
  hold_storage(known, tensor, sizeof(float), last, memory);
  return true;
}

[[gnu::cold]] void register_tensor(py::module_& m) {
  m.def("tensor_array", &tensor_array, py::arg("tensor"));
}

}  // namespace treadle

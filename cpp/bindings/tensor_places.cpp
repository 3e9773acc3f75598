// The class Places: where the memory of some tensors lay, and whether it lies there still.
#include <algorithm>
#include <vector>

#include "bindings/construct.h"
#include "bindings/tensor.h"

namespace treadle {
namespace {

// No tensor is referred to, not even weakly: torch.utils.swap_tensors would refuse it.
struct Place {
  py::object type, storage;
  void* address;
  py::ssize_t bytes;  // of the storage
  std::vector<py::ssize_t> shape;
};

void* address_of(const Torch& known, py::handle owner) {
  void* const address = PyLong_AsVoidPtr(call(owner, known.data_ptr).ptr());
  if (PyErr_Occurred()) throw py::error_already_set();
  return address;
}

std::vector<py::ssize_t> shape_of(const Torch& known, py::handle tensor) {
  std::vector<py::ssize_t> shape;
  for (const py::handle size : py::tuple(attribute(tensor, known.shape))) {
    shape.push_back(number(size));
  }
  return shape;
}

// Tells whether a tensor is contiguous, float32, and of that shape at that address.
bool lies_there(const Torch& known, py::handle tensor, const Place& place) {
  if (!known.describe) {
    return address_of(known, tensor) == place.address && shape_of(known, tensor) == place.shape &&
           attribute(tensor, known.dtype).is(known.float32) &&
           call(tensor, known.is_contiguous).ptr() == Py_True;
  }
  TensorMemory seen;
  return describe_floats(known, tensor, seen) && seen.address == place.address &&
         seen.axes == static_cast<int>(place.shape.size()) &&
         std::equal(place.shape.begin(), place.shape.end(), seen.shape.begin()) &&
         seen.contiguous();
}

class Places {
 public:
  explicit Places(const py::tuple& tensors) {
    const Torch& known = torch();
    for (const py::handle tensor : tensors) {
      if (!PyObject_TypeCheck(tensor.ptr(), known.tensor)) {
        throw py::type_error("treadle._core.Places: expected tensors");
      }
      Place place{py::type::of(tensor), call(tensor, known.untyped_storage),
                  address_of(known, tensor), 0, shape_of(known, tensor)};
      place.bytes = number(call(place.storage, known.nbytes));
      places_.push_back(std::move(place));
    }
  }

  // Tells whether these are contiguous float32 tensors in the same memory, of the same shapes.
  bool hold(const py::tuple& tensors) const {
    const Torch& known = torch();
    if (tensors.size() != places_.size()) return false;
    for (std::size_t i = 0; i < places_.size(); ++i) {
      const Place& place = places_[i];
      const py::handle tensor = PyTuple_GET_ITEM(tensors.ptr(), static_cast<py::ssize_t>(i));
      if (reinterpret_cast<PyObject*>(Py_TYPE(tensor.ptr())) != place.type.ptr() ||
          !call(tensor, known.untyped_storage).is(place.storage) ||
          number(call(place.storage, known.nbytes)) != place.bytes ||
          call(tensor, known.is_neg).ptr() != Py_False || !lies_there(known, tensor, place)) {
        return false;
      }
    }
    return true;
  }

 private:
  std::vector<Place> places_;
};

}  // namespace

[[gnu::cold]] void register_tensor_places(py::module_& m) {
  py::class_<Places>(m, "Places", py::is_final(), constructed_by_new())
      .def(py::init<const py::tuple&>(), py::arg("tensors"))
      .def("hold", &Places::hold, py::arg("tensors"));
}

}  // namespace treadle

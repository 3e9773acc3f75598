// The class Places: where the memory of some tensors lay, and whether it lies there still.
#include <cstdint>
#include <vector>

#include "bindings/construct.h"
#include "bindings/tensor.h"

namespace treadle {
namespace {

// No tensor is referred to, not even weakly: torch.utils.swap_tensors would refuse it.
struct Place {
  py::object type, storage, shape;
  void* address;
  py::ssize_t bytes;                // of the storage
  std::vector<std::int64_t> sizes;  // the shape
};

void* address_of(const Torch& known, py::handle owner) {
  void* const address = PyLong_AsVoidPtr(call(owner, known.data_ptr).ptr());
  if (PyErr_Occurred()) throw py::error_already_set();
  return address;
}

// Tells by DLPack what `Places::hold` asks of the tensor itself.
bool described(const Torch& known, py::handle tensor, const Place& place) {
  dlpack::Tensor seen{};
  if (known.describe(tensor.ptr(), &seen) != 0) throw py::error_already_set();
  if (static_cast<char*>(seen.data) + seen.byte_offset != place.address ||
      seen.code != dlpack::kFloat || seen.bits != 32 || seen.lanes != 1 ||
      seen.device != dlpack::kCpu || seen.axes != static_cast<std::int32_t>(place.sizes.size())) {
    return false;
  }
  std::int64_t floats = 1;
  for (int i = seen.axes - 1; i >= 0; --i) {
    if (seen.shape[i] != place.sizes[i]) return false;
    if (seen.shape[i] != 1 && seen.strides[i] != floats) return false;
    floats *= seen.shape[i];
  }
  return true;
}

bool equal(py::handle a, py::handle b) {
  const int found = PyObject_RichCompareBool(a.ptr(), b.ptr(), Py_EQ);
  if (found < 0) throw py::error_already_set();
  return found == 1;
}

class Places {
 public:
  explicit Places(const py::tuple& tensors) {
    const Torch& known = torch();
    for (const py::handle tensor : tensors) {
      if (!PyObject_TypeCheck(tensor.ptr(), known.tensor)) {
        throw py::type_error("treadle._core.Places: expected tensors");
      }
      Place place{py::type::of(tensor),
                  call(tensor, known.untyped_storage),
                  attribute(tensor, known.shape),
                  address_of(known, tensor),
                  0,
                  {}};
      for (const py::handle size : py::tuple(place.shape)) place.sizes.push_back(number(size));
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
          call(tensor, known.is_neg).ptr() != Py_False) {
        return false;
      }
      if (known.describe) {
        if (!described(known, tensor, place)) return false;
      } else if (address_of(known, tensor) != place.address ||
                 !equal(attribute(tensor, known.shape), place.shape) ||
                 !attribute(tensor, known.dtype).is(known.float32) ||
                 call(tensor, known.is_contiguous).ptr() != Py_True) {
        return false;
      }
    }
    return true;
  }

 private:
  std::vector<Place> places_;
};

}  // namespace

void register_tensor_places(py::module_& m) {
  py::class_<Places>(m, "Places", py::is_final(), constructed_by_new())
      .def(py::init<const py::tuple&>(), py::arg("tensors"))
      .def("hold", &Places::hold, py::arg("tensors"));
}

}  // namespace treadle

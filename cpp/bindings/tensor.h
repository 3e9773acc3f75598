// This header reads the memory of PyTorch's tensors, through Python: treadle is not linked to
// PyTorch.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <array>
#include <utility>
#include <vector>

#include "bindings/dlpack.h"

namespace treadle {

namespace py = pybind11;

// The names and objects of PyTorch that every call compares or asks for. They are looked up once
// and never given back, since PyTorch outlives every call.
struct Torch {
  PyTypeObject *tensor, *parameter;
  py::handle strided, float32, cpu;
  std::vector<std::pair<py::handle, py::dtype>> dtypes;
  py::handle empty, empty_like;                                             // functions
  PyObject *is_cpu, *layout, *dtype, *shape;                                // attributes
  PyObject *stride, *untyped_storage, *storage_offset, *data_ptr, *nbytes;  // methods
  PyObject *is_neg, *is_contiguous, *contiguous;
  py::handle dtype_and_device;                           // the names of two arguments, as a tuple
  int (*describe)(void* tensor, dlpack::Tensor* found);  // null in an older PyTorch
};

// Throws TypeError if PyTorch is not imported.
const Torch& torch();

// The memory of a tensor as it is now. Whoever keeps the address compares it before it is used
// again, since a storage can be resized.
struct TensorMemory {
  static constexpr int kMostAxes = 64;  // PyTorch has no more
  int axes = 0;
  std::array<py::ssize_t, kMostAxes> shape, strides;  // strides in elements
  void* address = nullptr;                            // null if the tensor has no elements
  py::object storage;                                 // keeps the memory alive

  bool contiguous() const;
};

// Throws TypeError for what has no such memory, with the name of the function.
TensorMemory tensor_memory(const Torch& known, py::handle tensor, py::ssize_t itemsize);
// Fills in all but the storage of a tensor of PyTorch's own classes, by DLPack. Returns false for
// what is not float32 on the CPU; known.describe must not be null.
bool describe_floats(const Torch& known, py::handle tensor, TensorMemory& memory);
// Fills in the storage as well. Returns false for a tensor without elements or memory, too, and
// throws TypeError where the storage is too small.
bool float_memory(const Torch& known, py::handle tensor, TensorMemory& memory);

// Returns the result of a call of Python's API; throws the exception that it has set.
py::object checked(PyObject* result);
py::object attribute(py::handle owner, PyObject* name);
py::object call(py::handle owner, PyObject* method);
py::ssize_t number(py::handle value);

}  // namespace treadle

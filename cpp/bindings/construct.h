// py::class_<T>(m, name, py::is_final(), constructed_by_new()) makes a class whose `T.__new__(T)`
// constructs, too. Otherwise it would make an empty object, whose methods read invalid memory.
#pragma once

#include <pybind11/pybind11.h>

namespace treadle {

// __new__ calls __init__, too, and raises what it raises. The __init__ that Python calls after it
// finds a constructed object, which pybind11 leaves alone.
inline pybind11::custom_type_setup constructed_by_new() {
  return pybind11::custom_type_setup([](PyHeapTypeObject* heap) {
    heap->ht_type.tp_new = [](PyTypeObject* type, PyObject* args, PyObject* named) -> PyObject* {
      PyObject* self = type->tp_base->tp_new(type, args, named);  // of all classes of pybind11
      if (self && type->tp_init(self, args, named) != 0) Py_CLEAR(self);
      return self;
    };
  });
}

}  // namespace treadle

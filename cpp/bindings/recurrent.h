// The methods of the Python class RecurrentStack that have a file of their own.
#pragma once

#include <pybind11/pybind11.h>

#include "bindings/bound_recurrent.h"

namespace treadle {

void register_backward(py::class_<BoundRecurrent>& recurrent);
void register_stream(py::module_& m,
                     py::class_<BoundRecurrent>& recurrent);  // and the class Stream

}  // namespace treadle

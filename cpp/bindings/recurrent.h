// The methods of the Python class Recurrent that have a file of their own.
#pragma once

#include <pybind11/pybind11.h>

#include "bindings/net.h"

namespace treadle {

void register_backward(py::class_<Net>& recurrent);
void register_stream(py::module_& m, py::class_<Net>& recurrent);  // and the class Stream

}  // namespace treadle

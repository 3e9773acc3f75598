// These functions register the methods of the Python class RecurrentStack that have their own file.
#pragma once

#include <pybind11/pybind11.h>

#include "bindings/bound_recurrent.h"

namespace treadle {

void register_backward(py::class_<BoundRecurrent>& recurrent);
void register_tensor_run(py::class_<BoundRecurrent>& recurrent);
void register_tensor_backward(py::class_<BoundRecurrent>& recurrent);
// Registers the method `stream` and the class Stream.
void register_stream(py::module_& m, py::class_<BoundRecurrent>& recurrent);
// Registers the method `pool` and the class StreamPool.
void register_stream_pool(py::module_& m, py::class_<BoundRecurrent>& recurrent);

}  // namespace treadle

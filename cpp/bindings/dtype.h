// This header checks weights in the form in which a module stores them, and names of dtypes.
#pragma once

#include <pybind11/pybind11.h>

#include <string>

#include "bindings/arrays.h"
#include "engine/product/packed_weights.h"

namespace treadle {

// Throws ValueError for a name that is no dtype's.
Dtype parse_dtype(const std::string& function, const std::string& name);

struct Weight {
  StoredMatrix matrix;
  std::int64_t rows = 0, columns = 0;
};

// Checks a matrix in the form that its dtype is stored in: an array of float32 [N, K]; of uint16
// [N, K], the bits of bfloat16; or a tuple of int8 [N, K] and its scales, float32
// [N, ceil(K / 256)]: zero, positive normal numbers, or NaN for a block whose outputs are NaN.
// Throws TypeError or ValueError for anything else.
Weight check_weight(const std::string& function, const char* name, const py::handle& value,
                    Dtype dtype, Axis rows, Axis columns);

}  // namespace treadle

// Names of the formats that weights are packed in.
#pragma once

#include <pybind11/pybind11.h>

#include <string>

#include "kernels/table.h"

namespace weft {

inline Dtype parse_dtype(const std::string& function, const std::string& name) {
  if (name == "float32") return Dtype::float32;
  if (name == "bfloat16") return Dtype::bfloat16;
  if (name == "int8") return Dtype::int8;
  throw pybind11::value_error(function + ": dtype is '" + name +
                              "', expected float32, bfloat16 or int8");
}

}  // namespace weft

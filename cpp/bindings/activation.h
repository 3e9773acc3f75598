// This header translates Python's names of the activations.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <tuple>

#include "engine/product/activation_name.h"
#include "kernels/table.h"

namespace treadle {

inline ActivationFunction parse_function(const std::string& function, const std::string& name) {
  if (const auto found = activation_named(name)) return *found;
  throw pybind11::value_error(function + ": activation is '" + name + "', which is unknown");
}

// Python gives an activation as (name, alpha, beta).
inline Activation parse_activation(const std::string& function, const pybind11::handle& value) {
  using Parts = std::tuple<std::string, float, float>;
  try {
    const auto [name, alpha, beta] = pybind11::cast<Parts>(value);
    return {parse_function(function, name), alpha, beta};
  } catch (const pybind11::cast_error&) {
    throw pybind11::type_error(function + ": activation is not a tuple (name, alpha, beta)");
  }
}

}  // namespace treadle

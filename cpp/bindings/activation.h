// This header translates Python's names of the activations.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <tuple>

#include "kernels/table.h"

namespace treadle {

inline ActivationFunction parse_function(const std::string& function, const std::string& name) {
  constexpr struct {
    const char* name;
    ActivationFunction function;
  } kNames[] = {
      {"linear", ActivationFunction::linear},
      {"tanh", ActivationFunction::tanh},
      {"sigmoid", ActivationFunction::sigmoid},
      {"relu", ActivationFunction::relu},
      {"hard_sigmoid", ActivationFunction::hard_sigmoid},
      {"softsign", ActivationFunction::softsign},
      {"softplus", ActivationFunction::softplus},
      {"elu", ActivationFunction::elu},
      {"leaky_relu", ActivationFunction::leaky_relu},
      {"affine", ActivationFunction::affine},
      {"thresholded_relu", ActivationFunction::thresholded_relu},
      {"scaled_tanh", ActivationFunction::scaled_tanh},
      {"exp", ActivationFunction::exp},
      {"log1p", ActivationFunction::log1p},
      {"erf", ActivationFunction::erf},
      {"gelu", ActivationFunction::gelu},
      {"gelu_tanh", ActivationFunction::gelu_tanh},
      {"silu", ActivationFunction::silu},
      {"hard_swish", ActivationFunction::hard_swish},
      {"clip", ActivationFunction::clip},
  };
  for (const auto& entry : kNames) {
    if (name == entry.name) return entry.function;
  }
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

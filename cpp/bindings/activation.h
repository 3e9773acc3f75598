// Names of the activations, as Python spells them.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <tuple>

#include "kernels/table.h"

namespace treadle {

inline Function parse_function(const std::string& function, const std::string& name) {
  constexpr struct {
    const char* name;
    Function function;
  } kNames[] = {
      {"linear", Function::linear},
      {"tanh", Function::tanh},
      {"sigmoid", Function::sigmoid},
      {"relu", Function::relu},
      {"hard_sigmoid", Function::hard_sigmoid},
      {"softsign", Function::softsign},
      {"softplus", Function::softplus},
      {"elu", Function::elu},
      {"leaky_relu", Function::leaky_relu},
      {"affine", Function::affine},
      {"thresholded_relu", Function::thresholded_relu},
      {"scaled_tanh", Function::scaled_tanh},
      {"exp", Function::exp},
      {"log1p", Function::log1p},
      {"erf", Function::erf},
      {"gelu", Function::gelu},
      {"gelu_tanh", Function::gelu_tanh},
      {"silu", Function::silu},
  };
  for (const auto& entry : kNames) {
    if (name == entry.name) return entry.function;
  }
  throw pybind11::value_error(function + ": activation is '" + name + "', which is unknown");
}

// (name, alpha, beta)
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

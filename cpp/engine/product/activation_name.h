// This header translates the names of the activations, which are those of Python.
#pragma once

#include <optional>
#include <string_view>

#include "kernels/table.h"

namespace treadle {

inline std::optional<ActivationFunction> activation_named(std::string_view name) {
  constexpr struct {
    std::string_view name;
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
  return std::nullopt;
}

}  // namespace treadle

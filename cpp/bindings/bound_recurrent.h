// A recurrent net as its Python methods know it: built from weights that are checked.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bindings/arrays.h"
#include "engine/recurrent/stack.h"

namespace treadle {

// The engine's net and the name that errors begin with.
struct BoundRecurrent {
  std::string function;
  std::shared_ptr<const RecurrentStack> engine;

  const CellShape& shape() const { return engine->cell(0).shape(); }
  bool lstm() const { return shape().mode == Mode::lstm; }
  // The floats that a step of a direction saves, for nets of one layer; ValueError for others.
  std::int64_t saved_size(bool recompute) const;
};

BoundRecurrent make_net(const std::string& function, const std::string& mode_name,
                        std::int64_t input_size, std::int64_t hidden_size, std::int64_t proj_size,
                        std::int64_t num_layers, const std::string& direction_name,
                        const std::vector<py::tuple>& weights, const py::dict& options);

// The arrays of one layer and direction: weight_ih, weight_hh, bias_ih, bias_hh, weight_hr,
// peepholes; the matrices in the form of `dtype`.
CellWeights check_weights(const std::string& function, const CellShape& shape, const py::tuple& w,
                          Dtype dtype = Dtype::float32);

}  // namespace treadle

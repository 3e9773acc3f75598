// This header checks weights and builds the recurrent net that the Python methods run.
#pragma once

#include <pybind11/pybind11.h>

#include <array>
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
  py::object weights;  // the arrays of a net that did not pack them, which reads them; or null

  const CellShape& shape() const { return engine->cell(0).shape(); }
  bool lstm() const { return shape().mode == Mode::lstm; }
  // Returns how many floats a step of a direction saves; throws ValueError unless L = 1.
  std::int64_t saved_size(bool recompute) const;
  // Throws ValueError unless the weights are float32, as a backward pass needs them.
  void check_backward() const;
};

// The checked weights of one layer and direction, and the Python objects that keep them alive.
struct CheckedWeights {
  CellWeights arrays;
  std::array<py::object, 6> owners;
};

// The names of the weights in Python, in the order of CellWeights.
constexpr const char* kWeightNames[] = {"weight_ih", "weight_hh", "bias_ih",
                                        "bias_hh",   "weight_hr", "peepholes"};

// Reads the arrays by their names (kWeightNames) from a dict of one layer and direction, the
// matrices in the form of `dtype`. A missing name and None both mean that there is none.
CheckedWeights check_weights(const std::string& function, const CellShape& shape,
                             const py::dict& weights, Dtype dtype = Dtype::float32);

// Throws ValueError for an unknown name.
Mode parse_mode(const std::string& function, const std::string& mode);

// Packs a net of the same form from other weights. It takes over the buffers that the given one
// keeps from call to call. Throws ValueError for a net that did not pack its weights.
BoundRecurrent renewed(const BoundRecurrent& net, const std::vector<py::dict>& weights);

// Packs a net. `spec` are the keywords of the Python constructor, which _core.pyi lists.
BoundRecurrent make_recurrent(const std::string& function, const std::vector<py::dict>& weights,
                              const py::kwargs& spec);

}  // namespace treadle

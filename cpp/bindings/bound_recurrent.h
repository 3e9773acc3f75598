// A recurrent net as its Python methods know it, built from weights that are checked.
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

  const CellShape& shape() const { return engine->cell(0).shape(); }
  bool lstm() const { return shape().mode == Mode::lstm; }
  // The floats that a step of a direction saves, for nets of one layer; ValueError for others.
  std::int64_t saved_size(bool recompute) const;
};

// The weights of one layer and direction, checked, and kept alive.
struct CheckedWeights {
  CellWeights arrays;
  std::array<py::object, 6> owners;
};

// Their names in Python, in the order of CellWeights.
constexpr const char* kWeightNames[] = {"weight_ih", "weight_hh", "bias_ih",
                                        "bias_hh",   "weight_hr", "peepholes"};

// Reads the arrays by their names (kWeightNames) from a dict of one layer and direction, the
// matrices in the form of `dtype`. A missing name and None both mean that there is none.
CheckedWeights check_weights(const std::string& function, const CellShape& shape,
                             const py::dict& weights, Dtype dtype = Dtype::float32);

// ValueError for another name.
Mode parse_mode(const std::string& function, const std::string& mode);

// Packs a net. `spec` are the keywords of the Python constructor, which _core.pyi lists.
BoundRecurrent make_recurrent(const std::string& function, const std::vector<py::dict>& weights,
                              const py::kwargs& spec);

}  // namespace treadle

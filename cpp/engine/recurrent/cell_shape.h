// A cell is described by its shape, its options and its weights. A share of its panels is what one
// thread computes.
#pragma once

#include <cstdint>

#include "engine/product/packed_weights.h"
#include "kernels/table.h"

namespace treadle {

enum class Mode { rnn, lstm, gru };

inline int gate_count(Mode mode) { return mode == Mode::rnn ? 1 : mode == Mode::lstm ? 4 : 3; }

struct CellShape {
  Mode mode;
  std::int64_t input_size;   // I
  std::int64_t hidden_size;  // H
  std::int64_t proj_size;    // P, or 0: the state has H floats
  bool reset_after;          // GRU

  std::int64_t state_size() const { return proj_size ? proj_size : hidden_size; }
};

// The numbers of floats that a step saves for a row: of its gates, and of all.
std::int64_t saved_gates(const CellShape& shape, const CellOptions& options);
std::int64_t saved_size(const CellShape& shape, const CellOptions& options, bool recompute);

// Weights in PyTorch's layouts and gate orders (i, f, g, o and r, z, n). A null pointer stands for
// absent weights. All matrices have the same dtype.
struct CellWeights {
  StoredMatrix weight_ih;  // [G*H, I]
  StoredMatrix weight_hh;  // [G*H, state_size]
  const float* bias_ih;    // [G*H]
  const float* bias_hh;    // [G*H]
  StoredMatrix weight_hr;  // [P, H]
  const float* peepholes;  // [3*H], order i, o, f as in ONNX
};

// A share of the panels of a product: the parts [first, last) of `count` parts.
struct PanelShare {
  int first, last, count;
  std::int64_t begin(std::int64_t panels) const { return panels * first / count; }
  std::int64_t end(std::int64_t panels) const { return panels * last / count; }
};

}  // namespace treadle

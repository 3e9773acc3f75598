// The weights of a cell as its backward pass multiplies by them: transposed.
#pragma once

#include <cstdint>

#include "engine/product/linear.h"
#include "engine/recurrent/cell.h"

namespace treadle {

struct BackwardWeights {
  // `weights` are those that the cell was packed from.
  BackwardWeights(const Cell& cell, const CellWeights& weights);

  std::int64_t width;         // floats of a row of pre-activation gradients; `input` multiplies the
                              // first of them
  std::int64_t state_offset;  // `state` multiplies those from here on
  Linear input;               // [inputs] -> [I]
  Linear state;               // [states] -> [state_size]
  Linear reset;               // GRU, reset before: [H] -> [H], of the candidate
  Linear projection;          // LSTM: [P] -> [H]
};

}  // namespace treadle

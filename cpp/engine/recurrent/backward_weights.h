// The weights of a cell as its backward pass multiplies by them: transposed. They are packed for
// each pass, unless it is so short that this would take longer than its products.
#pragma once

#include <cstdint>

#include "engine/product/linear.h"
#include "engine/recurrent/cell.h"
#include "engine/recurrent/sequence_args.h"

namespace treadle {

struct BackwardWeights {
  // `weights` are those of the cell, and outlive this object: for a pass of a few rows and steps
  // they are read where they lie.
  BackwardWeights(const Cell& cell, const CellWeights& weights, const SequenceArgs& call);

  std::int64_t width;         // floats of a row of pre-activation gradients; `input` multiplies the
                              // first of them
  std::int64_t state_offset;  // `state` multiplies those from here on
  Linear input;               // [inputs] -> [I]
  Linear state;               // [states] -> [state_size]
  Linear reset;               // GRU, reset before: [H] -> [H], of the candidate
  Linear projection;          // LSTM: [P] -> [H]
};

}  // namespace treadle

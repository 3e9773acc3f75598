// Back-propagation through time for one layer in one direction.
//
// Where the gates were not saved, they are computed again first (recompute). Then three stages. Back through the steps (back_steps): the gradients of all pre-activations. Then, as
// products over all steps at once, the gradient of the input, and those of the weights
// (weight_gradient), whose sums over time and batch run in fixed blocks: the same bits for any number
// of threads.
#pragma once

#include "engine/back_pass.h"
#include "engine/back_weights.h"
#include "engine/interrupt.h"

namespace treadle {

class Gradient {
 public:
  // `cell` ran the forward pass and outlives this object; `weights` are those it was packed from.
  Gradient(const Cell& cell, const CellWeights& weights) : cell_(&cell), weights_(cell, weights) {}

  // Leaves early when interrupted; the gradients are then incomplete.
  void run(const BackPass& pass, Interrupt& interrupt) const;

 private:
  const Cell* cell_;
  BackWeights weights_;
};

}  // namespace treadle

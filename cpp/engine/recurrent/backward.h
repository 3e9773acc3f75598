// Back-propagation through time for one layer in one direction.
//
// Where the gates were not saved, they are computed again first (recompute_gates). Three stages
// follow: the way back through the steps (backward_steps) leaves the gradients of all
// pre-activations; products over all steps at once then give the gradient of the input, and those
// of the weights (weight_grad), whose sums over time and batch run in fixed blocks: the same bits
// for any number of threads.
#pragma once

#include "engine/recurrent/backward_pass.h"
#include "engine/recurrent/backward_weights.h"
#include "engine/schedule/interrupt.h"

namespace treadle {

class RecurrentBackward {
 public:
  // `cell` ran the forward pass and outlives this object; `weights` are those it was packed from.
  RecurrentBackward(const Cell& cell, const CellWeights& weights)
      : cell_(&cell), weights_(cell, weights) {}

  // Leaves early when interrupted; the gradients are then incomplete.
  void run(const BackwardPass& pass, Interrupt& interrupt) const;

 private:
  const Cell* cell_;
  BackwardWeights weights_;
};

}  // namespace treadle

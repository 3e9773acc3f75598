// Back-propagation through time for one layer in one direction, in stages:
//
//     trace             lists the steps that the forward pass took, and the states they began with
//     recompute_gates   computes the gates again if they were not saved
//     through_time      goes back through the steps (BackwardSteps) and leaves the gradients of all
//                       pre-activations, and of the first states
//     input_grad        is a product over all steps at once: the gradient of the input
//     weight_grads      sums over time and batch in fixed blocks (WeightGrad): the gradients of the
//                       weights have the same bits for any number of threads
//
// A stage hands its results to the next one in BackwardBuffers.
#pragma once

#include "engine/recurrent/backward_pass.h"
#include "engine/recurrent/backward_weights.h"
#include "engine/schedule/interrupt.h"

namespace treadle {

class RecurrentBackward {
 public:
  // `cell` ran the forward pass, `weights` are its weights; both outlive this object.
  RecurrentBackward(const Cell& cell, const CellWeights& weights)
      : cell_(&cell), weights_(weights) {}

  // Leaves early when interrupted; the gradients are then incomplete.
  void run(const BackwardPass& pass, Interrupt& interrupt) const;

 private:
  const Cell* cell_;
  CellWeights weights_;
};

}  // namespace treadle

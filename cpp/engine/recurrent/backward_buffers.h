// The arrays that the stages of a backward pass hand to one another.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/recurrent/backward_pass.h"
#include "engine/recurrent/backward_weights.h"
#include "engine/schedule/interrupt.h"
#include "runtime/buffer.h"

namespace treadle {

// The stages run in this order: recompute_gates, through_time, input_grad, weight_grads. Each array
// says which of them write and read it. A term is a row at a time (Trace); an array [T*B, ...] has
// a row for each, also for those that did not run, whose rows nobody writes or reads.
struct BackwardBuffers {
  // `trace` says which steps ran; the arguments outlive this object.
  BackwardBuffers(const Cell& cell, const BackwardWeights& weights, const BackwardPass& pass,
                  const Trace& trace, Interrupt& interrupt);

  // True if recompute_gates has work: the gates were not saved, and the output does not tell them.
  const bool recomputes;

  // [T*B, width], the one large array, which has two lives. If `recomputes`, recompute_gates writes
  // the gates of a term into its row first, and through_time reads them. Then through_time writes
  // the gradients of the term's pre-activations (BackwardArgs::out has their order) into the same
  // row, and input_grad and weight_grads read these.
  Buffer gates_then_da;
  const std::int64_t width;
  float* gates(std::int64_t term) { return row(gates_then_da, term, width); }
  float* da(std::int64_t term) { return row(gates_then_da, term, width); }
  // The row `da` of every term that ran, in the order of Trace::terms.
  std::vector<const float*> da_rows;

  // through_time writes these arrays, weight_grads reads them.
  Buffer dp;      // [T*B, P], with a projection: the gradient of the output
  Buffer hidden;  // [T*B, H]: the unprojected output with a projection; r h if !reset_after

  // The constructor writes this array, through_time reads it. It exists if a mask repeats outputs:
  // the gradient of an output is then the sum of the gradients of its repetitions.
  Buffer dy;  // [T*B, state_size]

  // Only through_time uses these arrays, to carry values from a step to the step before it.
  Buffer dc;    // LSTM: [B, H], the gradient of c
  Buffer keep;  // GRU: [B, H], the part of the gradient of h that comes through no product

  // Return a row of an array, or null where the array is absent.
  static float* row(Buffer& array, std::int64_t i, std::int64_t floats) {
    return array.size() ? array.data() + i * floats : nullptr;
  }
};

// Every stage of a backward pass works on these objects.
struct BackwardCall {
  const Cell& cell;
  const BackwardWeights& weights;
  const BackwardPass& pass;
  const Trace& trace;
  BackwardBuffers& buffers;
};

}  // namespace treadle

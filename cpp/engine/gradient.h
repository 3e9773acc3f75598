// Back-propagation through time for one layer in one direction.
//
// Three stages. Back through the steps: the gradients of all pre-activations. Then, as products over
// all steps at once, the gradient of the input, and those of the weights, whose sums over time and
// batch run in fixed blocks: the same bits for any number of threads.
#pragma once

#include <cstdint>

#include "engine/cell.h"
#include "engine/interrupt.h"
#include "engine/linear.h"

namespace weft {

// What the forward pass (Pass) was given and what it left, and where the gradients go. Null: absent.
struct BackPass {
  bool reverse;
  std::int64_t T, B;
  const float* x;  // [T, B, I] with these strides, in floats
  std::int64_t x_t, x_b;
  const float* y;  // [T, B, state_size]
  std::int64_t y_t, y_b;
  const float *h_0, *c_0, *reset_h, *reset_c;  // [B, state_size], [B, H]
  const std::int64_t* lengths;                 // [B]
  const std::uint8_t* mask;                    // [B, T]
  const std::uint8_t* resets;                  // [T, B]
  const float* saved;                          // [T, B, saved_size]
  const float* dy;                             // [T, B, state_size] with these strides
  std::int64_t dy_t, dy_b;
  const float *dh_n, *dc_n;  // [B, state_size], [B, H]

  // All zeroed by the caller; dx, null where not wanted, is added to where `add` says so.
  float* dx;  // [T, B, I] with these strides
  std::int64_t dx_t, dx_b;
  bool add;
  float *weight_ih, *weight_hh, *bias_ih, *bias_hh, *weight_hr, *peepholes;  // as in CellWeights
  float *dh_0, *dc_0, *dreset_h, *dreset_c;  // [B, state_size], [B, H]
};

class Gradient {
 public:
  // `cell` ran the forward pass and outlives this object; `weights` are those it was packed from.
  Gradient(const Cell& cell, const CellWeights& weights);

  // Leaves early when interrupted; the gradients are then incomplete.
  void run(const BackPass& pass, Interrupt& interrupt) const;

 private:
  class Run;

  const KernelTable* table_;  // the cell's
  const Cell* cell_;
  std::int64_t width_;         // floats of a step's gradients, before activation: first those
                               // beside the input's weights
  std::int64_t state_offset_;  // and from here on those beside the state's
  Linear input_;               // [inputs] -> [I]
  Linear state_;               // [states] -> [state_size]
  Linear reset_;               // GRU, reset before: [H] -> [H], of the candidate
  Linear projection_;          // LSTM: [P] -> [H]
};

}  // namespace weft

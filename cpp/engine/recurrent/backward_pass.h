// A backward pass through one layer in one direction needs the arrays of the forward pass
// (BackwardPass), and a list of its steps and of the states that they began with (Trace).
#pragma once

#include <cstdint>
#include <vector>

#include "engine/recurrent/cell.h"
#include "engine/recurrent/sequence_args.h"
#include "engine/schedule/interrupt.h"
#include "runtime/buffer.h"

namespace treadle {

// The backward pass of one layer in one direction: the arrays that the forward pass (Pass) read and
// wrote, and the gradients. A null pointer stands for an array that is absent.
struct BackwardPass {
  bool reverse;
  SequenceArgs in;  // the states of this layer and direction
  const float* y;   // [T, B, state_size] with the strides y_t and y_b, in floats
  std::int64_t y_t, y_b;
  const float* saved;  // [T, B, saved_size(recompute)]
  bool recompute;      // the gates were not saved and are computed again
  const float* dy;     // [T, B, state_size] with the strides dy_t and dy_b
  std::int64_t dy_t, dy_b;
  const float *dh_n, *dc_n;  // [B, state_size], [B, H]

  // The caller has set all gradients to zero but dx and those of matrices, which are written. dx
  // and dh_0 are null if the caller does not want them; dx is written, or added to if `add`, for
  // the terms whose step ran.
  float* dx;  // [T, B, I] with the strides dx_t and dx_b
  std::int64_t dx_t, dx_b;
  bool add;
  float *weight_ih, *weight_hh, *bias_ih, *bias_hh, *weight_hr, *peepholes;  // as in CellWeights
  float *dh_0, *dc_0, *dreset_h, *dreset_c;  // [B, state_size], [B, H]
};

// The steps that the forward pass took. A term is one row at one time, number t * B + b: the sums
// over time and batch have a term for each row and time that ran.
class Trace {
 public:
  // Lists the steps; the list is incomplete when interrupted.
  Trace(const Cell& cell, const BackwardPass& pass, Interrupt& interrupt);

  std::int64_t length(std::int64_t b) const { return p_.in.lengths ? p_.in.lengths[b] : p_.in.T; }
  // Returns the time of row b in step s of the forward pass.
  std::int64_t time(std::int64_t s, std::int64_t b) const {
    return p_.reverse ? length(b) - 1 - s : s;
  }
  std::int64_t term(std::int64_t t, std::int64_t b) const { return t * p_.in.B + b; }
  // Tells whether the state of row b was replaced before step s.
  bool reset_before(std::int64_t s, std::int64_t b) const {
    if (!p_.in.resets || s >= length(b) || (p_.reverse && s == 0)) return false;
    return p_.in.resets[(time(s, b) + (p_.reverse ? 1 : 0)) * p_.in.B + b] != 0;
  }

  // Returns the numbers of the terms that ran, in rising order.
  const std::vector<std::int64_t>& terms() const { return terms_; }
  bool runs(std::int64_t term) const { return h_old_[term] != nullptr; }

  // Return the states before the step of a term, the cell state after it, and its output.
  const float* h_old(std::int64_t term) const { return h_old_[term]; }
  const float* c_old(std::int64_t term) const { return c_old_[term]; }
  const float* c_new(std::int64_t term) const { return p_.saved + term * saved_size_ + gates_; }
  const float* y(std::int64_t term) const {
    return p_.y + term / p_.in.B * p_.y_t + term % p_.in.B * p_.y_b;
  }
  // Returns the row from which the backward kernels read the gates of a term: the saved row, or the
  // output if nothing was saved because the gates follow from the output.
  const float* gates(std::int64_t term) const {
    return gates_ ? p_.saved + term * saved_size_ : y(term);
  }

 private:
  const BackwardPass& p_;
  const std::int64_t saved_size_, gates_;  // the floats saved for a term; its gates are the first
  const Buffer zeros_;
  std::vector<const float*> h_old_, c_old_;  // for each term; null if its step did not run
  std::vector<std::int64_t> terms_;
};

}  // namespace treadle

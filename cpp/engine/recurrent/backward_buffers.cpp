#include "engine/recurrent/backward_buffers.h"

#include <algorithm>
#include <cstring>

namespace treadle {
namespace {

// Returns the gradients of the outputs. Where a mask skipped steps, they repeat the output of the
// last step that ran, whose gradient is then the sum of the gradients of all these outputs.
Buffer fold_repeated(const BackwardPass& p, const Trace& trace, std::int64_t state_size,
                     Interrupt& interrupt) {
  Buffer dy(p.in.T * p.in.B * state_size);
  for (std::int64_t b = 0; b < p.in.B; ++b) {
    std::vector<float> sum(state_size, 0.0f);
    for (std::int64_t s = trace.length(b) - 1; s >= 0 && !interrupt.stopped(); --s) {
      const std::int64_t t = trace.time(s, b), i = trace.term(t, b);
      const float* from = p.dy + t * p.dy_t + b * p.dy_b;
      for (std::int64_t k = 0; k < state_size; ++k) sum[k] += from[k];
      interrupt.progress(static_cast<double>(state_size) * 8);
      if (!trace.runs(i)) continue;
      std::copy(sum.begin(), sum.end(), dy.data() + i * state_size);
      std::fill(sum.begin(), sum.end(), 0.0f);
    }
  }
  return dy;
}

}  // namespace

BackwardBuffers::BackwardBuffers(const Cell& cell, const BackwardWeights& weights,
                                 const BackwardPass& pass, const Trace& trace, Interrupt& interrupt)
    : recomputes(pass.recompute && cell.saved_gates() > 0),
      gates_then_da(Buffer::uninitialized(pass.in.T * pass.in.B * weights.width)),
      width(weights.width) {
  const CellShape& shape = cell.shape();
  const std::int64_t B = pass.in.B, terms = pass.in.T * B;
  const std::int64_t H = shape.hidden_size, S = shape.state_size();
  const bool reset_before = shape.mode == Mode::gru && !shape.reset_after;
  if (shape.proj_size) dp = Buffer::uninitialized(terms * S);
  if (shape.proj_size || reset_before) hidden = Buffer::uninitialized(terms * H);
  if (pass.in.mask && pass.dy) dy = fold_repeated(pass, trace, S, interrupt);
  if (shape.mode == Mode::gru) keep = Buffer::uninitialized(B * H);
  if (shape.mode == Mode::lstm) dc = Buffer::uninitialized(B * H);
  da_rows.reserve(trace.terms().size());
  for (const std::int64_t i : trace.terms()) da_rows.push_back(da(i));
}

}  // namespace treadle

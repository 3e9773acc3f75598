#include "engine/recurrent/backward.h"

#include <algorithm>
#include <vector>

#include "engine/recurrent/backward_buffers.h"
#include "engine/recurrent/backward_steps.h"
#include "engine/recurrent/recompute_gates.h"
#include "engine/recurrent/weight_grad.h"
#include "engine/schedule/team.h"

namespace treadle {
namespace {

constexpr std::int64_t kDxRows = 4096;  // rows of one product for dx, between two barriers

// Returns the row of dx for every term (t, b) whose step ran; no rows if the caller wants no dx.
std::vector<float*> dx_rows(const BackwardPass& pass, const Trace& trace) {
  std::vector<float*> rows;
  if (!pass.dx) return rows;
  rows.reserve(trace.terms().size());
  for (const std::int64_t i : trace.terms()) {
    rows.push_back(pass.dx + i / pass.in.B * pass.dx_t + i % pass.in.B * pass.dx_b);
  }
  return rows;
}

// Computes dx = da W_ih for all terms that ran, in phases of the team. Returns false when the
// computation is to end.
bool input_grad(Team::Member& member, const BackwardCall& call, const std::vector<float*>& dx) {
  const auto total = static_cast<std::int64_t>(dx.size());
  const float* const* da = call.buffers.da_rows.data();
  for (std::int64_t first = 0; first < total; first += kDxRows) {
    const ProductRows rows{std::min(kDxRows, total - first),
                           da + first,
                           dx.data() + first,
                           nullptr,
                           call.pass.add ? dx.data() + first : nullptr,
                           nullptr};
    if (!call.weights.input.run(member, rows)) return false;
  }
  return true;
}

}  // namespace

void RecurrentBackward::run(const BackwardPass& pass, Interrupt& interrupt) const {
  if (!pass.in.T || !pass.in.B) {
    // There is no step, so the gradients of the last state are those of the first.
    const CellShape& shape = cell_->shape();
    if (pass.dh_n && pass.dh_0) std::copy_n(pass.dh_n, pass.in.B * shape.state_size(), pass.dh_0);
    if (pass.dc_n && pass.dc_0) std::copy_n(pass.dc_n, pass.in.B * shape.hidden_size, pass.dc_0);
    return;
  }
  const double rows = static_cast<double>(pass.in.T) * static_cast<double>(pass.in.B);
  Team team(2 * rows * static_cast<double>(cell_->step_work()), interrupt);
  const Trace trace(*cell_, pass, interrupt);
  const BackwardWeights weights(*cell_, weights_, pass.in);
  BackwardBuffers buffers(*cell_, weights, pass, trace, interrupt);
  const BackwardCall call{*cell_, weights, pass, trace, buffers};

  // Everything that needs memory is made here, so that no thread of the team can run out of it.
  RecomputeGates recompute_gates(call, team.size());
  BackwardSteps through_time(call, team.size());
  const std::vector<float*> dx = dx_rows(pass, trace);
  const WeightGrad weight_grads(call);

  team.run([&](Team::Member& member) {
    // A stage begins when all threads have left the one before it.
    if (!recompute_gates.run(member)) return;
    if (!through_time.run(member)) return;
    if (!input_grad(member, call, dx)) return;
    weight_grads.run(member);
  });
  weight_grads.copy_biases();
}

}  // namespace treadle

#include "engine/recurrent/backward.h"

#include <algorithm>
#include <vector>

#include "engine/recurrent/backward_steps.h"
#include "engine/recurrent/recompute_gates.h"
#include "engine/recurrent/weight_grad.h"
#include "engine/schedule/team.h"

namespace treadle {
namespace {

constexpr std::int64_t kDxRows = 4096;  // of one product, between two barriers

std::vector<float*> dx_rows(const BackwardPass& pass, const Trace& trace) {
  std::vector<float*> rows;
  if (!pass.dx) return rows;
  rows.reserve(trace.terms().size());
  for (const std::int64_t i : trace.terms()) {
    rows.push_back(pass.dx + i / pass.in.B * pass.dx_t + i % pass.in.B * pass.dx_b);
  }
  return rows;
}

// dx = da W_ih for all terms, one phase of a team after another.
bool input_grad(Team::Member& member, const Linear& weight, const float* const* da,
                const std::vector<float*>& dx, bool add) {
  const auto total = static_cast<std::int64_t>(dx.size());
  for (std::int64_t first = 0; first < total; first += kDxRows) {
    const ProductRows rows{
        std::min(kDxRows, total - first),  da + first, dx.data() + first, nullptr,
        add ? dx.data() + first : nullptr, nullptr};
    if (!weight.run(member, rows)) return false;
  }
  return true;
}

}  // namespace

void RecurrentBackward::run(const BackwardPass& pass, Interrupt& interrupt) const {
  if (!pass.in.T || !pass.in.B) {
    // No step: the gradients of the last state are those of the first.
    const CellShape& shape = cell_->shape();
    if (pass.dh_n && pass.dh_0) std::copy_n(pass.dh_n, pass.in.B * shape.state_size(), pass.dh_0);
    if (pass.dc_n && pass.dc_0) std::copy_n(pass.dc_n, pass.in.B * shape.hidden_size, pass.dc_0);
    return;
  }
  const double rows = static_cast<double>(pass.in.T) * static_cast<double>(pass.in.B);
  Team team(2 * rows * static_cast<double>(cell_->step_work()), interrupt);
  const Trace trace(*cell_, pass, interrupt);
  BackwardSteps steps(*cell_, weights_, pass, trace, team.size(), interrupt);
  RecomputeGates gates(*cell_, pass, trace, steps, team.size());
  const WeightGrad sums(*cell_, weights_.width, pass, trace, steps);
  const std::vector<float*> dx = dx_rows(pass, trace);
  team.run([&](Team::Member& member) {
    if (steps.recomputes() && !gates.run(member)) return;
    if (!steps.run(member)) return;
    if (!input_grad(member, weights_.input, steps.da_rows().data(), dx, pass.add)) return;
    sums.run(member);
  });
  sums.copy_biases();
}

}  // namespace treadle

#include "engine/recurrent/backward_pass.h"

#include <algorithm>

namespace treadle {
namespace {

constexpr double kListWork = 100;  // listing a row takes as long as so many multiply-adds

}  // namespace

Trace::Trace(const Cell& cell, const BackwardPass& pass, Interrupt& interrupt)
    : p_(pass),
      saved_size_(cell.saved_size(pass.recompute)),
      gates_(pass.recompute ? 0 : cell.saved_gates()),
      zeros_(std::max(cell.shape().hidden_size, cell.shape().state_size())),
      h_old_(pass.in.T * pass.in.B, nullptr) {
  const std::int64_t S = cell.shape().state_size(), H = cell.shape().hidden_size;
  const bool lstm = cell.shape().mode == Mode::lstm;
  const auto at = [&](const float* data, std::int64_t b, std::int64_t size) {
    return data ? data + b * size : zeros_.data();
  };
  if (lstm) c_old_.assign(p_.in.T * p_.in.B, nullptr);
  std::vector<const float*> h(p_.in.B), c(p_.in.B);
  for (std::int64_t b = 0; b < p_.in.B; ++b) {
    h[b] = at(p_.in.h_0, b, S);
    c[b] = at(p_.in.c_0, b, H);
  }
  std::int64_t total = 0;
  for (std::int64_t s = 0; s < p_.in.T && !interrupt.stopped(); ++s) {
    for (std::int64_t b = 0; b < p_.in.B; ++b) {
      if (s >= length(b)) continue;
      const std::int64_t t = time(s, b), i = term(t, b);
      if (reset_before(s, b)) {
        h[b] = at(p_.in.reset_h, b, S);
        c[b] = at(p_.in.reset_c, b, H);
      }
      if (p_.in.mask && !p_.in.mask[b * p_.in.T + t]) continue;
      ++total;
      h_old_[i] = h[b];
      h[b] = y(i);
      if (!lstm) continue;
      c_old_[i] = c[b];
      c[b] = c_new(i);
    }
    interrupt.progress(static_cast<double>(p_.in.B) * kListWork);
  }
  terms_.reserve(total);
  for (std::int64_t i = 0; i < p_.in.T * p_.in.B; ++i) {
    if (runs(i)) terms_.push_back(i);
  }
}

}  // namespace treadle

#include "engine/recurrent/backward_pass.h"

#include <algorithm>

namespace treadle {
namespace {

constexpr double kListWork = 100;  // to list a row, in multiply-adds

}  // namespace

Trace::Trace(const Cell& cell, const BackwardPass& pass, Interrupt& interrupt)
    : p_(pass),
      saved_size_(cell.saved_size(pass.recompute)),
      gates_(pass.recompute ? 0 : cell.saved_gates()),
      zeros_(std::max(cell.shape().hidden_size, cell.shape().state_size())),
      h_old_(pass.T * pass.B, nullptr) {
  const std::int64_t S = cell.shape().state_size(), H = cell.shape().hidden_size;
  const bool lstm = cell.shape().mode == Mode::lstm;
  const auto at = [&](const float* data, std::int64_t b, std::int64_t size) {
    return data ? data + b * size : zeros_.data();
  };
  if (lstm) c_old_.assign(p_.T * p_.B, nullptr);
  std::vector<const float*> h(p_.B), c(p_.B);
  for (std::int64_t b = 0; b < p_.B; ++b) {
    h[b] = at(p_.h_0, b, S);
    c[b] = at(p_.c_0, b, H);
  }
  std::int64_t total = 0;
  for (std::int64_t s = 0; s < p_.T && !interrupt.stopped(); ++s) {
    for (std::int64_t b = 0; b < p_.B; ++b) {
      if (s >= length(b)) continue;
      const std::int64_t t = time(s, b), i = term(t, b);
      if (reset_before(s, b)) {
        h[b] = at(p_.reset_h, b, S);
        c[b] = at(p_.reset_c, b, H);
      }
      if (p_.mask && !p_.mask[b * p_.T + t]) continue;
      ++total;
      h_old_[i] = h[b];
      h[b] = y(i);
      if (!lstm) continue;
      c_old_[i] = c[b];
      c[b] = c_new(i);
    }
    interrupt.progress(static_cast<double>(p_.B) * kListWork);
  }
  terms_.reserve(total);
  for (std::int64_t i = 0; i < p_.T * p_.B; ++i) {
    if (runs(i)) terms_.push_back(i);
  }
}

}  // namespace treadle

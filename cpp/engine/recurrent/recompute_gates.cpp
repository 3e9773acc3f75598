#include "engine/recurrent/recompute_gates.h"

#include <algorithm>
#include <cstring>

namespace treadle {
namespace {

constexpr std::int64_t kTaskRows = 96;  // so many rows and a panel of weights stay in L2

}  // namespace

void RecomputeGates::Work::reserve(const Cell& cell, std::int64_t rows) {
  const std::int64_t H = cell.shape().hidden_size;
  const auto point = [&](std::vector<float*>& list, Buffer& floats) {
    floats = Buffer::uninitialized(rows * H);
    for (std::int64_t r = 0; r < rows; ++r) list.push_back(floats.data() + r * H);
  };
  cell.reserve(scratch, rows, rows);
  x.resize(rows);
  h.resize(rows);
  gates.resize(rows);
  point(out, out_rows);
  if (cell.shape().mode == Mode::lstm) point(c, c_rows);
  if (cell.phases() == 2) {
    point(between, between_rows);
    point(update, update_rows);
  }
}

RecomputeGates::RecomputeGates(const BackwardCall& call, int threads)
    : cell_(call.cell), p_(call.pass), trace_(call.trace), buffers_(call.buffers), work_(threads) {
  const auto total = static_cast<std::int64_t>(trace_.terms().size());
  tasks_ = std::max((total + kTaskRows - 1) / kTaskRows, std::min<std::int64_t>(threads, total));
  if (!tasks_ || !buffers_.recomputes) return;
  for (Work& work : work_) work.reserve(cell_, (total + tasks_ - 1) / tasks_);
}

bool RecomputeGates::run(Team::Member& member) {
  if (!buffers_.recomputes) return true;
  const auto total = static_cast<std::int64_t>(trace_.terms().size());
  const std::int64_t work = std::min(total, kTaskRows) * cell_.step_work();
  return member.parallel_for(tasks_, static_cast<double>(work), [&](std::int64_t i) {
    const std::int64_t first = total * i / tasks_;
    compute(work_[member.index()], first, total * (i + 1) / tasks_ - first);
  });
}

void RecomputeGates::compute(Work& w, std::int64_t first, std::int64_t count) {
  const CellShape& shape = cell_.shape();
  for (std::int64_t r = 0; r < count; ++r) {
    const std::int64_t i = trace_.terms()[first + r];
    w.x[r] = p_.in.x_row(i / p_.in.B, i % p_.in.B);
    w.h[r] = trace_.h_old(i);
    w.gates[r] = buffers_.gates(i);
    if (w.c.empty()) continue;
    std::memcpy(w.c[r], trace_.c_old(i),
                static_cast<std::size_t>(shape.hidden_size) * sizeof(float));
  }
  const StepRows rows{count,        w.x.data(),       nullptr,         w.h.data(),     w.c.data(),
                      w.out.data(), w.between.data(), w.update.data(), w.gates.data(), nullptr};
  // The projection of an LSTM, phase 1, comes after the gates and is not needed.
  const int phases = shape.proj_size ? 1 : cell_.phases();
  for (int phase = 0; phase < phases; ++phase)
    cell_.step(phase, rows, PanelShare{0, 1, 1}, w.scratch);
}

}  // namespace treadle

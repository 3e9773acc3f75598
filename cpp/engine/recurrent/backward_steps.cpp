#include "engine/recurrent/backward_steps.h"

#include <cstring>

namespace treadle {
namespace {

// So many rows go back through time together. With fewer than kRowsPerThread for each thread, the
// threads share panels instead, if a step takes kShareMicros or more: a phase costs them 0.3 us.
constexpr std::int64_t kBlockRows = 128, kRowsPerThread = 8;
constexpr double kShareMicros = 4;

// Returns how many threads share the panels of a step. These estimates are for a core of 100
// GFLOP/s that reads 100 GB/s of weights; only their order of magnitude matters.
int sharing_threads(const BackwardCall& call, int threads) {
  const std::int64_t B = call.pass.in.B;
  const auto work = static_cast<double>(call.weights.width * call.cell.shape().state_size());
  const double micros = std::max(static_cast<double>(B) * work * 2e-5, work * 4e-5);
  return B >= kRowsPerThread * threads || micros < kShareMicros ? 1 : threads;
}

void add(float* to, const float* from, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) to[i] += from[i];
}

std::size_t bytes(std::int64_t floats) { return static_cast<std::size_t>(floats) * sizeof(float); }

}  // namespace

void BackwardSteps::Block::reserve(std::int64_t n, std::int64_t hidden_size) {
  for (auto* list : {&next, &carry, &nexts, &dys, &carries, &saved, &old, &c}) list->resize(n);
  for (auto* list : {&dcs, &keeps, &hidden, &out, &dp}) list->resize(n);
  active.resize(n);
  sums = Buffer::uninitialized(n * hidden_size);
  for (std::int64_t i = 0; i < n; ++i) products.push_back(sums.data() + i * hidden_size);
}

BackwardSteps::BackwardSteps(const BackwardCall& call, int threads)
    : cell_(call.cell),
      weights_(call.weights),
      p_(call.pass),
      trace_(call.trace),
      buffers_(call.buffers),
      shape_(call.cell.shape()),
      H_(shape_.hidden_size),
      S_(shape_.state_size()),
      zeros_(S_),
      parts_(sharing_threads(call, threads)),
      work_(threads) {
  blocks_ = (p_.in.B + kBlockRows - 1) / kBlockRows;
  if (p_.in.B >= kRowsPerThread * threads) blocks_ = std::max<std::int64_t>(blocks_, threads);
  for (Block& block : work_) block.reserve((p_.in.B + blocks_ - 1) / blocks_, H_);
}

bool BackwardSteps::run(Team::Member& member) {
  Block& block = work_[member.index()];
  const auto backward = [&](std::int64_t i) {
    block.first = p_.in.B * i / blocks_;
    block.rows = p_.in.B * (i + 1) / blocks_ - block.first;
    return through_time({member, parts_}, block);
  };
  if (parts_ == 1) {
    return member.parallel_for(blocks_, 0, [&](std::int64_t i) { backward(i); });
  }
  for (std::int64_t i = 0; i < blocks_; ++i) {
    if (!backward(i)) return false;
  }
  return true;
}

bool BackwardSteps::multiply(StepTeam team, const Linear& linear, std::int64_t rows,
                             const float* const* x, float* const* out,
                             const float* const* residual) {
  LinearArgs a = linear.args();
  a.rows = rows;
  a.x = x;
  a.out = out;
  a.residual = residual;
  return team.panels(linear.packed().panels(), linear.work(rows),
                     [&](std::int64_t begin, std::int64_t end) {
                       a.panel_begin = begin;
                       a.panel_end = end;
                       cell_.table().of(Dtype::float32).linear(a);
                     });
}

// Goes back through all steps of a block's rows.
bool BackwardSteps::through_time(StepTeam team, Block& k) {
  std::int64_t steps = 0;
  for (std::int64_t r = 0; r < k.rows; ++r) {
    const std::int64_t b = k.first + r;
    steps = std::max(steps, trace_.length(b));
    k.next[r] = nullptr;
    k.carry[r] = p_.dh_n ? p_.dh_n + b * S_ : nullptr;
  }
  if (buffers_.dc.size() && !team.once([&] {
        const std::int64_t first = k.first * H_, floats = k.rows * H_;
        if (p_.dc_n) {
          std::memcpy(buffers_.dc.data() + first, p_.dc_n + first, bytes(floats));
        } else {
          std::memset(buffers_.dc.data() + first, 0, bytes(floats));
        }
      })) {
    return false;
  }
  for (std::int64_t s = steps - 1; s >= 0; --s) {
    // The rows that have a step after this one go first, with a product. The other rows get no
    // gradient from a later step, and no product, since zero times an infinite weight would be NaN.
    // In the steps before this one they have a product, too.
    for (const bool product : {true, false}) {
      std::int64_t n = 0;
      for (std::int64_t r = 0; r < k.rows; ++r) {
        const std::int64_t b = k.first + r;
        if (!k.next[r] == product || s >= trace_.length(b)) continue;
        if (trace_.runs(trace_.term(trace_.time(s, b), b))) k.active[n++] = r;
      }
      if (n && !step(team, k, s, n, product)) return false;
    }
    if (!p_.in.resets) continue;
    std::int64_t n = 0;
    for (std::int64_t r = 0; r < k.rows; ++r) {
      if (trace_.reset_before(s, k.first + r)) k.active[n++] = r;
    }
    if (n && !leave(team, k, n, p_.dreset_h, p_.dreset_c, true)) return false;
  }
  for (std::int64_t r = 0; r < k.rows; ++r) k.active[r] = r;
  return k.rows == 0 || leave(team, k, k.rows, p_.dh_0, p_.dc_0, false);
}

// Takes step s of the n rows k.active, which have a step after it if `product`.
bool BackwardSteps::step(StepTeam team, Block& k, std::int64_t s, std::int64_t n, bool product) {
  bool carried = false;
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int64_t r = k.active[i], b = k.first + r, t = trace_.time(s, b);
    const std::int64_t at = trace_.term(t, b);
    carried = carried || k.carry[r];
    k.nexts[i] = k.next[r];
    k.carries[i] = k.carry[r] ? k.carry[r] : zeros_.data();
    k.dys[i] = dy(t, b);
    k.saved[i] = buffers_.recomputes ? buffers_.gates(at) : trace_.gates(at);
    k.out[i] = buffers_.da(at);
    k.old[i] = buffers_.dc.size() ? trace_.c_old(at) : trace_.h_old(at);
    if (buffers_.dc.size()) {
      k.c[i] = trace_.c_new(at);
      k.dcs[i] = buffers_.dc.data() + b * H_;
    }
    if (buffers_.keep.size()) k.keeps[i] = buffers_.keep.data() + b * H_;
    if (buffers_.hidden.size()) k.hidden[i] = buffers_.hidden.data() + at * H_;
    if (buffers_.dp.size()) k.dp[i] = buffers_.dp.data() + at * S_;
  }
  BackwardArgs a{};
  a.rows = n;
  a.next = product ? k.nexts.data() : nullptr;
  a.dy = p_.dy ? k.dys.data() : nullptr;
  a.carry = carried ? k.carries.data() : nullptr;
  a.saved = k.saved.data();
  a.old = shape_.mode == Mode::rnn ? nullptr : k.old.data();
  a.c = buffers_.dc.size() ? k.c.data() : nullptr;
  a.dc = k.dcs.data();
  a.keep = k.keeps.data();
  a.hidden = buffers_.hidden.size() ? k.hidden.data() : nullptr;
  a.out = k.out.data();
  a.hidden_size = H_;
  a.options = &cell_.options();
  if (shape_.proj_size) {
    if (!project(team, k, n, product, carried)) return false;
    a.next = k.dp.data();
    a.dy = a.carry = nullptr;
  }
  if (!activate(team, a, k)) return false;
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int64_t r = k.active[i];
    k.next[r] = k.out[i] + weights_.state_offset;
    k.carry[r] = buffers_.keep.size() ? k.keeps[i] : nullptr;
  }
  return true;
}

// Computes the gradient of a projected output: dp = next W + dy + carry.
bool BackwardSteps::project(StepTeam team, Block& k, std::int64_t n, bool product, bool carried) {
  if (product && !multiply(team, weights_.state, n, k.nexts.data(), k.dp.data(), nullptr)) {
    return false;
  }
  return team.once([&] {
    for (std::int64_t i = 0; i < n; ++i) {
      if (!product) std::memset(k.dp[i], 0, bytes(S_));
      if (p_.dy) add(k.dp[i], k.dys[i], S_);
      if (carried) add(k.dp[i], k.carries[i], S_);
    }
  });
}

// Calls the kernels of the cell, which go through the activations to the pre-activations.
bool BackwardSteps::activate(StepTeam team, BackwardArgs a, Block& k) {
  const KernelTable& table = cell_.table();
  const auto backward = [&](void (*kernel)(const BackwardArgs&), const Linear& l) {
    a.depth = l.inputs();
    a.weights = l.packed().weights();
    a.panel_stride = l.packed().panel_stride();
    LinearArgs product = l.args();
    product.rows = a.rows;
    product.x = a.next;
    product.out = k.products.data();
    a.product = a.next && product.unpacked ? k.products.data() : nullptr;
    return team.panels(l.packed().panels(), a.next ? l.work(a.rows) : 8.0 * H_ * a.rows,
                       [&](std::int64_t begin, std::int64_t end) {
                         a.panel_begin = product.panel_begin = begin;
                         a.panel_end = product.panel_end = end;
                         if (a.product) table.of(Dtype::float32).linear(product);
                         kernel(a);
                       });
  };
  switch (shape_.mode) {
    case Mode::rnn:
      return backward(table.rnn_backward, weights_.state);
    case Mode::lstm:
      return backward(table.lstm_backward, shape_.proj_size ? weights_.projection : weights_.state);
    case Mode::gru:
      break;
  }
  if (shape_.reset_after) return backward(table.gru_backward, weights_.state);
  if (!backward(table.gru_backward_gates, weights_.state)) return false;
  a.next = k.out.data();
  a.dy = a.carry = nullptr;
  return backward(table.gru_backward_reset, weights_.reset);
}

// Adds the gradient of the state that the rows k.active began with to their rows of dh and dc, [B,
// ...]. With `on`, the rows go on to steps before a reset, whose last state has no gradient yet.
bool BackwardSteps::leave(StepTeam team, Block& k, std::int64_t n, float* dh, float* dc, bool on) {
  float* const c = buffers_.dc.data();
  if (!team.once([&] {
        for (std::int64_t i = 0; i < n; ++i) {
          const std::int64_t r = k.active[i], b = k.first + r;
          if (dh && k.carry[r]) add(dh + b * S_, k.carry[r], S_);
          if (!buffers_.dc.size()) continue;
          if (dc) add(dc + b * H_, c + b * H_, H_);
          if (on) std::memset(c + b * H_, 0, bytes(H_));
        }
      })) {
    return false;
  }
  std::int64_t products = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int64_t r = k.active[i];
    if (dh && k.next[r]) {
      k.nexts[products] = k.next[r];
      k.out[products++] = dh + (k.first + r) * S_;
    }
    if (on) k.next[r] = k.carry[r] = nullptr;
  }
  return products == 0 ||
         multiply(team, weights_.state, products, k.nexts.data(), k.out.data(), k.out.data());
}

}  // namespace treadle

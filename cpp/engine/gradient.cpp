#include "engine/gradient.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "engine/team.h"
#include "runtime/buffer.h"

namespace weft {
namespace {

// Rows that go back through time together. With fewer for each thread, threads share panels instead.
constexpr std::int64_t kBlockRows = 128, kRowsPerThread = 8;
// One task of a weight's gradient: rows and columns of it, and terms between two looks at the
// interrupt. Its operands, kOuterTerms of each, stay in L2.
constexpr std::int64_t kOuterRows = 192, kOuterColumns = 256, kTerms = 64 * kOuterTerms;
constexpr double kListWork = 100;       // to list a row, in multiply-adds
constexpr std::int64_t kDxRows = 4096;  // of one product, between two barriers

Linear transposed(const KernelTable& table, std::int64_t outputs,
                  std::initializer_list<Operand> operands) {
  return Linear(table, outputs, Packed::transposed(outputs, operands, table.lanes));
}

void add(float* to, const float* from, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) to[i] += from[i];
}

std::size_t bytes(std::int64_t floats) { return static_cast<std::size_t>(floats) * sizeof(float); }

}  // namespace

Gradient::Gradient(const Cell& cell, const CellWeights& w) : table_(&cell.table()), cell_(&cell) {
  const KernelTable& table = *table_;
  const CellShape& shape = cell.shape();
  const std::int64_t I = shape.input_size, H = shape.hidden_size, S = shape.state_size();
  switch (shape.mode) {
    case Mode::rnn:
    case Mode::lstm:
      width_ = gate_count(shape.mode) * H;
      state_offset_ = 0;
      input_ = transposed(table, I, {{w.weight_ih, width_}});
      state_ = transposed(table, S, {{w.weight_hh, width_}});
      if (shape.proj_size) projection_ = transposed(table, H, {{w.weight_hr, S}});
      break;
    case Mode::gru:
      // n, r, z, and the state part of n where it has its own gradient.
      width_ = (shape.reset_after ? 4 : 3) * H;
      state_offset_ = H;
      input_ = transposed(table, I, {{w.weight_ih + 2 * H * I, H}, {w.weight_ih, 2 * H}});
      state_ = transposed(table, S, {{w.weight_hh, width_ - H}});
      if (!shape.reset_after) reset_ = transposed(table, H, {{w.weight_hh + 2 * H * S, H}});
      break;
  }
}

// One run: the buffers of all threads, and the stages.
class Gradient::Run {
 public:
  Run(const Gradient& gradient, const BackPass& pass, Interrupt& interrupt)
      : g_(gradient),
        p_(pass),
        shape_(gradient.cell_->shape()),
        I_(shape_.input_size),
        H_(shape_.hidden_size),
        S_(shape_.state_size()),
        zeros_(std::max({H_, S_, gradient.width_})),
        interrupt_(interrupt) {}

  void run() {
    const double rows = static_cast<double>(p_.T) * static_cast<double>(p_.B);
    Team team(2 * rows * static_cast<double>(g_.cell_->step_work()), interrupt_);
    list();
    da_ = Buffer::uninitialized(p_.T * p_.B * g_.width_);
    if (shape_.proj_size) {
      dp_ = Buffer::uninitialized(p_.T * p_.B * S_);
      hidden_ = Buffer::uninitialized(p_.T * p_.B * H_);
    }
    if (!shape_.reset_after && shape_.mode == Mode::gru) {
      hidden_ = Buffer::uninitialized(p_.T * p_.B * H_);
    }
    if (p_.mask && p_.dy) fold_repeated();
    if (shape_.mode == Mode::gru) keep_ = Buffer::uninitialized(p_.B * H_);
    if (shape_.mode == Mode::lstm) dc_ = Buffer::uninitialized(p_.B * H_);
    const bool split_rows = team.size() == 1 || p_.B >= kRowsPerThread * team.size();
    const std::int64_t most = (p_.B + kBlockRows - 1) / kBlockRows;
    const std::int64_t blocks =
        split_rows ? std::max<std::int64_t>(most, std::min<std::int64_t>(team.size(), p_.B)) : most;
    std::vector<Block> work(team.size());  // one of each thread
    for (Block& block : work) block.reserve((p_.B + blocks - 1) / blocks);
    const std::vector<OuterArgs> outer = outer_tasks();
    const std::vector<SumArgs> sums = sum_tasks();
    team.run([&](Team::Member& member) {
      Block& block = work[member.index()];
      const auto choose = [&](std::int64_t i) {
        block.first = p_.B * i / blocks;
        block.rows = p_.B * (i + 1) / blocks - block.first;
      };
      if (split_rows) {
        const auto task = [&](std::int64_t i) {
          choose(i);
          through_time(member, block, true);
        };
        if (!member.share(blocks, 0, task)) return;
      } else {
        for (std::int64_t i = 0; i < blocks; ++i) {
          choose(i);
          if (!through_time(member, block, false)) return;
        }
      }
      if (!input_gradient(member)) return;
      member.share(static_cast<std::int64_t>(outer.size() + sums.size()), 0, [&](std::int64_t i) {
        const auto at = static_cast<std::size_t>(i);
        if (at < outer.size()) {
          add_products(member, outer[at]);
        } else {
          add_rows(member, sums[at - outer.size()]);
        }
      });
    });
    copy_biases();
  }

 private:
  // Rows that go through time together.
  struct Block {
    std::int64_t first = 0, rows = 0;
    std::vector<const float*> next, carry;  // of each row: [rows]
    // Of a step's active rows.
    std::vector<std::int64_t> active;
    std::vector<const float*> nexts, dys, carries, saved, old;
    std::vector<float*> dcs, keeps, hidden, out, dp;

    void reserve(std::int64_t n) {
      for (auto* list : {&next, &carry, &nexts, &dys, &carries, &saved, &old}) {
        list->resize(n);
      }
      for (auto* list : {&dcs, &keeps, &hidden, &out, &dp}) list->resize(n);
      active.resize(n);
    }
  };

  std::int64_t length(std::int64_t b) const { return p_.lengths ? p_.lengths[b] : p_.T; }
  // The time that a row is at in step s of the forward pass.
  std::int64_t time(std::int64_t s, std::int64_t b) const {
    return p_.reverse ? length(b) - 1 - s : s;
  }
  bool runs(std::int64_t t, std::int64_t b) const { return h_old_[t * p_.B + b] != nullptr; }
  // Whether the row's state was replaced before step s.
  bool reset_before(std::int64_t s, std::int64_t b) const {
    if (!p_.resets || s >= length(b) || (p_.reverse && s == 0)) return false;
    return p_.resets[(time(s, b) + (p_.reverse ? 1 : 0)) * p_.B + b] != 0;
  }
  float* da(std::int64_t t, std::int64_t b) { return da_.data() + (t * p_.B + b) * g_.width_; }
  const float* saved(std::int64_t t, std::int64_t b) const {
    return shape_.mode == Mode::rnn && !g_.cell_->saved_size()
               ? p_.y + t * p_.y_t + b * p_.y_b
               : p_.saved + (t * p_.B + b) * g_.cell_->saved_size();
  }

  // Lists all steps of all rows that run, in the order of time, and the states before them.
  void list() {
    const auto at = [&](const float* data, std::int64_t b, std::int64_t size) {
      return data ? data + b * size : zeros_.data();
    };
    const bool lstm = shape_.mode == Mode::lstm;
    h_old_.assign(p_.T * p_.B, nullptr);
    if (lstm) c_old_.assign(p_.T * p_.B, nullptr);
    std::vector<const float*> h(p_.B), c(p_.B);
    for (std::int64_t b = 0; b < p_.B; ++b) {
      h[b] = at(p_.h_0, b, S_);
      c[b] = at(p_.c_0, b, H_);
    }
    std::int64_t total = 0;
    for (std::int64_t s = 0; s < p_.T && !interrupt_.stopped(); ++s) {
      for (std::int64_t b = 0; b < p_.B; ++b) {
        if (s >= length(b)) continue;
        const std::int64_t t = time(s, b), i = t * p_.B + b;
        if (reset_before(s, b)) {
          h[b] = at(p_.reset_h, b, S_);
          c[b] = at(p_.reset_c, b, H_);
        }
        if (p_.mask && !p_.mask[b * p_.T + t]) continue;
        ++total;
        h_old_[i] = h[b];
        h[b] = p_.y + t * p_.y_t + b * p_.y_b;
        if (!lstm) continue;
        c_old_[i] = c[b];
        c[b] = saved(t, b) + 4 * H_;
      }
      interrupt_.progress(static_cast<double>(p_.B) * kListWork);
    }
    terms_.reserve(total);
    for (std::int64_t i = 0; i < p_.T * p_.B; ++i) {
      if (h_old_[i]) terms_.push_back(i);
    }
  }

  // The gradient of an output that was repeated in the steps after it is the sum of theirs.
  void fold_repeated() {
    dy_ = Buffer(p_.T * p_.B * S_);
    for (std::int64_t b = 0; b < p_.B; ++b) {
      std::vector<float> sum(S_, 0.0f);
      for (std::int64_t s = length(b) - 1; s >= 0 && !interrupt_.stopped(); --s) {
        const std::int64_t t = time(s, b);
        add(sum.data(), p_.dy + t * p_.dy_t + b * p_.dy_b, S_);
        interrupt_.progress(static_cast<double>(S_) * 8);
        if (!runs(t, b)) continue;
        std::memcpy(dy_.data() + (t * p_.B + b) * S_, sum.data(), bytes(S_));
        std::fill(sum.begin(), sum.end(), 0.0f);
      }
    }
  }
  const float* dy(std::int64_t t, std::int64_t b) const {
    if (dy_.size()) return dy_.data() + (t * p_.B + b) * S_;
    return p_.dy ? p_.dy + t * p_.dy_t + b * p_.dy_b : zeros_.data();
  }

  // A kernel's panels: all of them by this thread, or shared out among the team.
  template <class Call>
  bool panels(Team::Member& member, bool alone, std::int64_t count, double work, Call call) {
    if (!alone) {
      return member.share(count, work / static_cast<double>(std::max<std::int64_t>(1, count)),
                          [&](std::int64_t i) { call(i, i + 1); });
    }
    call(0, count);
    return member.progress(work);
  }

  bool multiply(Team::Member& member, bool alone, const Linear& linear, std::int64_t rows,
                const float* const* x, float* const* out, const float* const* residual) {
    LinearArgs a = linear.args();
    a.rows = rows;
    a.x = x;
    a.out = out;
    a.residual = residual;
    return panels(member, alone, linear.packed().panels(), linear.work(rows),
                  [&](std::int64_t begin, std::int64_t end) {
                    a.panel_begin = begin;
                    a.panel_end = end;
                    g_.table_->linear(a);
                  });
  }

  // Back through the steps of a block's rows; with `alone` false every thread of the team calls it.
  // Lists are made by every thread for itself then, and are the same: only the first writes states.
  bool through_time(Team::Member& member, Block& k, bool alone) {
    const bool writes = alone || member.index() == 0;
    std::int64_t steps = 0;
    for (std::int64_t r = 0; r < k.rows; ++r) {
      const std::int64_t b = k.first + r;
      steps = std::max(steps, length(b));
      k.next[r] = nullptr;
      k.carry[r] = p_.dh_n ? p_.dh_n + b * S_ : nullptr;
      if (!writes) continue;
      if (dc_.size()) {
        if (p_.dc_n) {
          std::memcpy(dc_.data() + b * H_, p_.dc_n + b * H_, bytes(H_));
        } else {
          std::memset(dc_.data() + b * H_, 0, bytes(H_));
        }
      }
    }
    if (!alone && !member.share(0, 0, [](std::int64_t) {})) return false;
    for (std::int64_t s = steps - 1; s >= 0; --s) {
      // First the rows with a step after this one: zero times a weight of infinity were NaN in the
      // others. They have one, too, from here on.
      for (const bool product : {true, false}) {
        std::int64_t n = 0;
        for (std::int64_t r = 0; r < k.rows; ++r) {
          const std::int64_t b = k.first + r;
          if (!k.next[r] == product || s >= length(b) || !runs(time(s, b), b)) continue;
          k.active[n++] = r;
        }
        if (n && !step(member, alone, k, s, n, product)) return false;
      }
      if (!p_.resets) continue;
      std::int64_t n = 0;
      for (std::int64_t r = 0; r < k.rows; ++r) {
        if (reset_before(s, k.first + r)) k.active[n++] = r;
      }
      if (n && !leave(member, alone, k, n, p_.dreset_h, p_.dreset_c, true)) return false;
    }
    for (std::int64_t r = 0; r < k.rows; ++r) k.active[r] = r;
    return k.rows == 0 || leave(member, alone, k, k.rows, p_.dh_0, p_.dc_0, false);
  }

  bool step(Team::Member& member, bool alone, Block& k, std::int64_t s, std::int64_t n,
            bool product) {
    bool carried = false;
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int64_t r = k.active[i], b = k.first + r, t = time(s, b), at = t * p_.B + b;
      carried = carried || k.carry[r];
      k.nexts[i] = k.next[r];
      k.carries[i] = k.carry[r] ? k.carry[r] : zeros_.data();
      k.dys[i] = dy(t, b);
      k.saved[i] = saved(t, b);
      k.out[i] = da(t, b);
      if (dc_.size()) {
        k.old[i] = c_old_[at];
        k.dcs[i] = dc_.data() + b * H_;
      } else {
        k.old[i] = h_old_[at];
      }
      if (keep_.size()) k.keeps[i] = keep_.data() + b * H_;
      if (hidden_.size()) k.hidden[i] = hidden_.data() + at * H_;
      if (dp_.size()) k.dp[i] = dp_.data() + at * S_;
    }
    BackArgs a{};
    a.rows = n;
    a.next = product ? k.nexts.data() : nullptr;
    a.dy = p_.dy ? k.dys.data() : nullptr;
    a.carry = carried ? k.carries.data() : nullptr;
    a.saved = k.saved.data();
    a.old = k.old.data();
    a.dc = k.dcs.data();
    a.keep = k.keeps.data();
    a.hidden = hidden_.size() ? k.hidden.data() : nullptr;
    a.out = k.out.data();
    a.hidden_size = H_;
    a.options = &g_.cell_->options();
    const Linear* linear = &g_.state_;
    if (shape_.proj_size) {
      if (!projected(member, alone, k, n, product, carried)) return false;
      a.next = k.dp.data();
      a.dy = a.carry = nullptr;
      linear = &g_.projection_;
    }
    const auto back = [&](void (*kernel)(const BackArgs&), const Linear& l) {
      a.depth = l.inputs();
      a.weights = l.packed().weights();
      a.panel_stride = l.packed().panel_stride();
      return panels(member, alone, l.packed().panels(), a.next ? l.work(n) : 8.0 * H_ * n,
                    [&](std::int64_t begin, std::int64_t end) {
                      a.panel_begin = begin;
                      a.panel_end = end;
                      kernel(a);
                    });
    };
    const KernelTable& table = *g_.table_;
    switch (shape_.mode) {
      case Mode::rnn:
        if (!back(table.rnn_back, *linear)) return false;
        break;
      case Mode::lstm:
        if (!back(table.lstm_back, *linear)) return false;
        break;
      case Mode::gru:
        if (!back(shape_.reset_after ? table.gru_back : table.gru_back_gates, *linear))
          return false;
        if (shape_.reset_after) break;
        a.next = k.out.data();
        a.dy = a.carry = nullptr;
        if (!back(table.gru_back_reset, g_.reset_)) return false;
        break;
    }
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int64_t r = k.active[i];
      k.next[r] = k.out[i] + g_.state_offset_;
      k.carry[r] = keep_.size() ? k.keeps[i] : nullptr;
    }
    return true;
  }

  // The gradient of a projected output: dp = next W + dy + carry.
  bool projected(Team::Member& member, bool alone, Block& k, std::int64_t n, bool product,
                 bool carried) {
    if (product && !multiply(member, alone, g_.state_, n, k.nexts.data(), k.dp.data(), nullptr)) {
      return false;
    }
    if (alone || member.index() == 0) {
      for (std::int64_t i = 0; i < n; ++i) {
        if (!product) std::memset(k.dp[i], 0, bytes(S_));
        if (p_.dy) add(k.dp[i], k.dys[i], S_);
        if (carried) add(k.dp[i], k.carries[i], S_);
      }
    }
    return alone || member.share(0, 0, [](std::int64_t) {});
  }

  // The gradient of the state that the rows k.active began with goes to dh and dc, rows of [B]; with
  // `on` the rows go on from a state that has none yet.
  bool leave(Team::Member& member, bool alone, Block& k, std::int64_t n, float* dh, float* dc,
             bool on) {
    const bool writes = alone || member.index() == 0;
    if (dh) {
      std::int64_t products = 0;
      for (std::int64_t i = 0; i < n; ++i) {
        const std::int64_t r = k.active[i], b = k.first + r;
        float* to = dh + b * S_;
        if (writes && k.carry[r]) add(to, k.carry[r], S_);
        if (!k.next[r]) continue;
        k.nexts[products] = k.next[r];
        k.out[products++] = to;
      }
      if (!alone && !member.share(0, 0, [](std::int64_t) {})) return false;
      if (products && !multiply(member, alone, g_.state_, products, k.nexts.data(), k.out.data(),
                                k.out.data())) {
        return false;
      }
    }
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int64_t r = k.active[i], b = k.first + r;
      if (writes && dc && dc_.size()) add(dc + b * H_, dc_.data() + b * H_, H_);
      if (!on) continue;
      k.next[r] = k.carry[r] = nullptr;
      if (writes && dc_.size()) std::memset(dc_.data() + b * H_, 0, bytes(H_));
    }
    return alone || member.share(0, 0, [](std::int64_t) {});
  }

  bool input_gradient(Team::Member& member) {
    if (!p_.dx) return true;
    const auto total = static_cast<std::int64_t>(terms_.size());
    for (std::int64_t first = 0; first < total; first += kDxRows) {
      const ProductRows rows{std::min(kDxRows, total - first), da_rows_.data() + first,
                             dx_rows_.data() + first, nullptr,
                             p_.add ? dx_rows_.data() + first : nullptr};
      if (!g_.input_.run(member, rows)) return false;
    }
    return true;
  }

  // Gradients [rows, columns] of the products of the pre-activations from `offset` on with `b`.
  void cut(std::vector<OuterArgs>& tasks, const std::vector<const float*>& a, std::int64_t offset,
           std::int64_t rows, const std::vector<const float*>& b, std::int64_t columns,
           float* out) {
    for (std::int64_t n = 0; n < rows; n += kOuterRows) {
      for (std::int64_t i = 0; i < columns; i += kOuterColumns) {
        tasks.push_back({static_cast<std::int64_t>(terms_.size()), a.data(), offset, b.data(), out,
                         columns, n, std::min(rows, n + kOuterRows), i,
                         std::min(columns, i + kOuterColumns)});
      }
    }
  }

  std::vector<OuterArgs> outer_tasks() {
    for (auto* list : {&da_rows_, &x_rows_, &h_rows_}) list->reserve(terms_.size());
    for (const std::int64_t i : terms_) {
      const std::int64_t t = i / p_.B, b = i % p_.B;
      da_rows_.push_back(da(t, b));
      x_rows_.push_back(p_.x + t * p_.x_t + b * p_.x_b);
      if (p_.dx) dx_rows_.push_back(p_.dx + t * p_.dx_t + b * p_.dx_b);
      h_rows_.push_back(h_old_[i]);
      if (c_old_.empty()) {
        if (hidden_.size()) hidden_rows_.push_back(hidden_.data() + i * H_);
        continue;
      }
      c_old_rows_.push_back(c_old_[i]);
      c_new_rows_.push_back(saved(t, b) + 4 * H_);
      if (!dp_.size()) continue;
      dp_rows_.push_back(dp_.data() + i * S_);
      hidden_rows_.push_back(hidden_.data() + i * H_);
    }
    std::vector<OuterArgs> tasks;
    float *ih = p_.weight_ih, *hh = p_.weight_hh;
    if (shape_.mode != Mode::gru) {
      cut(tasks, da_rows_, 0, g_.width_, x_rows_, I_, ih);
      cut(tasks, da_rows_, 0, g_.width_, h_rows_, S_, hh);
      if (dp_.size()) cut(tasks, dp_rows_, 0, S_, hidden_rows_, H_, p_.weight_hr);
      return tasks;
    }
    cut(tasks, da_rows_, H_, 2 * H_, x_rows_, I_, ih);
    cut(tasks, da_rows_, 0, H_, x_rows_, I_, ih + 2 * H_ * I_);
    if (shape_.reset_after) {
      cut(tasks, da_rows_, H_, 3 * H_, h_rows_, S_, hh);
    } else {
      cut(tasks, da_rows_, H_, 2 * H_, h_rows_, S_, hh);
      cut(tasks, da_rows_, 0, H_, hidden_rows_, H_, hh + 2 * H_ * S_);
    }
    return tasks;
  }

  std::vector<SumArgs> sum_tasks() {
    std::vector<SumArgs> tasks;
    const auto sum = [&](std::int64_t offset, std::int64_t size, float* out,
                         const std::vector<const float*>* b = nullptr) {
      if (out) {
        tasks.push_back({static_cast<std::int64_t>(terms_.size()), da_rows_.data(), offset,
                         b ? b->data() : nullptr, size, out});
      }
    };
    // Both biases have the same gradient but for the state part of a candidate, see copy_biases.
    float* bias = p_.bias_ih ? p_.bias_ih : p_.bias_hh;
    if (bias && shape_.mode != Mode::gru) sum(0, g_.width_, bias);
    if (bias && shape_.mode == Mode::gru) {
      sum(H_, 2 * H_, bias);
      if (p_.bias_ih) sum(0, H_, p_.bias_ih + 2 * H_);
      if (p_.bias_hh) sum(shape_.reset_after ? 3 * H_ : 0, H_, p_.bias_hh + 2 * H_);
    }
    if (p_.peepholes) {  // ONNX's order i, o, f
      sum(0, H_, p_.peepholes, &c_old_rows_);
      sum(3 * H_, H_, p_.peepholes + H_, &c_new_rows_);
      sum(H_, H_, p_.peepholes + 2 * H_, &c_old_rows_);
    }
    return tasks;
  }

  void copy_biases() {
    if (!p_.bias_ih || !p_.bias_hh) return;
    const std::int64_t same = shape_.mode == Mode::gru ? 2 * H_ : g_.width_;
    std::memcpy(p_.bias_hh, p_.bias_ih, bytes(same));
  }

  void add_products(Team::Member& member, OuterArgs a) {
    const std::int64_t terms = a.terms;
    for (std::int64_t k = 0; k < terms; k += kTerms, a.a += kTerms, a.b += kTerms) {
      a.terms = std::min(kTerms, terms - k);
      g_.table_->outer(a);
      const auto size =
          static_cast<double>((a.row_end - a.row_begin) * (a.column_end - a.column_begin));
      if (!member.progress(size * static_cast<double>(a.terms))) return;
    }
  }

  void add_rows(Team::Member& member, SumArgs a) {
    const std::int64_t terms = a.terms;
    for (std::int64_t k = 0; k < terms; k += kTerms, a.a += kTerms) {
      a.terms = std::min(kTerms, terms - k);
      g_.table_->sum_rows(a);
      if (a.b) a.b += kTerms;
      if (!member.progress(static_cast<double>(a.size) * static_cast<double>(a.terms))) return;
    }
  }

  const Gradient& g_;
  const BackPass& p_;
  const CellShape& shape_;
  const std::int64_t I_, H_, S_;
  const Buffer zeros_;
  Interrupt& interrupt_;
  // By t * B + b: the states before a step that runs, else null.
  std::vector<const float*> h_old_, c_old_;
  std::vector<std::int64_t> terms_;  // those that run, upwards
  // The operands of the weights' gradients, by term.
  std::vector<const float*> da_rows_, x_rows_, h_rows_, c_old_rows_, c_new_rows_, dp_rows_,
      hidden_rows_;
  std::vector<float*> dx_rows_;
  Buffer da_;      // [T, B, width]
  Buffer dp_;      // [T, B, P] with a projection: gradients of the outputs
  Buffer hidden_;  // [T, B, H]: unprojected outputs; GRU, reset before: r h
  Buffer dy_;      // [T, B, state_size], where a mask repeats outputs
  Buffer dc_;      // LSTM: [B, H]
  Buffer keep_;    // GRU: [B, H]
};

void Gradient::run(const BackPass& pass, Interrupt& interrupt) const {
  if (pass.T && pass.B) {
    Run(*this, pass, interrupt).run();
    return;
  }
  // No step: the gradients of the last state are those of the first.
  const CellShape& shape = cell_->shape();
  if (pass.dh_n && pass.dh_0) std::copy_n(pass.dh_n, pass.B * shape.state_size(), pass.dh_0);
  if (pass.dc_n && pass.dc_0) std::copy_n(pass.dc_n, pass.B * shape.hidden_size, pass.dc_0);
}

}  // namespace weft

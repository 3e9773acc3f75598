#include "engine/recurrent/sequence.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "engine/recurrent/chunks.h"

namespace treadle {
namespace {

// Between two looks at the interrupt lie so many multiply-adds, about 5 ms of one core.
constexpr double kPieceWork = 2.5e8;
// A second thread pays from these numbers on. A step shared by panels ends in a barrier (0.3 us).
constexpr std::int64_t kRowsPerThread = 8;
constexpr double kStepMicros = 2.0, kShareMicros = 20.0;

// One thread's share of a pass: some of the rows, or parts of the panels of every product. Threads
// that share panels all make the same lists of rows, each for itself; what is written for all of
// them is written in the parts.
class Runner {
 public:
  // `thread` is the number of the buffers that this thread uses, `first` that of those whose sums
  // it uses. A member of a team of one runs its rows alone.
  Runner(const Pass& pass, Workspace& workspace, int thread, int first, Phases::Member& member,
         int parts)
      : p_(pass),
        cell_(*pass.cell),
        shared_(workspace),
        w_(workspace.thread(thread)),
        sums_(workspace.thread(first).sums.data()),
        member_(member),
        parts_(parts),
        state_size_(cell_.shape().state_size()),
        saved_gates_(pass.recompute ? 0 : cell_.saved_gates()) {}

  // Runs the rows first, first + stride, ... of the pass's order, block by block.
  void run(std::int64_t first, std::int64_t stride) {
    const std::int64_t total = first < p_.in.B ? (p_.in.B - first + stride - 1) / stride : 0;
    const std::int64_t blocks = (total + kBlockRows - 1) / kBlockRows;
    std::int64_t done = 0;
    for (std::int64_t i = 0; i < blocks; ++i) {
      const std::int64_t count = (total - done) / (blocks - i);
      for (std::int64_t r = 0; r < count; ++r) {
        const std::int64_t at = first + (done + r) * stride;
        w_.rows[r] = p_.order ? p_.order[at] : at;
      }
      if (!run_block(count)) return;
      done += count;
    }
  }

 private:
  std::int64_t length(std::int64_t row) const {
    return p_.in.lengths ? p_.in.lengths[row] : p_.in.T;
  }

  float* output(std::int64_t t, std::int64_t row) const {
    return p_.y + p_.in.offset(t, row, p_.y_t, p_.y_b);
  }

  // Returns the time of a row in step s.
  std::int64_t time(std::int64_t s, std::int64_t row) const {
    return p_.reverse ? length(row) - 1 - s : s;
  }

  bool run_block(std::int64_t count) {
    std::int64_t steps = 0;
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t row = w_.rows[i];
      w_.state[i] = p_.in.h_0 ? p_.in.h_0 + row * state_size_ : cell_.zero_state();
      w_.last[i] = p_.in.continued ? w_.state[i] : nullptr;
      steps = std::max(steps, length(row));
    }
    const std::int64_t I = cell_.shape().input_size;
    const bool hoist = hoists(cell_, count, steps);
    const std::int64_t chunk_rows = chunk_capacity(cell_, count, hoist);
    for (std::int64_t s = 0; s < steps;) {
      const std::int64_t end = std::min(steps, s + chunk_rows / count);
      const std::int64_t rows = plan(count, s, end);
      if (hoist) {
        const std::int64_t sums = cell_.input_sums();
        for (std::int64_t i = 0; i < rows; ++i) w_.partial[i] = sums_ + i * sums;
        const double work = static_cast<double>(rows) * I * sums;
        if (!member_.share([&](int part, int last) {
              in_pieces(work, part, last, [&](PanelShare share) {
                cell_.input_part(rows, w_.x.data(), w_.partial.data(), share, w_.scratch);
              });
            })) {
          return false;
        }
      }
      std::int64_t first = 0;
      for (std::int64_t i = 0; s < end;) {
        const std::int64_t active = w_.steps[i], together = joined(i, end - s);
        if (!step(s, together, count, first, active, hoist)) return false;
        first += together * active;
        i += together;
        s += together;
      }
    }
    return finish(count);
  }

  // Lists the active rows of the steps [begin, end): how many in each, their inputs and outputs.
  std::int64_t plan(std::int64_t count, std::int64_t begin, std::int64_t end) {
    std::int64_t n = 0;
    for (std::int64_t s = begin; s < end; ++s) {
      const std::int64_t first = n;
      for (std::int64_t i = 0; i < count; ++i) {
        const std::int64_t row = w_.rows[i], t = time(s, row);
        if (s >= length(row)) break;  // the rows are sorted, the longest first
        if (p_.in.mask && !p_.in.mask[row * p_.in.T + t]) continue;
        w_.active[n] = i;
        w_.x[n] = p_.in.x_row(t, row);
        w_.out[n] = output(t, row);
        if (p_.saved) {
          w_.saved[n] = p_.saved + (t * p_.in.B + row) * cell_.saved_size(p_.recompute);
          w_.saved_c[n] = w_.saved[n] + saved_gates_;
        }
        ++n;
      }
      w_.steps[s - begin] = n - first;
    }
    return n;
  }

  // Returns how many of the next `left` steps of a chunk, from its step i on, one call makes. They
  // have the same rows, nothing happens between them, and together they are less than a piece.
  std::int64_t joined(std::int64_t i, std::int64_t left) const {
    const std::int64_t active = w_.steps[i];
    if (parts_ > 1 || !cell_.joins_steps() || p_.in.mask || p_.in.resets || !active) return 1;
    const double most = (kPieceWork - 1) / static_cast<double>(active * cell_.step_work());
    std::int64_t together = 1;
    while (together < left && together < most - 1 && w_.steps[i + together] == active) ++together;
    return together;
  }

  // Makes step s and those that are joined to it; returns false when the team stops.
  bool step(std::int64_t s, std::int64_t together, std::int64_t count, std::int64_t first,
            std::int64_t active, bool hoisted) {
    // Masked and finished rows need no products, but take some time, too.
    member_.progress(static_cast<double>(together * count * state_size_));
    if (p_.in.resets) reset_rows(s, count);
    if (p_.in.mask) list_repeated(s, count, first, active);
    const std::int64_t H = cell_.shape().hidden_size;
    for (std::int64_t i = 0; i < active; ++i) {
      const std::int64_t at = w_.active[first + i], row = w_.rows[at];
      w_.h[i] = w_.state[at];
      w_.c[i] = p_.c ? p_.c + row * H : nullptr;
      if (cell_.phases() == 2) {
        w_.between[i] = shared_.between().data() + row * H;
        w_.update[i] = shared_.update().data() + row * H;
      }
      w_.state[at] = w_.last[at] = w_.out[first + (together - 1) * active + i];
    }
    const bool saves_c = p_.saved && cell_.shape().mode == Mode::lstm;
    const StepRows rows{active,
                        hoisted ? nullptr : w_.x.data() + first,
                        hoisted ? w_.partial.data() + first : nullptr,
                        w_.h.data(),
                        w_.c.data(),
                        w_.out.data() + first,
                        w_.between.data(),
                        w_.update.data(),
                        p_.saved && saved_gates_ ? w_.saved.data() + first : nullptr,
                        saves_c ? w_.saved_c.data() + first : nullptr,
                        w_.descending,
                        together};
    if (together % 2 == 1) w_.descending = !w_.descending;
    const double work = static_cast<double>(together * active) * cell_.step_work();
    for (int phase = 0; phase < cell_.phases(); ++phase) {
      if (!member_.share([&](int part, int last) {
            if (phase == 0 && p_.in.resets && p_.c) reset_c(s, count, part, last);
            if (phase == 0 && part == 0 && p_.in.mask) repeat_outputs();
            if (!active) return;
            in_pieces(work, part, last,
                      [&](PanelShare share) { cell_.step(phase, rows, share, w_.scratch); });
          })) {
        return false;
      }
    }
    return true;
  }

  // Tells whether the state of row i of the block starts anew before step s. A reset at t separates
  // t - 1 from t, in both directions.
  bool resets(std::int64_t s, std::int64_t i) const {
    const std::int64_t row = w_.rows[i];
    if (s >= length(row) || (p_.reverse && s == 0)) return false;
    return p_.in.resets[(time(s, row) + (p_.reverse ? 1 : 0)) * p_.in.B + row] != 0;
  }

  // Before a step, sets the states h that start anew to zero or to the reset state.
  void reset_rows(std::int64_t s, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) {
      if (!resets(s, i)) continue;
      w_.state[i] = p_.in.reset_h ? p_.in.reset_h + w_.rows[i] * state_size_ : cell_.zero_state();
    }
  }

  // Does the same for the states c, in the units of the parts.
  void reset_c(std::int64_t s, std::int64_t count, int part, int last) {
    const std::int64_t H = cell_.shape().hidden_size;
    const std::int64_t begin = cell_.first_unit(part, parts_);
    const std::int64_t end = cell_.first_unit(last, parts_);
    for (std::int64_t i = 0; i < count; ++i) {
      if (!resets(s, i)) continue;
      const std::int64_t row = w_.rows[i];
      for (std::int64_t unit = begin; unit < end; ++unit) {
        p_.c[row * H + unit] = p_.in.reset_c ? p_.in.reset_c[row * H + unit] : 0.0f;
      }
    }
  }

  // The output of a masked row repeats the output before it. At first it is zero, as in Keras, or
  // the first state where the call continues another one. Lists what is to be copied.
  void list_repeated(std::int64_t s, std::int64_t count, std::int64_t first, std::int64_t active) {
    std::int64_t next = first;
    w_.repeated.clear();
    for (std::int64_t i = 0; i < count; ++i) {
      if (next < first + active && w_.active[next] == i) {
        ++next;
        continue;
      }
      const std::int64_t row = w_.rows[i];
      float* out = output(time(s, row), row);
      w_.repeated.push_back({out, w_.last[i] ? w_.last[i] : cell_.zero_state()});
      w_.last[i] = out;
    }
  }

  void repeat_outputs() {
    const std::size_t bytes = static_cast<std::size_t>(state_size_) * sizeof(float);
    for (const auto& [out, from] : w_.repeated) std::memcpy(out, from, bytes);
  }

  // Writes the final states, and zeros beyond the lengths.
  bool finish(std::int64_t count) {
    return member_.once([&] {
      const std::size_t bytes = static_cast<std::size_t>(state_size_) * sizeof(float);
      for (std::int64_t i = 0; i < count; ++i) {
        const std::int64_t row = w_.rows[i];
        float* h_n = p_.h_n + row * state_size_;
        if (h_n != w_.state[i]) std::memcpy(h_n, w_.state[i], bytes);
        if (p_.in.first_step) continue;  // there is nothing beyond the lengths
        for (std::int64_t t = length(row); t < p_.in.T && !member_.stopped(); ++t) {
          member_.progress(static_cast<double>(state_size_));
          std::memset(output(t, row), 0, bytes);
        }
      }
    });
  }

  // Computes parts, in pieces so short that no interrupt has to wait.
  template <class Call>
  void in_pieces(double work, int part, int last, Call call) {
    const int width = last - part;
    work = work * width / parts_;
    const int pieces = 1 + static_cast<int>(std::min(work / kPieceWork, 1e4));
    for (int i = 0; i < pieces && !member_.stopped(); ++i) {
      call(PanelShare{part * pieces + i * width, part * pieces + (i + 1) * width, parts_ * pieces});
      member_.progress(work / pieces);
    }
  }

  const Pass& p_;
  const Cell& cell_;
  Workspace& shared_;
  Workspace::Thread& w_;
  float* const sums_;
  Phases::Member& member_;
  const int parts_;  // of the panels: one for each thread that shares them
  const std::int64_t state_size_, saved_gates_;
};

// Tells whether the threads split the rows. They then need no barrier, but each reads all weights,
// which pays if each thread can fill its tiles.
bool splits_rows(const Pass& pass, int threads) { return pass.in.B >= kRowsPerThread * threads; }

double total_rows(const Pass& pass) {
  if (!pass.in.lengths) return static_cast<double>(pass.in.T) * pass.in.B;
  double sum = 0;
  for (std::int64_t b = 0; b < pass.in.B; ++b) sum += pass.in.lengths[b];
  return sum;
}

}  // namespace

void Workspace::reserve(const Pass& pass, int threads, std::int64_t fewest, std::int64_t most) {
  reserve(pass, threads, fewest, most, false);
}

void Workspace::reserve_shared(const Pass& pass, int threads) {
  reserve(pass, threads, pass.in.B, pass.in.B, true);
}

void Workspace::reserve(const Pass& pass, int threads, std::int64_t fewest, std::int64_t most,
                        bool shared) {
  const Cell& cell = *pass.cell;
  const std::int64_t rows = std::min(most, kBlockRows);
  const bool hoisting = hoists(cell, fewest, pass.in.T);
  const std::int64_t listed = chunk_capacity(cell, rows, false);  // enough with hoisting, too
  const std::int64_t between = cell.phases() == 2 ? pass.in.B * cell.shape().hidden_size : 0;
  while (static_cast<int>(threads_.size()) < threads) {
    threads_.push_back(std::make_unique<Thread>());
  }
  for (int i = 0; i < threads; ++i) {
    Thread& t = *threads_[i];
    // The vector whose size is tested grows last: if one of the others finds no memory, the size
    // stays small and the next call tries again.
    if (static_cast<std::int64_t>(t.x.size()) < listed) {
      for (auto* list : {&t.out, &t.partial, &t.saved, &t.saved_c}) list->resize(listed);
      for (auto* list : {&t.active, &t.steps}) list->resize(listed);
      t.x.resize(listed);
    }
    if (static_cast<std::int64_t>(t.rows.size()) < rows) {
      for (auto* list : {&t.h, &t.state, &t.last}) list->resize(rows);
      for (auto* list : {&t.c, &t.between, &t.update}) list->resize(rows);
      t.repeated.reserve(rows);
      t.rows.resize(rows);
    }
    const std::int64_t sums =
        hoisting && (i == 0 || !shared)
            ? std::min(chunk_capacity(cell, rows, true), rows * pass.in.T) * cell.input_sums()
            : 0;
    if (t.sums.size() < sums) t.sums = Buffer(sums);
    cell.reserve(t.scratch, listed, rows);
  }
  if (between_.size() < between) between_ = Buffer(between);
  if (update_.size() < between) update_ = Buffer(between);
}

std::int64_t Workspace::floats() const {
  std::int64_t sum = between_.size() + update_.size();
  for (const auto& thread : threads_) sum += thread->sums.size() + thread->scratch.floats();
  return sum;
}

Demand demand(const Pass* passes, int count) {
  // These estimates are for a core of 100 GFLOP/s that reads 100 GB/s of weights. Only their order
  // of magnitude matters.
  double total = 0;
  bool shared = false;
  for (int i = 0; i < count; ++i) {
    const Pass& pass = passes[i];
    const double work = static_cast<double>(pass.cell->step_work());
    const double micros =
        std::max(total_rows(pass) * work * 2e-5, static_cast<double>(pass.in.T) * work * 4e-5);
    total += micros;
    if (splits_rows(pass, 2) || micros / pass.in.T >= kStepMicros) shared = true;
  }
  if (total < kShareMicros || (count == 1 && !shared)) return {1, total};
  const int threads = useful_threads();
  return {shared ? threads : std::min(count, threads), total};
}

void run_passes(const Pass* passes, int count, Workspace* workspaces, Team& team,
                Interrupt& interrupt) {
  // Thread i works for pass i % teams; with fewer threads than passes, one pass after another.
  const int threads = team.size(), teams = std::min(threads, count);
  // The threads of a pass share the panels of its steps, or it is cut into tasks of some rows each.
  std::optional<Phases> sharing[2];
  int tasks[2] = {0, 0};
  for (int i = 0; i < count; ++i) {
    const Pass& pass = passes[i];
    const int parts = (threads - i % teams + teams - 1) / teams;
    if (parts == 1 || splits_rows(pass, parts)) {
      workspaces[i].reserve(pass, parts, pass.in.B / parts, (pass.in.B + parts - 1) / parts);
      tasks[i] = parts;
    } else {
      workspaces[i].reserve_shared(pass, parts);
      sharing[i].emplace(parts, interrupt);
    }
  }
  const auto share = [&](int i, int thread, bool caller) {
    Phases::Member member(*sharing[i], thread, caller);
    Runner(passes[i], workspaces[i], thread, 0, member, sharing[i]->size()).run(0, 1);
    if (thread == 0) sharing[i]->finish();
  };
  team.run([&](Team::Member& member) {
    const int own = member.index() % teams, number = member.index() / teams;
    if (sharing[own] && (number > 0 || sharing[own]->lead())) {
      share(own, number, member.index() == 0);
    }
    // The caller leads a pass whose leader has not come.
    for (int i = 0; member.index() == 0 && i < count; ++i) {
      if (sharing[i] && sharing[i]->lead()) share(i, 0, true);
    }
    member.parallel_for(tasks[0] + tasks[1], 0, [&](std::int64_t task) {
      const int i = task < tasks[0] ? 0 : 1;
      const int first = static_cast<int>(task) - (i == 0 ? 0 : tasks[0]);
      Phases alone(1, interrupt);
      Phases::Member one(alone, 0, member.index() == 0);
      Runner(passes[i], workspaces[i], first, first, one, 1).run(first, tasks[i]);
    });
  });
}

}  // namespace treadle

// BackwardSteps goes back through the steps of a layer in one direction, from the gradients of the
// outputs and of the last states to the gradients of all pre-activations and of the first states.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "engine/recurrent/backward_buffers.h"
#include "engine/schedule/interrupt.h"
#include "engine/schedule/team.h"
#include "runtime/buffer.h"

namespace treadle {

class BackwardSteps {
 public:
  // Makes room for a team of so many threads. The call outlives this object.
  BackwardSteps(const BackwardCall& call, int threads);

  // Every thread of the team calls this as one phase. It fills the rows of `da`, and of `dp` and
  // `hidden` if these exist, of all terms that ran. Returns false when the computation is to end.
  bool run(Team::Member& member);

 private:
  // Rows that go through time together.
  struct Block {
    std::int64_t first = 0, rows = 0;
    std::vector<const float*> next, carry;  // of each row: [rows]
    // One entry for each active row of a step.
    std::vector<std::int64_t> active;
    std::vector<const float*> nexts, dys, carries, saved, old, c;
    std::vector<float*> dcs, keeps, hidden, out, dp;

    void reserve(std::int64_t n);
  };

  // The threads that take a block back. That is one thread alone, or the whole team, whose threads
  // share the panels of every product; each of them then makes the same lists for itself.
  struct StepTeam {
    Team::Member& member;
    bool alone;

    // Tells whether this thread writes the results that all threads of the team computed alike.
    bool writes() const { return alone || member.index() == 0; }
    // Waits until all threads have come this far. Returns false when the computation is to end.
    bool meet() {
      return alone || member.parallel_for(0, 0, [](std::int64_t) {});
    }
    // Shares out the panels of a kernel: call(begin, end).
    template <class Call>
    bool panels(std::int64_t count, double work, Call call) {
      if (!alone) {
        return member.parallel_for(count,
                                   work / static_cast<double>(std::max<std::int64_t>(1, count)),
                                   [&](std::int64_t i) { call(i, i + 1); });
      }
      call(0, count);
      return member.progress(work);
    }
  };

  bool through_time(StepTeam team, Block& k);
  bool step(StepTeam team, Block& k, std::int64_t s, std::int64_t n, bool product);
  bool project(StepTeam team, Block& k, std::int64_t n, bool product, bool carried);
  bool activate(StepTeam team, BackwardArgs a, Block& k);
  bool leave(StepTeam team, Block& k, std::int64_t n, float* dh, float* dc, bool on);
  bool multiply(StepTeam team, const Linear& linear, std::int64_t rows, const float* const* x,
                float* const* out, const float* const* residual);

  const float* dy(std::int64_t t, std::int64_t b) const {
    if (buffers_.dy.size()) return buffers_.dy.data() + trace_.term(t, b) * S_;
    return p_.dy ? p_.dy + t * p_.dy_t + b * p_.dy_b : zeros_.data();
  }

  const Cell& cell_;
  const BackwardWeights& weights_;
  const BackwardPass& p_;
  const Trace& trace_;
  BackwardBuffers& buffers_;
  const CellShape& shape_;
  const std::int64_t H_, S_;
  const Buffer zeros_;
  bool split_rows_;  // each thread takes blocks of rows, else all share panels
  std::int64_t blocks_;
  std::vector<Block> work_;  // one for each thread
};

}  // namespace treadle

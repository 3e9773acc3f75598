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
    // The sums of products with weights that are not packed: [rows] of `sums`, H floats each.
    Buffer sums;
    std::vector<float*> products;

    void reserve(std::int64_t n, std::int64_t hidden_size);
  };

  // The threads that take a block back. That is one thread alone, or the whole team, whose threads
  // share the panels of every product. Each of them then makes the same lists for itself; what is
  // written for all of them is written in once() and panels().
  struct StepTeam {
    Team::Member& member;
    int parts;  // threads that share panels

    // One thread calls the function. Returns false when the computation is to end.
    template <class Call>
    bool once(Call call) {
      if (parts > 1) return member.once(call);
      call();
      return member.progress(0);
    }
    // Shares out the panels of a kernel: call(begin, end), in pieces so short that no interrupt has
    // to wait.
    template <class Call>
    bool panels(std::int64_t count, double work, Call call) {
      constexpr double kPieceWork = 2.5e8;  // about 5 ms of one core
      const auto some = [&](std::int64_t begin, std::int64_t end) {
        const double each = work / static_cast<double>(std::max<std::int64_t>(1, count));
        const auto most =
            static_cast<std::int64_t>(std::max(1.0, kPieceWork / std::max(1.0, each)));
        for (std::int64_t i = begin; i < end && !member.stopped(); i += most) {
          const std::int64_t last = std::min(end, i + most);
          call(i, last);
          member.progress(each * static_cast<double>(last - i));
        }
      };
      if (parts > 1) {
        return member.share(
            [&](int part, int last) { some(count * part / parts, count * last / parts); });
      }
      some(0, count);
      return !member.stopped();
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
  int parts_;  // threads that share panels; 1: each thread takes blocks of rows
  std::int64_t blocks_;
  std::vector<Block> work_;  // one for each thread
};

}  // namespace treadle

// RecomputeGates computes the gates of a forward pass that did not save them.
//
// Every state is known by now, so that no step waits for another: all rows of all times go through
// the kernels of the forward pass side by side, as one product. A kernel adds in the same order for
// any number of rows, so that the gates have the same bits as in the forward pass.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/recurrent/backward_buffers.h"
#include "engine/schedule/team.h"
#include "runtime/buffer.h"

namespace treadle {

class RecomputeGates {
 public:
  // Makes room for a team of so many threads. The call outlives this object.
  RecomputeGates(const BackwardCall& call, int threads);

  // Runs as one phase of the team: fills the rows `gates` of all terms that ran, if `recomputes` is
  // true in the buffers. Returns false when the computation is to end.
  bool run(Team::Member& member);

 private:
  // The rows of one task, and room [rows, H] for the results that only the forward pass needed.
  struct Work {
    std::vector<const float*> x, h;
    std::vector<float*> c, out, between, update, gates;
    Buffer c_rows, out_rows, between_rows, update_rows;
    StepScratch scratch;

    void reserve(const Cell& cell, std::int64_t rows);
  };

  void compute(Work& work, std::int64_t first, std::int64_t count);

  const Cell& cell_;
  const BackwardPass& p_;
  const Trace& trace_;
  BackwardBuffers& buffers_;
  std::int64_t tasks_;
  std::vector<Work> work_;  // one for each thread
};

}  // namespace treadle

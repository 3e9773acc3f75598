// A Pass takes whole sequences through one cell, with threads, ragged rows, masks and resets.
//
// The state of a row is a pointer to its last output (the initial state, a reset value, or a row of
// y), so nothing is copied from step to step. A step computes the rows that are active in it. With
// lengths, rows are sorted by falling length and the last ones drop out; with a mask any may pause.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "engine/recurrent/cell.h"
#include "engine/recurrent/sequence_args.h"
#include "engine/schedule/team.h"

namespace treadle {

// One layer in one direction goes over the sequences of a call.
struct Pass {
  const Cell* cell;
  bool reverse;
  SequenceArgs in;  // the states of this layer and direction; c_0 has been copied to c
  float* y;         // [T, B, state_size] with the strides y_t and y_b, in floats
  std::int64_t y_t, y_b;
  float* h_n;                 // [B, state_size]; may be h_0
  float* c;                   // LSTM: [B, H], holds c_0 and becomes c_n
  const std::int64_t* order;  // [B] rows by falling length, where lengths are given
  float* saved;               // [T, B, saved_size(recompute)] for the backward pass, or null
  bool recompute;             // the backward pass computes the gates again
};

// The memory that a pass needs beside its arrays. It grows on demand, and a stream keeps it, so
// that its steps allocate nothing. All threads of a team use `between` and `update`; a Thread
// belongs to one of them, but threads that share panels use the sums of the first.
class Workspace {
 public:
  struct Thread {
    std::vector<std::int64_t> rows;          // the numbers of the block's rows
    std::vector<const float*> state, last;   // pointers to each row's state and last output
    std::vector<std::int64_t> steps;         // active rows in each step of the chunk
    std::vector<std::int64_t> active;        // the active rows, as indices into `rows`: [chunk]
    std::vector<const float*> x;             // [chunk]
    std::vector<float*> out, partial;        // [chunk]
    std::vector<float*> saved, saved_c;      // [chunk]
    std::vector<const float*> h;             // the states of one step: [rows]
    std::vector<float*> c, between, update;  // [rows]
    std::vector<std::pair<float*, const float*>> repeated;  // outputs of one step and what they are
    Buffer sums;                                            // [chunk, input_sums]
    // Steps read the weights forth and back in turns: where a cache holds a part of them, each
    // step begins with the part that the step before left there. The bits do not depend on it.
    bool descending = false;  // of the next step
    StepScratch scratch;
  };
  // Makes room for `threads` threads, each of which runs at least `fewest` and at most `most` rows.
  // Those that share panels all run all rows.
  void reserve(const Pass& pass, int threads, std::int64_t fewest, std::int64_t most);
  void reserve_shared(const Pass& pass, int threads);
  Thread& thread(int i) { return *threads_[i]; }
  Buffer& between() { return between_; }
  Buffer& update() { return update_; }
  std::int64_t floats() const;

 private:
  void reserve(const Pass& pass, int threads, std::int64_t fewest, std::int64_t most, bool shared);

  std::vector<std::unique_ptr<Thread>> threads_;
  Buffer between_, update_;  // [B, H]
};

// Returns how many threads the passes (one, or the two directions of a layer) can use, at most
// useful_threads(), and how long one thread would take for them.
struct Demand {
  int threads;
  double microseconds;
};
Demand demand(const Pass* passes, int count);

// Runs the passes side by side on the threads of the team. Leaves early when interrupted; the
// outputs are then incomplete.
void run_passes(const Pass* passes, int count, Workspace* workspaces, Team& team,
                Interrupt& interrupt);

}  // namespace treadle

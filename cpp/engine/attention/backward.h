// The backward pass of attention computes the gradients of q, k and v.
//
// The probabilities are computed again, block by block, from the log-sum-exp that the forward pass
// saved. A block of queries and a block of keys take five products:
//
//     q k^T,  dout v^T  ->  w, ds  ->  dv += w^T dout,  dk += ds^T q,  dq += ds k
//
// The sum for a query goes over the blocks of keys in their order, that for a key over the blocks
// of queries, head by head of its group, whichever thread adds them. The number of threads changes
// no bit.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/attention/attention.h"
#include "engine/schedule/team.h"
#include "kernels/table.h"
#include "runtime/buffer.h"

namespace treadle {

struct AttentionBackwardCall {
  AttentionCall call;  // as in the forward pass, with lse; out and probabilities are null
  HeadView<const float> out, dout;
  HeadView<float> dq, dk, dv;  // zeroed by the caller
};

class AttentionBackward {
 public:
  AttentionBackward(const KernelTable& table, const AttentionBackwardCall& backward, int threads);

  // The buffers of one thread.
  struct Scratch {
    Buffer keys, values, rows;  // a block of keys: k and v as columns, k as rows
    Buffer scores, d;
    Buffer dots;  // out . dout of the task's queries, head by head
  };
  Scratch scratch() const;

  // Runs as one phase of a team.
  bool run(Team::Member& member, Scratch& scratch) const;

  // Returns the multiply-adds of a call, as if every query saw every key.
  static double work(const AttentionBackwardCall& backward);

 private:
  // A task is a head of keys with the queries of its group. Where there are few heads, it is a part
  // of the keys or of the queries, and computes the gradients of that part alone.
  struct Task {
    std::int64_t b, kv_head;
    std::int64_t key_begin, key_end, query_begin, query_end;
    bool of_queries, of_keys;
  };
  struct Block;

  void task(const Task& task, Team::Member& member, Scratch& scratch) const;
  void rows(const Block& block, std::int64_t n, std::int64_t i, std::int64_t count) const;

  const KernelTable& table_;
  const AttentionBackwardCall backward_;
  std::vector<Task> tasks_;
  double task_work_ = 0;
};

// Runs a whole call on the pool's threads. The caller has checked every pointer, stride and length.
void attend_backward(const KernelTable& table, const AttentionBackwardCall& backward,
                     Interrupt& interrupt);

}  // namespace treadle

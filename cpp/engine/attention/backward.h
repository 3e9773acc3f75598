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
//
// A query and a key that it does not see add nothing to each other's gradients, whatever they hold.
// Their w and ds are zero, but zero times NaN is NaN: where keys that some query does not see, such
// queries or their gradients are not finite, the products take apart who sees them
// (backward_hidden.cpp).
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
  // A block of keys, packed, and the gradients of its rows.
  struct Block {
    const Task& task;
    std::int64_t first, size;
    Scratch& scratch;
    const float* k;
    float *dk, *dv;  // the rows of the block
    bool finite;     // no key of it is NaN or infinite, or no query can be without seeing it
  };
  // `count` queries of head n, from query i on, and what they have to do with a block of keys.
  struct Queries {
    std::int64_t n, i, count, keys;  // the products take so many keys of the block
    const float *const *q, *const *dout;
    float* const* dq;
    const float *const *w, *const *ds;  // [count] of `keys` floats
  };

  void task(const Task& task, Team::Member& member, Scratch& scratch) const;
  void rows(const Block& block, std::int64_t n, std::int64_t i, std::int64_t count) const;
  // Tells whether some query may not see a key of its sequence.
  bool hides() const {
    const AttentionCall& c = backward_.call;
    return c.mask.data || c.causal || c.left >= 0 || c.right >= 0;
  }
  bool is_finite(const HeadView<const float>& view, std::int64_t b, const Queries& queries,
                 std::int64_t size) const;
  // Add the gradients of the block's keys and values, or those of the queries.
  void add_key_grads(const Block& block, const Queries& queries) const;
  void add_query_grads(const Block& block, const Queries& queries) const;
  // Do the same for the queries [begin, end), or the keys [begin, end), without any further look.
  void multiply_key_grads(const Block& block, const Queries& queries, const float* const* q,
                          const float* const* dout, std::int64_t begin, std::int64_t end) const;
  void multiply_query_grads(const Block& block, const Queries& queries, std::int64_t begin,
                            std::int64_t end) const;
  // Do the same where something is not finite.
  void add_seen_key_grads(const Block& block, const Queries& queries) const;
  void add_seen_query_grads(const Block& block, const Queries& queries) const;

  const KernelTable& table_;
  const AttentionBackwardCall backward_;
  std::vector<Task> tasks_;
  double task_work_ = 0;
};

// Runs a whole call on the pool's threads. The caller has checked every pointer, stride and length.
void attend_backward(const KernelTable& table, const AttentionBackwardCall& backward,
                     Interrupt& interrupt);

}  // namespace treadle

// Attention over a batch is cut into tasks, for each of which a thread needs some buffers.
//
// A task is a key head of a sequence (its keys and, where need be, its values are packed once and
// serve all query heads of its group), or a part of its queries where there are few heads. A
// sequence with few queries is cut by keys instead, and nothing is packed. The cut into tasks
// changes no bit of the result.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "engine/product/encoded_rows.h"
#include "engine/schedule/team.h"
#include "kernels/table.h"
#include "runtime/buffer.h"

namespace treadle {

// A view of heads [B, N, S, E] with strides in elements; the last axis is contiguous.
template <class T>
struct HeadView {
  T* data;
  std::int64_t b, n, s;
};

// Keys and values that a cache stores in another dtype than float32; the strides count bytes.
struct StoredHeads {
  Dtype dtype;  // float32: there are no stored keys and values
  HeadView<const std::uint8_t> k, v;
  HeadView<const float> k_scale, v_scale;  // [B, N, K], only for int8
};

struct AttentionCall {
  // The dtype of the products, float32 or bfloat16. A call with few queries reads stored or float32
  // keys and values where they lie and always multiplies in float32.
  Dtype dtype;
  std::int64_t B, N, kv_heads, S, K, E, F;
  HeadView<const float> q, k, v;  // k and v are not set if they are stored
  StoredHeads stored;
  HeadView<float> out;
  // [B]: the number of rows before each sequence's first row, in q and out, and in k and v. They
  // replace the strides b unless they are null.
  const std::int64_t *query_starts, *key_starts;
  HeadView<const std::uint8_t>
      mask;  // bools, or floats as bytes; strides in bytes; data null: none
  bool mask_adds;
  float hidden_score = -INFINITY;                   // of a key that a mask of bools hides
  const std::int64_t *query_lengths, *key_lengths;  // [B], or null
  const std::int64_t* query_offset;                 // [B], or null
  bool causal;
  std::int64_t left, right;  // window; -1: unlimited
  float scale, softcap;
  // A number for each head and distance that is added to the score: that of key - position lies at
  // distances[n * distance_stride + key - position]. It replaces the mask unless it is null.
  const float* distances = nullptr;
  std::int64_t distance_stride = 0;
  Dropout dropout;       // numbered by (b N + n) S + i
  const float* slopes;   // [N], or null
  float* probabilities;  // [B, N, S, K], zeroed, before dropout; or null
  float* lse;            // [B, N, S], log(sum of e^score); or null

  std::int64_t queries(std::int64_t row) const { return query_lengths ? query_lengths[row] : S; }
  std::int64_t keys(std::int64_t row) const { return key_lengths ? key_lengths[row] : K; }

  // Returns the first row of a head of a sequence, in an array with a row for each query or key.
  template <class T>
  T* query_head(const HeadView<T>& view, std::int64_t row, std::int64_t n) const {
    return head(view, query_starts, row, n);
  }
  template <class T>
  T* key_head(const HeadView<T>& view, std::int64_t row, std::int64_t n) const {
    return head(view, key_starts, row, n);
  }

 private:
  template <class T>
  static T* head(const HeadView<T>& view, const std::int64_t* starts, std::int64_t row,
                 std::int64_t n) {
    return view.data + (starts ? starts[row] * view.s : row * view.b) + n * view.n;
  }
};

class AttentionRows;

class Attention {
 public:
  // The buffers of one thread.
  struct Scratch {
    Buffer keys, values, partial, decoded, kernel;
    EncodedRows queries;
  };

  explicit Attention(const KernelTable& table) : table_(table) {}
  Attention(const KernelTable& table, const AttentionCall& call, int threads) : Attention(table) {
    plan(call, threads);
  }

  // Cuts a call into tasks, in place of an earlier one, whose memory is used again.
  void plan(const AttentionCall& call, int threads);

  // Makes room for any task that a thread may get.
  void reserve(Scratch& scratch) const;

  // Runs as two phases of a team.
  bool run(Team::Member& member, Scratch& scratch);

  // Returns the multiply-adds of a call, as if every query saw every key.
  static double work(const AttentionCall& call);

 private:
  struct Task {
    std::int64_t b, kv_head;
    std::int64_t begin, end;  // queries, or keys if the sequence is cut by keys
    std::int64_t partial;     // place of a key task's results in partial_; -1: a task of queries
  };
  // A head of a sequence that was cut by keys: several tasks have left results, to be joined.
  struct SplitKeys {
    std::int64_t b, kv_head, chunks, partial;
  };

  bool packs_values() const;
  bool stored() const { return call_.stored.dtype != Dtype::float32; }
  // A head's keys or values as they lie in memory; the stride counts numbers.
  struct Rows {
    const void* data;
    std::int64_t stride;
    const float* scale;
  };
  Rows rows(const HeadView<const float>& view, const HeadView<const std::uint8_t>& stored,
            const HeadView<const float>& scale, const Task& task) const;
  Rows keys(const Task& task) const {
    return rows(call_.k, call_.stored.k, call_.stored.k_scale, task);
  }
  Rows values(const Task& task) const {
    return rows(call_.v, call_.stored.v, call_.stored.v_scale, task);
  }
  void many_queries(const Task& task, Team::Member& member, Scratch& scratch) const;
  void few_queries(const Task& task, Team::Member& member, Scratch& scratch);
  AttentionRows few_rows(std::int64_t b, std::int64_t kv_head) const;
  void join(const AttentionRows& rows, std::int64_t chunks, const float* partial) const;

  const KernelTable& table_;
  AttentionCall call_{};
  std::vector<Task> tasks_;
  std::vector<SplitKeys> split_keys_;
  bool joins_ = false;  // whether a task has all keys of a head, and joins its chunks itself
  Buffer partial_;
  bool many_ = false;              // whether some sequence is packed
  std::int64_t few_rows_ = 0;      // most rows of a task of keys
  std::int64_t most_keys_ = 0;     // keys of the longest sequence that is packed
  std::int64_t most_partial_ = 0;  // most floats of a task that joins its chunks itself
  double task_work_ = 0;
};

// Runs a whole call on the pool's threads. The caller has checked every pointer, stride and length.
void attend(const KernelTable& table, const AttentionCall& call, Interrupt& interrupt);

}  // namespace treadle

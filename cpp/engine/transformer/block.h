// A block of a transformer: self attention, cross attention if it has it, and feed forward (Vaswani
// et al., arXiv:1706.03762).
//
// Each of the three is a function f that is added to the hidden states x, with norms where
// NormPlace says, usually
//
//     x = x + f(norm(x))          or          x = norm(x + f(x))
//
//     self attention      q, k, v = x W_in + b_in,                     f = attention W_out + b_out
//     cross attention     q = x W_q + b_q,  k, v = m W_kv + b_kv,      f = attention W_out + b_out
//     feed forward        f = act(x W_1 + b_1) W_2 + b_2
//     gated               f = (act(x W_1 + b_1) * (x W_3 + b_3)) W_2 + b_2
//
// m is the memory, the rows of another sequence: an encoder's output. Here each f with its norm is
// a few phases of a team, over the rows of some sequences that lie one after the other. An encoder
// and a decoder are loops over blocks that call them. In a decoder the keys and values of self
// attention are those of a cache, to which each token adds its own.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "engine/attention/attention.h"
#include "engine/attention/slot_cache.h"
#include "engine/product/linear.h"
#include "engine/transformer/block_shape.h"
#include "engine/transformer/norm.h"

namespace treadle {

// BlockRows are the hidden states of some sequences. The phases of a block change them in place.
struct BlockRows {
  std::int64_t count;
  float* const* x;  // [count] rows of H that follow each other in memory
};

// BlockPositions say what happens to queries, keys and values between their product and attention.
struct BlockPositions {
  SlotCache* cache = nullptr;              // null: attention sees the keys of this call alone
  std::int64_t first_head = 0;             // of this block, in the cache
  const std::int64_t* row = nullptr;       // [count] rows of the cache
  const std::int64_t* position = nullptr;  // [count] positions of the tokens
  const float* turns = nullptr;  // [positions, 2 * half]: cosines and sines of rotary positions
  std::int64_t half = 0;         // null and 0 without them
};

// The phases hand their results to each other in these buffers, one group of sequences at a time.
struct BlockBuffers {
  Buffer projected;  // [rows, (N + 2 G) E]: queries, keys and values; or queries alone
  Buffer attended;   // [rows, N E]: the heads' results
  Buffer beside;     // [rows, H]: norm(x), or x + f(x) with a norm after it
  Buffer after;      // [rows, H]: f(x) that gets a norm; the second norm(x) of a parallel block
  Buffer forward;    // [rows, F], of some of the rows: between the products of feed forward
  Buffer up;         // the same, gated: x W_3
  std::vector<float*> projected_rows, attended_rows, beside_rows, after_rows, forward_rows;
  std::vector<float*> up_rows;
  std::vector<float*> x_rows;  // the hidden states of all sequences of the call
  EncodedRows encoded;         // a product reads its rows here where weights are not float32
  std::vector<Attention::Scratch> scratch;  // for each thread

  // Makes room for groups of up to so many rows.
  void reserve(const BlockShape& shape, Dtype dtype, std::int64_t rows);
  std::int64_t bytes() const;
};

class TransformerBlock {
 public:
  TransformerBlock(const KernelTable& table, const BlockShape& shape, const BlockWeights& weights);

  const KernelTable& table() const { return *table_; }
  const BlockShape& shape() const { return shape_; }
  Dtype dtype() const { return self_.in.dtype(); }
  const char* isa() const { return self_.in.isa(); }  // the level of the products
  bool has_cross_attention() const { return cross_.has_value(); }
  std::int64_t weight_bytes() const;
  // Returns the multiply-adds of the products of so many rows.
  double work(std::int64_t rows) const;
  // Returns the product that a block begins with, whose weights may be fetched ahead.
  const Linear& first_product() const { return self_.in; }
  // Returns the product that makes keys and values [2 * N * E] of a row of the memory [H]. The
  // block must have cross attention.
  const Linear& memory_product() const { return cross_->key_value; }

  // The three functions change x, as some phases of a team, and return false when the computation
  // is to end. `attention` was made from `self_call` or `cross_call` for the same rows and buffers.
  bool self_attention(Team::Member& member, const BlockRows& rows, Attention& attention,
                      const BlockPositions& positions, BlockBuffers& buffers) const;
  bool cross_attention(Team::Member& member, const BlockRows& rows, Attention& attention,
                       BlockBuffers& buffers) const;
  // `next` is the product that comes after the block, or null: its weights are fetched ahead.
  bool feed_forward(Team::Member& member, const BlockRows& rows, BlockBuffers& buffers,
                    const Linear* next) const;

 private:
  struct SelfAttention {
    Linear in, out;
    Norm norm, after;
    Norm query_norm, key_norm;  // of heads
  };
  struct CrossAttention {
    Linear query, key_value, out;
    Norm norm, after;
  };
  struct FeedForward {
    Linear in, up, out;
    Norm norm, after;
    const Linear& first() const { return up.outputs() ? up : in; }
  };

  bool add_normalized(Team::Member& member, const Norm& norm, const BlockRows& rows,
                      BlockBuffers& buffers) const;
  bool place_tokens(Team::Member& member, const BlockRows& rows, const BlockPositions& positions,
                    BlockBuffers& buffers) const;
  template <class Part, class Function>
  bool add(Team::Member& member, const Part& part, const BlockRows& rows, BlockBuffers& buffers,
           Function&& function) const;

  const KernelTable* table_;
  BlockShape shape_;
  SelfAttention self_;
  std::optional<CrossAttention> cross_;
  FeedForward forward_;
};

// Return calls of attention that read their queries from the buffers and write their result there.
// The caller adds sequences, lengths and masks. In self attention the keys and values are those of
// the same rows; in cross attention they lie side by side in the rows of `keys_values`, N E floats
// each, which are 2 N E floats apart.
AttentionCall self_call(const BlockShape& shape, Dtype dtype, BlockBuffers& buffers);
AttentionCall cross_call(const BlockShape& shape, Dtype dtype, BlockBuffers& buffers,
                         const float* keys_values);

}  // namespace treadle

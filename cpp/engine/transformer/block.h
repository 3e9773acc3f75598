// A block of a transformer: self attention, cross attention if it has it, and feed forward (Vaswani
// et al., arXiv:1706.03762).
//
// Each of the three is a function f that is added to the hidden states x, with a norm before it
// (norm_first) or after it:
//
//     x = x + f(norm(x))          or          x = norm(x + f(x))
//
//     self attention      q, k, v = x W_in + b_in,                     f = attention W_out + b_out
//     cross attention     q = x W_q + b_q,  k, v = m W_kv + b_kv,      f = attention W_out + b_out
//     feed forward        f = act(x W_1 + b_1) W_2 + b_2
//
// m is the memory, the rows of another sequence: an encoder's output. Here each f with its norm is
// a few phases of a team, over the rows of some sequences that lie one after the other. An encoder
// and a decoder are loops over blocks that call them.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "engine/attention/attention.h"
#include "engine/product/linear.h"

namespace treadle {

struct BlockShape {
  std::int64_t hidden, heads, feed_forward;  // H, N, F
  Activation activation;
  bool norm_first;
  float eps;  // the norms add it to the variance
};

// All matrices are row-major, as in PyTorch, and have the same dtype; biases and the arrays of a
// norm may be null.
struct NormWeights {
  const float *weight, *bias;  // [H]
};
struct AttentionWeights {
  StoredMatrix in_weight;   // [3 * H, H]: queries, keys, values
  const float* in_bias;     // [3 * H]
  StoredMatrix out_weight;  // [H, H]
  const float* out_bias;    // [H]
  NormWeights norm;
};
struct FeedForwardWeights {
  StoredMatrix weight1;  // [F, H]
  const float* bias1;    // [F]
  StoredMatrix weight2;  // [H, F]
  const float* bias2;    // [H]
  NormWeights norm;
};
struct BlockWeights {
  AttentionWeights self_attention;
  std::optional<AttentionWeights> cross_attention;
  FeedForwardWeights feed_forward;
};

// BlockRows are the hidden states of some sequences. The phases of a block change them in place.
struct BlockRows {
  std::int64_t count;
  float* const* x;  // [count] rows of H that follow each other in memory
};

// The phases hand their results to each other in these buffers, one group of sequences at a time.
struct BlockBuffers {
  Buffer projected;  // [rows, 3 * H]: queries, keys and values; or queries alone, in the first H
  Buffer attended;   // [rows, H]: the heads' results
  Buffer beside;     // [rows, H]: norm(x) with norm_first, else x + f(x)
  Buffer forward;    // [rows, F], of some of the rows: between the products of feed forward
  std::vector<float*> projected_rows, attended_rows, beside_rows, forward_rows;
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
  // Returns the product that a block begins with, whose weights may be fetched ahead.
  const Linear& first_product() const { return self_.in; }
  // Returns the product that makes keys and values [2 * H] of a row of the memory [H]. The block
  // must have cross attention.
  const Linear& memory_product() const { return cross_->key_value; }

  // The three functions change x, as some phases of a team, and return false when the computation
  // is to end. `attention` was made from `attention_call` for the same rows and buffers.
  bool self_attention(Team::Member& member, const BlockRows& rows, Attention& attention,
                      BlockBuffers& buffers) const;
  bool cross_attention(Team::Member& member, const BlockRows& rows, Attention& attention,
                       BlockBuffers& buffers) const;
  // `next` is the product that comes after the block, or null: its weights are fetched ahead.
  bool feed_forward(Team::Member& member, const BlockRows& rows, BlockBuffers& buffers,
                    const Linear* next) const;

 private:
  struct Norm {
    Buffer weight, bias;  // empty where there is none
  };
  struct SelfAttention {
    Linear in, out;
    Norm norm;
  };
  struct CrossAttention {
    Linear query, key_value, out;
    Norm norm;
  };
  struct FeedForward {
    Linear in, out;
    Norm norm;
  };

  Norm make_norm(const NormWeights& weights) const;
  bool normalize(Team::Member& member, const Norm& norm, std::int64_t rows, const float* from,
                 float* to) const;
  template <class Function>
  bool add(Team::Member& member, const Norm& norm, const BlockRows& rows, BlockBuffers& buffers,
           Function&& function) const;

  const KernelTable* table_;
  BlockShape shape_;
  SelfAttention self_;
  std::optional<CrossAttention> cross_;
  FeedForward forward_;
};

// Returns a call of attention that reads its queries from the buffers and writes its result there.
// Keys and values lie side by side in the rows of `keys_values`, H floats each; the rows are
// `stride` floats apart. The caller adds sequences, lengths and masks.
AttentionCall attention_call(const BlockShape& shape, Dtype dtype, BlockBuffers& buffers,
                             const float* keys_values, std::int64_t stride);

}  // namespace treadle

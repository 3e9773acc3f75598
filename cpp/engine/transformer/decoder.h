// A stack of blocks with its embedding and its vocabulary: a decoder, or an encoder that begins
// with tokens.
//
//     x = norm(embed_scale * embed[token] + positions[position]),    blocks,    final norm
//     logits = cap(head (logit_scale * x) + bias)
//
// A call takes some new tokens of each of its sequences through everything, as phases of one team.
// A decoder finds the keys and values of the tokens before them in a cache, which DecoderState has;
// without a cache a call sees its own tokens alone.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "engine/transformer/block.h"
#include "engine/transformer/block_call.h"
#include "engine/transformer/positions.h"

namespace treadle {

struct DecoderShape {
  std::int64_t vocabulary, hidden;  // V, H
  std::int64_t positions;           // P, the rows of the table of positions; 0: there is none
  float embed_scale, logit_scale;
  float logit_softcap;  // 0 caps nothing
  float embed_eps;      // of the norm of embeddings, which is a layer norm
  NormKind final_norm;
  float final_eps;
};

// The norms are there if their weights are.
struct DecoderWeights {
  StoredMatrix embed;      // [V, H], unless it is shared
  const float* positions;  // [P, H]
  NormWeights embed_norm, final_norm;
  StoredMatrix head;       // [V, H], or null: the embedding's
  const float* head_bias;  // [V], or null
  std::optional<Distances> distances;
  std::shared_ptr<const Linear> shared;  // the embedding of another stack, or null
};

// LayerPositions say how a block knows where its tokens are.
struct LayerPositions {
  bool causal = true;
  bool distances = false;  // scores get the stack's numbers of relative positions
  std::optional<Turns> turns;
};

// DecoderMemory holds what cross attention sees: keys and values of all layers, computed once.
struct DecoderMemory {
  CachedRows keys, values;                    // one sequence of all rows, with the heads of layers
  std::vector<std::int64_t> starts, lengths;  // [B]: the rows of each sequence

  // Lets rows attend to the heads from `head` on. The caller sets sequences.
  void describe(AttentionCall& call, std::int64_t head) const {
    describe_heads(call, keys, values, head);
  }
};

// DecoderBuffers are the memory of a call, kept for the next one.
struct DecoderBuffers {
  BlockBuffers block;
  Buffer x, hidden, logits;  // [rows, H], [rows, H], [rows, V]
  std::vector<const float*> hidden_rows;
  std::vector<float*> logit_rows;
  EncodedRows encoded;                              // of `hidden`
  std::vector<std::int64_t> bounds;                 // of groups of sequences
  std::vector<std::int64_t> sequences, positions;   // [rows]
  std::vector<std::int64_t> starts, lengths, ends;  // [B]
  // [B]: the queries that see each sequence of the memory, and its rows
  std::vector<std::int64_t> cross_starts, cross_lengths, memory_starts, memory_lengths;
  std::vector<Attention> self, cross;  // [layers, groups]
  std::vector<Turns::Table> turns;
  Distances::Table distances;

  std::int64_t bytes() const;
};

// The k best logits of each row, and the logarithms of the sums of e^logit.
struct BestTokens {
  std::int64_t k;
  float* values;      // [rows, k]
  std::int64_t* ids;  // [rows, k]
  float* lse;         // [rows]
};

struct DecoderCall {
  RaggedBatch batch;           // the new tokens of each sequence
  const std::int64_t* tokens;  // [rows], each below V
  const std::int64_t* past;    // [B] tokens before these
  SlotCache* cache = nullptr;  // has room for them; null: there are no tokens before
  const DecoderMemory* memory = nullptr;
  const std::int64_t* sources = nullptr;  // [B] sequences of the memory
  float* hidden = nullptr;                // [rows, H] after the final norm, or null
  float* states = nullptr;                // [layers + 1, rows, H] before and after each layer
  float* logits = nullptr;                // [rows, V], or null
  // Probabilities [layers, B, N, longest, keys] of the longest sequence of tokens and the most keys
  // that one sees, zeroed; or null. Their calls never take the way of few queries.
  float *attentions = nullptr, *cross_attentions = nullptr;
  std::int64_t keys = 0, memory_keys = 0;
  BestTokens* best = nullptr;  // or null
};

class Decoder {
 public:
  Decoder(const KernelTable& table, const DecoderShape& shape, DecoderWeights weights);
  ~Decoder() { delete spare_.load(); }

  // All layers have the same sizes, which decide about buffers and caches.
  void add_layer(TransformerBlock block, const LayerPositions& positions);

  const DecoderShape& shape() const { return shape_; }
  const std::vector<TransformerBlock>& blocks() const { return blocks_; }
  std::int64_t layers() const { return static_cast<std::int64_t>(blocks_.size()); }
  const BlockShape& layer_shape() const { return blocks_.front().shape(); }
  bool has_cross_attention() const { return layers() > 0 && blocks_[0].has_cross_attention(); }
  bool causal() const;  // all layers are
  Dtype dtype() const { return head_->dtype(); }
  const char* isa() const { return head_->isa(); }
  std::int64_t weight_bytes() const;
  const std::shared_ptr<const Linear>& embedding() const { return embed_; }
  const std::optional<Distances>& distances() const { return distances_; }

  // Computes the keys and values of memory rows [M, H] for all layers. Returns null when
  // interrupted.
  std::shared_ptr<const DecoderMemory> remember(const RaggedBatch& batch, const float* rows,
                                                Dtype dtype, Interrupt& interrupt) const;

  // Runs a call. Everything in it has been checked. The results are incomplete when interrupted.
  void run(const DecoderCall& call, DecoderBuffers& buffers, Interrupt& interrupt) const;
  // The same for a call by itself, with buffers that are kept for the next one.
  void run(const DecoderCall& call, Interrupt& interrupt) const;

  // Computes the logits [count, V] of rows [count, H] after the final norm.
  void logits(const float* hidden, std::int64_t count, float* logits, Interrupt& interrupt) const;

 private:
  struct Layer {
    bool causal, distances;
    int turns;  // -1: none
  };
  void list_rows(const DecoderCall& call, DecoderBuffers& buffers) const;
  bool grow_tables(const DecoderCall& call, DecoderBuffers& buffers, Interrupt& interrupt) const;
  double work(const DecoderCall& call) const;
  void plan(const DecoderCall& call, DecoderBuffers& buffers, int threads) const;
  void plan_group(const DecoderCall& call, DecoderBuffers& buffers, std::int64_t group,
                  int threads) const;
  bool embed(Team::Member& member, const DecoderCall& call, DecoderBuffers& buffers) const;
  bool keep_states(Team::Member& member, const DecoderCall& call, const DecoderBuffers& buffers,
                   std::int64_t layer) const;
  bool run_layer(Team::Member& member, const DecoderCall& call, DecoderBuffers& buffers,
                 std::int64_t layer) const;
  bool finish(Team::Member& member, const DecoderCall& call, DecoderBuffers& buffers) const;
  const Activation* cap() const { return shape_.logit_softcap > 0 ? &cap_ : nullptr; }

  const KernelTable* table_;
  DecoderShape shape_;
  std::shared_ptr<const Linear> head_, embed_;  // the same where their weights are
  Buffer positions_;
  std::optional<Norm> embed_norm_, final_norm_;
  std::optional<Distances> distances_;
  Activation cap_;
  std::vector<TransformerBlock> blocks_;
  std::vector<Layer> layers_;
  std::vector<Turns> turns_;
  mutable std::atomic<DecoderBuffers*> spare_{nullptr};  // of the last call by itself
};

}  // namespace treadle

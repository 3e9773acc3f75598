// A BlockCall runs transformer blocks over a ragged batch; SequenceGroups cuts it into groups.
//
// The tokens of all sequences lie one after the other; nothing is padded. Sequences go through a
// block in groups whose activations stay in the cache.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "engine/transformer/block.h"

namespace treadle {

// In a RaggedBatch the rows of all sequences lie one after the other. Sequence b has the rows
// [offsets[b], offsets[b + 1]).
struct RaggedBatch {
  std::int64_t B, longest;      // the number of sequences, and of the rows of the longest one
  const std::int64_t* offsets;  // [B + 1]

  std::int64_t rows() const { return offsets[B]; }
  std::int64_t length(std::int64_t b) const { return offsets[b + 1] - offsets[b]; }
};

// Lists the first sequence of each group, and at the end B. A group is full when its rows are so
// many that all threads are busy and their activations still lie in the cache.
void group_sequences(const RaggedBatch& batch, std::vector<std::int64_t>& bounds);

// An AttentionView says which keys the queries of a batch see. S and K are the longest sequences of
// queries and keys.
struct AttentionView {
  HeadView<const std::uint8_t> mask;  // [B, N, S, K], as in AttentionCall
  bool mask_adds, causal;
  float* probabilities;  // [B, N, S, K], zeroed; or null
};

struct BlockCall {
  RaggedBatch batch;
  const float* x;  // [rows, H]
  float* out;      // the same shape
  AttentionView self_attention;
  // In cross attention sequence b sees the rows of sequence b of the memory. All of these are zero
  // where no block has it.
  RaggedBatch memory;
  const float* memory_rows;  // [rows of the memory, H]
  AttentionView cross_attention;
};

// SequenceGroups holds the sequences of a call in groups. The hidden states lie in the call's
// output.
class SequenceGroups {
 public:
  struct Group {
    BlockRows rows;
    Attention self_attention;
    std::optional<Attention> cross_attention;
  };

  // Cuts the sequences into groups and makes room for them in the buffers. The call and the buffers
  // must outlive the groups.
  SequenceGroups(const BlockShape& shape, Dtype dtype, const BlockCall& call,
                 BlockBuffers& buffers);

  // Multiply-adds of one block for all groups; the products of the memory are not among them.
  double work() const { return work_; }

  // Fills the list of groups for a team of so many threads; a group without a row is left out.
  // `memory` holds the keys and values of the memory, [rows, 2 * H]; it is null where there is no
  // cross attention.
  void make(const KernelTable& table, int threads, const float* memory);
  std::vector<Group>& list() { return groups_; }

  // Runs as a phase of a team: copies the hidden states of a group from the call's x.
  bool enter(Team::Member& member, const Group& group) const;

 private:
  const BlockShape shape_;
  const Dtype dtype_;
  const BlockCall& call_;
  BlockBuffers& buffers_;
  double work_ = 0;
  std::vector<std::int64_t> bounds_;            // of the groups, as group_sequences lists them
  std::vector<std::int64_t> starts_, lengths_;  // [B] rows: from the group's first on; how many
  std::vector<std::int64_t> memory_lengths_;    // [B]
  std::vector<Group> groups_;
};

// Runs one block over the whole call; the keys and values of the memory are computed first.
// Everything in `call` has been checked.
void run_block(const TransformerBlock& block, const BlockCall& call, Interrupt& interrupt);

}  // namespace treadle

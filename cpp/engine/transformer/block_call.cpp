#include "engine/transformer/block_call.h"

#include <algorithm>
#include <cstring>

namespace treadle {
namespace {

// A group is full when it has so many rows: its activations then stay in L2, and the weights of a
// block, which are read once for each group, in L3.
constexpr std::int64_t kGroupRows = 128;
constexpr std::int64_t kEnterRows = 16;  // rows that a task copies

// Gives a call of attention the masks and the probabilities of the sequences from `begin` on.
void set_view(AttentionCall& a, const AttentionView& view, std::int64_t begin) {
  a.mask = view.mask;
  if (a.mask.data) a.mask.data += begin * a.mask.b;
  a.mask_adds = view.mask_adds;
  a.causal = view.causal;
  if (view.probabilities) a.probabilities = view.probabilities + begin * a.N * a.S * a.K;
}

}  // namespace

void group_sequences(const RaggedBatch& batch, std::vector<std::int64_t>& bounds) {
  bounds.assign(1, 0);
  for (std::int64_t b = 0; b < batch.B; ++b) {
    const std::int64_t rows = batch.offsets[b + 1] - batch.offsets[bounds.back()];
    if (rows >= kGroupRows || b + 1 == batch.B) bounds.push_back(b + 1);
  }
}

SequenceGroups::SequenceGroups(const BlockShape& shape, Dtype dtype, const BlockCall& call,
                               BlockBuffers& buffers)
    : shape_(shape), dtype_(dtype), call_(call), buffers_(buffers) {
  const RaggedBatch &batch = call.batch, &memory = call.memory;
  const std::int64_t H = shape.hidden, F = shape.feed_forward;
  for (std::int64_t b = 0; b < batch.B; ++b) {
    const double length = static_cast<double>(batch.length(b));
    work_ += length * (4.0 * H * H + 2.0 * H * F) + 2.0 * length * length * H;
    if (memory.offsets) work_ += length * (2.0 * H * H + 2.0 * memory.length(b) * H);
  }
  group_sequences(batch, bounds_);
  std::int64_t most = 0;  // rows of the largest group
  for (std::size_t i = 0; i + 1 < bounds_.size(); ++i) {
    most = std::max(most, batch.offsets[bounds_[i + 1]] - batch.offsets[bounds_[i]]);
  }
  buffers.reserve(shape, dtype, most);
  buffers.x_rows.resize(batch.rows());
  for (std::int64_t i = 0; i < batch.rows(); ++i) buffers.x_rows[i] = call.out + i * H;
}

void SequenceGroups::make(const KernelTable& table, int threads, const float* memory) {
  const RaggedBatch& batch = call_.batch;
  if (static_cast<int>(buffers_.scratch.size()) < threads) buffers_.scratch.resize(threads);
  starts_.resize(batch.B);
  lengths_.resize(batch.B);
  memory_lengths_.resize(memory ? batch.B : 0);
  groups_.reserve(bounds_.size());
  AttentionCall self = self_call(shape_, dtype_, buffers_);
  self.S = self.K = batch.longest;
  AttentionCall cross = cross_call(shape_, dtype_, buffers_, memory);
  cross.S = batch.longest;
  cross.K = call_.memory.longest;
  for (std::size_t i = 0; i + 1 < bounds_.size(); ++i) {
    const std::int64_t begin = bounds_[i], end = bounds_[i + 1], start = batch.offsets[begin];
    const std::int64_t rows = batch.offsets[end] - start;
    if (rows == 0) continue;
    for (std::int64_t b = begin; b < end; ++b) {
      starts_[b] = batch.offsets[b] - start;
      lengths_[b] = batch.length(b);
      if (memory) memory_lengths_[b] = call_.memory.length(b);
    }
    self.B = cross.B = end - begin;
    self.query_starts = self.key_starts = cross.query_starts = starts_.data() + begin;
    self.query_lengths = self.key_lengths = cross.query_lengths = lengths_.data() + begin;
    set_view(self, call_.self_attention, begin);
    groups_.push_back({{rows, buffers_.x_rows.data() + start}, {table, self, threads}, {}});
    if (memory) {
      cross.key_starts = call_.memory.offsets + begin;
      cross.key_lengths = memory_lengths_.data() + begin;
      set_view(cross, call_.cross_attention, begin);
      groups_.back().cross_attention.emplace(table, cross, threads);
    }
    for (int t = 0; t < threads; ++t) {
      groups_.back().self_attention.reserve(buffers_.scratch[t]);
      if (memory) groups_.back().cross_attention->reserve(buffers_.scratch[t]);
    }
  }
}

bool SequenceGroups::enter(Team::Member& member, const Group& group) const {
  const std::int64_t H = shape_.hidden, rows = group.rows.count;
  const std::int64_t tasks = (rows + kEnterRows - 1) / kEnterRows;
  return member.parallel_for(tasks, static_cast<double>(kEnterRows) * H, [&](std::int64_t task) {
    const std::int64_t first = task * kEnterRows;
    const std::int64_t floats = std::min(kEnterRows, rows - first) * H;
    float* to = group.rows.x[first];
    std::memcpy(to, call_.x + (to - call_.out), static_cast<std::size_t>(floats) * sizeof(float));
  });
}

void run_block(const TransformerBlock& block, const BlockCall& call, Interrupt& interrupt) {
  if (call.batch.rows() == 0) return;
  const std::int64_t H = block.shape().hidden;
  Buffer memory;
  if (block.has_cross_attention()) {
    const std::int64_t rows = call.memory.rows();
    // The buffer has at least one row, since its address tells that there is a memory at all.
    memory = Buffer::uninitialized(std::max<std::int64_t>(1, rows) * 2 * H);
    product(block.memory_product(), rows, call.memory_rows, H, nullptr, nullptr, memory.data(),
            interrupt);
    if (interrupt.stopped()) return;
  }
  BlockBuffers buffers;
  SequenceGroups groups(block.shape(), block.dtype(), call, buffers);
  Team team(groups.work(), interrupt);
  groups.make(block.table(), team.size(), memory.data());
  team.run([&](Team::Member& member) {
    for (SequenceGroups::Group& g : groups.list()) {
      const Linear* next = &g == &groups.list().back() ? nullptr : &block.first_product();
      if (!groups.enter(member, g) ||
          !block.self_attention(member, g.rows, g.self_attention, {}, buffers) ||
          (g.cross_attention &&
           !block.cross_attention(member, g.rows, *g.cross_attention, buffers)) ||
          !block.feed_forward(member, g.rows, buffers, next)) {
        return;
      }
    }
  });
}

}  // namespace treadle

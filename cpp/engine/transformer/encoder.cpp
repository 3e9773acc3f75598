#include "engine/transformer/encoder.h"

#include <memory>

namespace treadle {

std::int64_t Encoder::weight_bytes() const {
  std::int64_t bytes = 0;
  for (const TransformerBlock& block : blocks_) bytes += block.weight_bytes();
  return bytes;
}

void Encoder::run(const BlockCall& call, std::int64_t first, std::int64_t last,
                  Interrupt& interrupt) const {
  constexpr std::int64_t kKeep = 32 << 20;  // larger buffers, in bytes, are not kept
  if (call.batch.rows() == 0 || first == last) return;
  std::unique_ptr<BlockBuffers> buffers(spare_.exchange(nullptr, std::memory_order_acquire));
  if (!buffers) buffers = std::make_unique<BlockBuffers>();
  SequenceGroups groups(shape_, dtype_, call, *buffers);
  Team team(groups.work() * static_cast<double>(last - first), interrupt);
  groups.make(*table_, team.size(), nullptr);
  team.run([&](Team::Member& member) {
    for (std::int64_t i = first; i < last; ++i) {
      const TransformerBlock& block = blocks_[i];
      const Linear* after = i + 1 < last ? &blocks_[i + 1].first_product() : nullptr;
      for (SequenceGroups::Group& g : groups.list()) {
        const Linear* next = &g == &groups.list().back() ? after : &block.first_product();
        // Each group copies its hidden states when it begins, so that Ctrl-C never waits for all.
        if ((i == first && !groups.enter(member, g)) ||
            !block.self_attention(member, g.rows, g.self_attention, {}, *buffers) ||
            !block.feed_forward(member, g.rows, *buffers, next)) {
          return;
        }
      }
    }
  });
  if (buffers->bytes() <= kKeep) {
    buffers.reset(spare_.exchange(buffers.release(), std::memory_order_acq_rel));
  }
}

}  // namespace treadle

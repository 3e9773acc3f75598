// A transformer encoder: blocks of self attention and feed forward, one after the other, over a
// ragged batch.
#pragma once

#include <atomic>
#include <cstdint>
#include <utility>
#include <vector>

#include "engine/transformer/block.h"
#include "engine/transformer/block_call.h"

namespace treadle {

class Encoder {
 public:
  Encoder(const KernelTable& table, const BlockShape& shape, Dtype dtype = Dtype::float32)
      : table_(&table), shape_(shape), dtype_(dtype) {}
  ~Encoder() { delete spare_.load(); }

  // The weights have the encoder's dtype and no cross attention.
  void add_layer(const BlockWeights& weights) {
    add_layer(TransformerBlock(*table_, shape_, weights));
  }
  // The block was made with the encoder's table and shape.
  void add_layer(TransformerBlock block) { blocks_.push_back(std::move(block)); }

  const KernelTable& table() const { return *table_; }
  const BlockShape& shape() const { return shape_; }
  Dtype dtype() const { return dtype_; }
  const char* isa() const { return table_->of(dtype_).isa; }  // the level of the products
  std::int64_t layers() const { return static_cast<std::int64_t>(blocks_.size()); }
  std::int64_t weight_bytes() const;

  // Runs the layers [first, last) over a call without memory. Everything in `call` has been
  // checked.
  void run(const BlockCall& call, std::int64_t first, std::int64_t last,
           Interrupt& interrupt) const;

 private:
  const KernelTable* table_;
  BlockShape shape_;
  Dtype dtype_;  // the dtype of the products' weights
  std::vector<TransformerBlock> blocks_;
  // The buffers of the last call, kept for the next one unless another thread has them.
  mutable std::atomic<BlockBuffers*> spare_{nullptr};
};

}  // namespace treadle

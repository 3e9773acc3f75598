// A DecoderState is the sequences that a decoder goes on with: their keys and values, their lengths
// and the memory that they see. A step adds a token to each of them.
//
// A call that throws, or is interrupted, changes nothing. The state is not thread-safe; its owner
// sees to that.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/transformer/decoder.h"

namespace treadle {

class DecoderState {
 public:
  // Makes `rows` sequences without a token, with room for `capacity` tokens each. `memory` is null
  // where the decoder has no cross attention; row r sees sequence r of it.
  DecoderState(std::shared_ptr<const Decoder> decoder, std::int64_t rows, std::int64_t capacity,
               Dtype dtype, std::shared_ptr<const DecoderMemory> memory);
  // Copies everything but the memory, which both see. The copy is incomplete when interrupted.
  DecoderState(const DecoderState& other, Interrupt& interrupt);

  const std::shared_ptr<const Decoder>& decoder() const { return decoder_; }
  std::int64_t rows() const { return static_cast<std::int64_t>(lengths_.size()); }
  std::int64_t capacity() const { return cache_.capacity(); }
  const std::vector<std::int64_t>& lengths() const { return lengths_; }
  std::int64_t bytes() const;
  // The rows of the longest memory that a row sees; 0 without one.
  std::int64_t longest_memory() const;

  // Adds counts[r] tokens to each row r. Results go where `call` says, whose batch, past and cache
  // this fills in.
  void extend(const std::int64_t* counts, DecoderCall& call, Interrupt& interrupt);
  // Row r becomes what row sources[r] was, and there are `count` rows.
  void reorder(const std::int64_t* sources, std::int64_t count, Interrupt& interrupt);
  // Row r keeps its first lengths[r] tokens, at most as many as it has.
  void truncate(const std::int64_t* lengths);

 private:
  std::shared_ptr<const Decoder> decoder_;
  SlotCache cache_;
  std::vector<std::int64_t> lengths_, sources_;  // [rows]: tokens; sequences of the memory
  std::vector<std::int64_t> offsets_;            // [rows + 1], of a call
  std::shared_ptr<const DecoderMemory> memory_;
  DecoderBuffers buffers_;
};

}  // namespace treadle

#include "engine/transformer/decoder_state.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace treadle {
namespace {

SlotCache::Shape cache_shape(const Decoder& decoder, Dtype dtype) {
  const BlockShape& shape = decoder.layer_shape();
  return {decoder.layers() * shape.kv_heads, shape.head_size, dtype};
}

}  // namespace

DecoderState::DecoderState(std::shared_ptr<const Decoder> decoder, std::int64_t rows,
                           std::int64_t capacity, Dtype dtype,
                           std::shared_ptr<const DecoderMemory> memory)
    : decoder_(std::move(decoder)),
      cache_(cache_shape(*decoder_, dtype), rows, capacity),
      lengths_(static_cast<std::size_t>(rows), 0),
      sources_(static_cast<std::size_t>(rows)),
      memory_(std::move(memory)) {
  std::iota(sources_.begin(), sources_.end(), 0);
}

DecoderState::DecoderState(const DecoderState& other, Interrupt& interrupt)
    : decoder_(other.decoder_),
      cache_(other.cache_, other.lengths_.data(), interrupt),
      lengths_(other.lengths_),
      sources_(other.sources_),
      memory_(other.memory_) {}

std::int64_t DecoderState::bytes() const {
  std::int64_t bytes = cache_.bytes() + buffers_.bytes();
  if (memory_) bytes += memory_->keys.bytes() + memory_->values.bytes();
  return bytes;
}

std::int64_t DecoderState::longest_memory() const {
  std::int64_t longest = 0;
  for (std::int64_t r = 0; memory_ && r < rows(); ++r) {
    longest = std::max(longest, memory_->lengths[sources_[r]]);
  }
  return longest;
}

void DecoderState::extend(const std::int64_t* counts, DecoderCall& call, Interrupt& interrupt) {
  std::int64_t longest = 0, most = 0;
  offsets_.assign(1, 0);
  for (std::int64_t r = 0; r < rows(); ++r) {
    most = std::max(most, lengths_[r] + counts[r]);
    longest = std::max(longest, counts[r]);
    offsets_.push_back(offsets_.back() + counts[r]);
  }
  if (!cache_.reserve(most, lengths_.data(), interrupt)) return;
  call.batch = {rows(), longest, offsets_.data()};
  call.past = lengths_.data();
  call.cache = &cache_;
  call.memory = memory_.get();
  call.sources = sources_.data();
  decoder_->run(call, buffers_, interrupt);
  // The new tokens exist from here on, those of all rows together.
  if (interrupt.stopped()) return;
  for (std::int64_t r = 0; r < rows(); ++r) lengths_[r] += counts[r];
}

void DecoderState::reorder(const std::int64_t* sources, std::int64_t count, Interrupt& interrupt) {
  std::vector<std::int64_t> lengths(static_cast<std::size_t>(count)), seen(lengths.size());
  for (std::int64_t r = 0; r < count; ++r) {
    lengths[r] = lengths_[sources[r]];
    seen[r] = sources_[sources[r]];
  }
  if (!cache_.reorder(sources, count, lengths_.data(), interrupt)) return;
  lengths_ = std::move(lengths);
  sources_ = std::move(seen);
}

void DecoderState::truncate(const std::int64_t* lengths) {
  std::copy_n(lengths, rows(), lengths_.begin());
}

}  // namespace treadle

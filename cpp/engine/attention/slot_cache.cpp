#include "engine/attention/slot_cache.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace treadle {

SlotCache::SlotCache(const Shape& shape, std::int64_t rows, std::int64_t capacity)
    : shape_(shape),
      room_(rows),
      keys_(shape.dtype, shape.heads, capacity, shape.size, rows),
      values_(shape.dtype, shape.heads, capacity, shape.size, rows),
      slots_(static_cast<std::size_t>(rows)) {
  std::iota(slots_.begin(), slots_.end(), 0);
  set_starts();
}

SlotCache::SlotCache(const SlotCache& other, const std::int64_t* lengths, Interrupt& interrupt)
    : SlotCache(other.shape_, other.rows(), other.capacity()) {
  for (std::int64_t row = 0; row < rows(); ++row) {
    keys_.copy(row, other.keys_, other.slots_[row], lengths[row], interrupt);
    values_.copy(row, other.values_, other.slots_[row], lengths[row], interrupt);
  }
}

void SlotCache::set_starts() {
  starts_.resize(slots_.size());
  for (std::size_t r = 0; r < slots_.size(); ++r) {
    starts_[r] = slots_[r] * shape_.heads * capacity();
  }
}

bool SlotCache::move(std::int64_t room, std::int64_t capacity, const std::int64_t* lengths,
                     Interrupt& interrupt) {
  CachedRows keys(shape_.dtype, shape_.heads, capacity, shape_.size, room);
  CachedRows values(shape_.dtype, shape_.heads, capacity, shape_.size, room);
  for (std::int64_t row = 0; row < rows(); ++row) {
    keys.copy(row, keys_, slots_[row], lengths[row], interrupt);
    values.copy(row, values_, slots_[row], lengths[row], interrupt);
  }
  if (interrupt.stopped()) return false;
  keys_ = std::move(keys);
  values_ = std::move(values);
  room_ = room;
  std::iota(slots_.begin(), slots_.end(), 0);
  set_starts();
  return true;
}

bool SlotCache::reserve(std::int64_t tokens, const std::int64_t* lengths, Interrupt& interrupt) {
  if (tokens <= capacity()) return true;
  return move(room_, std::max(tokens, 2 * capacity()), lengths, interrupt);
}

void SlotCache::put(std::int64_t row, std::int64_t at, const Heads& heads, const float* keys,
                    const float* values) {
  for (std::int64_t head = 0; head < heads.count; ++head) {
    keys_.put(slots_[row], heads.first + head, at, keys + head * shape_.size, 0, 1);
    values_.put(slots_[row], heads.first + head, at, values + head * shape_.size, 0, 1);
  }
}

bool SlotCache::reorder(const std::int64_t* sources, std::int64_t count,
                        const std::int64_t* lengths, Interrupt& interrupt) {
  // All memory is found before anything changes.
  constexpr std::int64_t kNone = -1;
  std::vector<std::int64_t> taken(static_cast<std::size_t>(rows()), kNone);  // by which new row
  std::vector<std::int64_t> slots(static_cast<std::size_t>(count)), free;
  starts_.reserve(static_cast<std::size_t>(count));
  if (count > room_ && !move(count, capacity(), lengths, interrupt)) return false;
  std::vector<bool> used(static_cast<std::size_t>(room_), false);
  free.reserve(static_cast<std::size_t>(room_));
  for (std::int64_t r = 0; r < count; ++r) {
    std::int64_t& by = taken[sources[r]];
    if (by != kNone) continue;
    by = r;
    slots[r] = slots_[sources[r]];
    used[slots[r]] = true;
  }
  for (std::int64_t slot = room_ - 1; slot >= 0; --slot) {
    if (!used[slot]) free.push_back(slot);
  }
  Interrupt never(nullptr);  // rows of which a part is overwritten would be neither old nor new
  for (std::int64_t r = 0; r < count; ++r) {
    const std::int64_t source = sources[r];
    if (taken[source] == r) continue;
    slots[r] = free.back();
    free.pop_back();
    keys_.copy(slots[r], keys_, slots_[source], lengths[source], never);
    values_.copy(slots[r], values_, slots_[source], lengths[source], never);
  }
  slots_ = std::move(slots);
  set_starts();
  return true;
}

void SlotCache::describe(AttentionCall& call, std::int64_t row, std::int64_t head) const {
  call.key_starts = starts_.data() + row;
  describe_heads(call, keys_, values_, head);
}

}  // namespace treadle

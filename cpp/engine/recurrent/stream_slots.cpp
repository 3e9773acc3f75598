#include "engine/recurrent/stream_slots.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>

namespace treadle {
namespace {

constexpr std::int64_t kMostOpenings =
    std::numeric_limits<std::int64_t>::max() >> StreamSlots::kSlotBits;

std::int64_t now() {
  const auto time = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(time).count();
}

// Returns a number that no opening in any pool of this process has had.
std::int64_t next_opening() {
  static std::atomic<std::int64_t> openings{0};
  const std::int64_t number = openings.fetch_add(1, std::memory_order_relaxed) + 1;
  if (number > kMostOpenings) {
    openings.store(kMostOpenings);
    throw std::runtime_error("treadle: this process has opened all streams that have a number");
  }
  return number;
}

// Who has this patience does not wait.
constexpr ReentrantGuard::Patience kNone{[](void*) { return true; }, nullptr};

}  // namespace

StreamSlots::StreamSlots(std::int64_t capacity, std::int64_t width)
    : capacity_(capacity),
      width_(width),
      states_(Buffer::uninitialized(capacity * width)),
      slots_(new Slot[static_cast<std::size_t>(capacity)]) {
  free_.reserve(static_cast<std::size_t>(capacity));  // so that giving back never fails
}

StreamSlots::Slot* StreamSlots::find(std::int64_t id) const {
  if (id < 0 || slot_of(id) >= capacity_ || id >> kSlotBits == 0) return nullptr;
  return &slots_[slot_of(id)];
}

bool StreamSlots::is_open(std::int64_t id) const {
  const Slot* slot = find(id);
  return slot && slot->opening.load() == id >> kSlotBits;
}

double StreamSlots::idle_seconds(std::int64_t id) const {
  const Slot* slot = find(id);
  return slot ? static_cast<double>(now() - slot->last_used.load()) * 1e-9 : 0;
}

std::int64_t StreamSlots::free_slot() {
  const ReentrantGuard::Hold hold(list_);
  if (!free_.empty()) {
    const std::int64_t slot = free_.back();
    free_.pop_back();
    return slot;
  }
  return untouched_ < capacity_ ? untouched_++ : kFull;
}

void StreamSlots::give_back(std::int64_t slot) {
  const ReentrantGuard::Hold hold(list_);
  free_.push_back(slot);
}

std::int64_t StreamSlots::open(const float* from) {
  const std::int64_t opening = next_opening();
  const std::int64_t number = free_slot();
  if (number == kFull) return kFull;
  Slot& slot = slots_[number];
  const std::size_t bytes = static_cast<std::size_t>(width_) * sizeof(float);
  {
    // Nobody but a call with an id that is no longer valid can have the slot, for a moment.
    const ReentrantGuard::Hold hold(slot.guard);
    if (from && bytes) {
      std::memcpy(state(number), from, bytes);
    } else if (bytes) {
      std::memset(state(number), 0, bytes);
    }
    slot.last_used.store(now());
    slot.opening.store(opening);
  }
  opened_.fetch_add(1);
  return opening << kSlotBits | number;
}

bool StreamSlots::close(std::int64_t id, const ReentrantGuard::Patience& patience) {
  if (!is_open(id)) return false;
  const std::int64_t number = slot_of(id);
  {
    const ReentrantGuard::Hold hold(slots_[number].guard, patience);
    if (!hold || !is_open(id)) return false;
    slots_[number].opening.store(0);
  }
  closed_.fetch_add(1);
  give_back(number);
  return true;
}

std::int64_t StreamSlots::evict(double seconds, std::int64_t most) {
  std::int64_t used;
  {
    const ReentrantGuard::Hold hold(list_);
    used = untouched_;
  }
  const std::int64_t time = now();
  std::vector<std::pair<std::int64_t, std::int64_t>> idle;  // the time of the last use, the slot
  for (std::int64_t i = 0; i < used; ++i) {
    const Slot& slot = slots_[i];
    const std::int64_t last = slot.last_used.load();
    if (slot.opening.load() == 0 || slot.guard.is_held()) continue;
    if (static_cast<double>(time - last) * 1e-9 >= seconds) idle.emplace_back(last, i);
  }
  std::sort(idle.begin(), idle.end());
  std::int64_t count = 0;
  for (const auto& [last, number] : idle) {
    if (count == most) break;
    Slot& slot = slots_[number];
    {
      const ReentrantGuard::Hold hold(slot.guard, kNone);
      // Whoever used or closed it meanwhile was faster.
      if (!hold || slot.opening.load() == 0 || slot.last_used.load() != last) continue;
      slot.opening.store(0);
    }
    ++count;
    closed_.fetch_add(1);
    evicted_.fetch_add(1);
    give_back(number);
  }
  return count;
}

StreamSlots::Statistics StreamSlots::statistics() const {
  const std::int64_t closed = closed_.load(), opened = opened_.load();
  return {std::max(opened - closed, std::int64_t{0}),
          opened,
          closed,
          evicted_.load(),
          calls_.load(),
          rows_.load(),
          frames_.load()};
}

void StreamSlots::count_call(std::int64_t rows, std::int64_t frames) {
  calls_.fetch_add(1, std::memory_order_relaxed);
  rows_.fetch_add(rows, std::memory_order_relaxed);
  frames_.fetch_add(frames, std::memory_order_relaxed);
}

StreamSlots::Held::Held(StreamSlots& slots, const std::int64_t* ids, std::int64_t count,
                        const ReentrantGuard::Patience& patience) {
  const auto refuse = [&](std::int64_t row, const char* why) {
    throw std::invalid_argument("the stream of row " + std::to_string(row) + " (id " +
                                std::to_string(ids[row]) + ") " + why);
  };
  constexpr const char* kClosed =
      "is not open: it was closed or evicted, or the id is that of another pool";
  for (std::int64_t i = 0; i < count; ++i) {
    if (!slots.is_open(ids[i])) refuse(i, kClosed);
  }
  std::vector<std::int64_t> order(static_cast<std::size_t>(count));
  std::iota(order.begin(), order.end(), 0);
  const auto before = [&](std::int64_t a, std::int64_t b) {
    return slots.slot_of(ids[a]) < slots.slot_of(ids[b]);
  };
  if (!std::is_sorted(order.begin(), order.end(), before)) {
    std::sort(order.begin(), order.end(), before);
  }
  for (std::int64_t i = 1; i < count; ++i) {
    if (slots.slot_of(ids[order[i]]) == slots.slot_of(ids[order[i - 1]])) {
      refuse(order[i], "occurs twice, expected each stream once");
    }
  }
  holds_of_.reset(new std::optional<ReentrantGuard::Hold>[static_cast<std::size_t>(count)]);
  states_.resize(static_cast<std::size_t>(count));
  const std::int64_t time = now();
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t row = order[i], number = slots.slot_of(ids[row]);
    holds_of_[i].emplace(slots.slots_[number].guard, patience);
    if (!*holds_of_[i]) {
      holds_of_.reset();
      return;
    }
    if (!slots.is_open(ids[row])) refuse(row, kClosed);
    slots.slots_[number].last_used.store(time, std::memory_order_relaxed);
    states_[row] = slots.state(number);
  }
  holds_ = true;
}

}  // namespace treadle

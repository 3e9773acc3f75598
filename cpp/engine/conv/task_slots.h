// TaskSlots hands pieces of a caller's memory to tasks that run at the same time.
#pragma once

#include <atomic>
#include <cstdint>
#include <new>

namespace treadle {

class TaskSlots {
 public:
  TaskSlots() = default;
  // Cuts memory of `floats(count, size)` floats into `count` slots of `size` floats each.
  TaskSlots(float* memory, std::int64_t count, std::int64_t size)
      : memory_(memory), count_(count), stride_(stride(size)) {
    for (std::int64_t i = 0; i < count; ++i) new (memory + i * stride_) Flag(false);
  }

  static std::int64_t floats(std::int64_t count, std::int64_t size) { return count * stride(size); }

  // A Slot belongs to one task while it lives.
  class Slot {
   public:
    // There are as many slots as threads, so that one is free, or will be in a moment.
    explicit Slot(const TaskSlots& slots) {
      for (std::int64_t i = 0;; i = i + 1 < slots.count_ ? i + 1 : 0) {
        float* const at = slots.memory_ + i * slots.stride_;
        flag_ = reinterpret_cast<Flag*>(at);
        if (!flag_->exchange(true, std::memory_order_acquire)) {
          data_ = at + kHead;
          return;
        }
      }
    }
    ~Slot() { flag_->store(false, std::memory_order_release); }
    Slot(const Slot&) = delete;
    Slot& operator=(const Slot&) = delete;

    float* data() const {
      return data_;
    }  // on a cache line of its own, if the memory begins on one

   private:
    std::atomic<bool>* flag_;
    float* data_;
  };

 private:
  using Flag = std::atomic<bool>;
  static constexpr std::int64_t kHead = 16;  // floats of a cache line
  static std::int64_t stride(std::int64_t size) {
    return kHead + (size + kHead - 1) / kHead * kHead;
  }

  float* memory_ = nullptr;
  std::int64_t count_ = 0, stride_ = 0;
};

}  // namespace treadle

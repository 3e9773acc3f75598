// A Buffer owns an array of floats on a cache-line boundary, set to zero by default.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#include "runtime/aligned_memory.h"

namespace treadle {

class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::int64_t floats) : Buffer(uninitialized(floats)) {
    if (data_) std::memset(data_, 0, static_cast<std::size_t>(size_) * sizeof(float));
  }
  // Makes a buffer that is written before it is read. Setting a gigabyte to zero would take long,
  // and Ctrl-C could not interrupt it.
  static Buffer uninitialized(std::int64_t floats) {
    Buffer buffer;
    if (floats > 0) buffer.allocate(floats);
    return buffer;
  }
  ~Buffer() { free_aligned(data_); }
  Buffer(Buffer&& other) noexcept { *this = std::move(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  float* data() { return data_; }
  const float* data() const { return data_; }
  std::int64_t size() const { return size_; }

 private:
  void allocate(std::int64_t floats) {
    const std::size_t bytes = static_cast<std::size_t>(floats) * sizeof(float);
    // Large weights on huge pages: a walk through 4 KiB pages costs a tenth of the L2 bandwidth.
    const std::size_t alignment = bytes >= kHugePage ? kHugePage : kCacheLine;
    data_ = static_cast<float*>(allocate_aligned(alignment, bytes));
    if (alignment == kHugePage) prefer_huge_pages(data_, bytes);
    size_ = floats;
  }

  static constexpr std::size_t kCacheLine = 64, kHugePage = std::size_t{1} << 21;
  float* data_ = nullptr;
  std::int64_t size_ = 0;
};

}  // namespace treadle

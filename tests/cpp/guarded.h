// An array next to a page that nobody may touch: one element too far is a crash, on every ISA, in
// every build, for instructions that no sanitizer sees.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace treadle {

// GuardedBytes are memory between two pages that nobody may touch. It begins at the one, and ends
// at the other where its size is a multiple of a page.
class GuardedBytes {
 public:
  // Makes room for at least so many bytes. Throws std::bad_alloc.
  explicit GuardedBytes(std::int64_t least);
  ~GuardedBytes();
  GuardedBytes(const GuardedBytes&) = delete;
  GuardedBytes& operator=(const GuardedBytes&) = delete;

  char* begin() { return begin_; }
  char* end() { return end_; }

 private:
  char *begin_, *end_;
};

enum class Edge { end, begin };  // which end of the array lies at the page

template <class T>
class Guarded {
 public:
  explicit Guarded(std::int64_t count, Edge edge = Edge::end)
      : count_(count),
        bytes_(count * static_cast<std::int64_t>(sizeof(T))),
        data_(reinterpret_cast<T*>(edge == Edge::begin ? bytes_.begin()
                                                       : bytes_.end() - count * sizeof(T))) {}
  explicit Guarded(const std::vector<T>& values, Edge edge = Edge::end)
      : Guarded(static_cast<std::int64_t>(values.size()), edge) {
    std::copy(values.begin(), values.end(), data_);
  }

  T* data() { return data_; }
  const T* data() const { return data_; }
  T* begin() { return data_; }
  T* end() { return data_ + count_; }
  T& operator[](std::int64_t i) { return data_[i]; }
  const T& operator[](std::int64_t i) const { return data_[i]; }
  std::int64_t size() const { return count_; }

 private:
  std::int64_t count_;
  GuardedBytes bytes_;
  T* data_;
};

}  // namespace treadle

// An array next to a page that nobody may touch: one element too far is a crash, on every ISA, in
// every build, for instructions that no sanitizer sees.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <new>
#include <vector>

namespace treadle {

enum class Edge { end, begin };  // which end of the array lies at the page

template <class T>
class Guarded {
 public:
  explicit Guarded(std::int64_t count, Edge edge = Edge::end) : count_(count) {
    const std::int64_t page = sysconf(_SC_PAGESIZE);
    const std::int64_t bytes = count * static_cast<std::int64_t>(sizeof(T));
    const std::int64_t inside = (bytes + page - 1) / page * page;
    mapped_ = static_cast<std::size_t>(inside + 2 * page);
    void* map = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) throw std::bad_alloc();
    map_ = static_cast<char*>(map);
    if (mprotect(map_, page, PROT_NONE) != 0 ||
        mprotect(map_ + page + inside, page, PROT_NONE) != 0) {
      throw std::bad_alloc();
    }
    data_ = reinterpret_cast<T*>(edge == Edge::begin ? map_ + page : map_ + page + inside - bytes);
  }
  explicit Guarded(const std::vector<T>& values, Edge edge = Edge::end)
      : Guarded(static_cast<std::int64_t>(values.size()), edge) {
    std::copy(values.begin(), values.end(), data_);
  }
  ~Guarded() { munmap(map_, mapped_); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  T* data() { return data_; }
  const T* data() const { return data_; }
  T* begin() { return data_; }
  T* end() { return data_ + count_; }
  T& operator[](std::int64_t i) { return data_[i]; }
  const T& operator[](std::int64_t i) const { return data_[i]; }
  std::int64_t size() const { return count_; }

 private:
  std::int64_t count_;
  std::size_t mapped_;
  char* map_;
  T* data_;
};

}  // namespace treadle

#include "runtime/aligned_memory.h"

#include <algorithm>
#include <cstdlib>
#include <new>

#if defined(_WIN32)
#include <malloc.h>
#elif defined(__linux__)
#include <sys/mman.h>
#endif

namespace treadle {

void* allocate_aligned(std::size_t alignment, std::size_t bytes) {
  // The size is a multiple of the alignment, too, which C11 asks for.
  const std::size_t rounded = (std::max<std::size_t>(bytes, 1) + alignment - 1) & -alignment;
  if (rounded < bytes) throw std::bad_alloc();
#if defined(_WIN32)
  void* const memory = _aligned_malloc(rounded, alignment);
#else
  void* const memory = std::aligned_alloc(alignment, rounded);
#endif
  if (!memory) throw std::bad_alloc();
  return memory;
}

void free_aligned(void* memory) noexcept {
#if defined(_WIN32)
  _aligned_free(memory);
#else
  std::free(memory);
#endif
}

void prefer_huge_pages(void* memory, std::size_t bytes) noexcept {
#if defined(__linux__)
  madvise(memory, bytes, MADV_HUGEPAGE);  // advice: may fail
#else
  // Windows has them for privileged processes only, macOS chooses by itself.
  (void)memory;
  (void)bytes;
#endif
}

}  // namespace treadle

// Memory that begins at a multiple of a given number, as vectors, cache lines and huge pages want.
#pragma once

#include <cstddef>

namespace treadle {

// Returns `bytes` at a multiple of `alignment`, a power of two; nobody has written them. They are
// given back by free_aligned. Throws std::bad_alloc.
void* allocate_aligned(std::size_t alignment, std::size_t bytes);
// Frees what allocate_aligned returned; null is nothing.
void free_aligned(void* memory) noexcept;

// Advises the system to back this memory by huge pages, where it has them.
void prefer_huge_pages(void* memory, std::size_t bytes) noexcept;

}  // namespace treadle

#include "guarded.h"

#include <new>

#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <windows.h>
#else
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace treadle {
namespace {

#if defined(_WIN32)

std::int64_t page_size() {
  SYSTEM_INFO system;
  GetSystemInfo(&system);
  return system.dwPageSize;
}

void* map(std::int64_t bytes) {
  return VirtualAlloc(nullptr, bytes, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
}
void unmap(void* memory, std::int64_t) { VirtualFree(memory, 0, MEM_RELEASE); }

bool forbid(void* memory, std::int64_t bytes) {
  DWORD before;
  return VirtualProtect(memory, bytes, PAGE_NOACCESS, &before) != 0;
}

#else

std::int64_t page_size() { return sysconf(_SC_PAGESIZE); }

void* map(std::int64_t bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return memory == MAP_FAILED ? nullptr : memory;
}
void unmap(void* memory, std::int64_t bytes) { munmap(memory, bytes); }

bool forbid(void* memory, std::int64_t bytes) { return mprotect(memory, bytes, PROT_NONE) == 0; }

#endif

}  // namespace

GuardedBytes::GuardedBytes(std::int64_t least) {
  const std::int64_t page = page_size(), inside = (least + page - 1) / page * page;
  auto* const memory = static_cast<char*>(map(inside + 2 * page));
  if (!memory || !forbid(memory, page) || !forbid(memory + page + inside, page)) {
    throw std::bad_alloc();
  }
  begin_ = memory + page;
  end_ = begin_ + inside;
}

GuardedBytes::~GuardedBytes() {
  const std::int64_t page = page_size();
  unmap(begin_ - page, end_ - begin_ + 2 * page);
}

}  // namespace treadle

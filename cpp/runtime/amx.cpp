#include "runtime/amx.h"

#if defined(__x86_64__) && defined(__linux__)

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

namespace treadle {
namespace {

// Intel SDM, volume 2, CPUID.
bool cpu_has_tiles() {
  unsigned a, b, c, d;
  constexpr unsigned kSavesByXsave = 1u << 27;                    // leaf 1, ecx: OSXSAVE
  constexpr unsigned kFeatures = 1u << 22 | 1u << 24 | 1u << 25;  // AMX-BF16, -TILE, -INT8
  constexpr unsigned kPalette = 1024u << 16 | 8192, kRows = 16;   // leaf 1Dh, eax and ecx
  constexpr unsigned kNames = 8u << 16 | 64;                      // ebx
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & kSavesByXsave)) return false;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & kFeatures) != kFeatures) return false;
  if (!__get_cpuid_count(0x1D, 1, &a, &b, &c, &d)) return false;
  return a == kPalette && b == kNames && (c & 0xffff) == kRows;
}

// The operating system saves the tiles and their configuration: XCR0, bits 17 and 18.
bool tiles_are_saved() {
  std::uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  constexpr std::uint32_t kTiles = 3u << 17;
  return (low & kTiles) == kTiles;
}

// Documentation/arch/x86/xstate.rst of Linux.
bool kernel_agrees() {
  constexpr long kAsk = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kAsk, kTileData) == 0;
}

}  // namespace

bool may_use_tiles() { return cpu_has_tiles() && tiles_are_saved() && kernel_agrees(); }

}  // namespace treadle

#else

namespace treadle {

bool may_use_tiles() { return false; }

}  // namespace treadle

#endif

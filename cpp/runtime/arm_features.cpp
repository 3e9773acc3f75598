#include "runtime/arm_features.h"

#if defined(__aarch64__)

#if defined(__linux__)
#include <sys/auxv.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>

#include <cstddef>
#endif

namespace treadle::arm {
namespace {

// User code may not read an Arm CPU's registers of features; the system says what it allows. The
// bits are those of Linux (arch/arm64/include/uapi/asm/hwcap.h), whose older headers lack the
// names.
enum class Feature { dotprod, i8mm, bf16 };
bool has(Feature feature) {
#if defined(__linux__)
  switch (feature) {
    case Feature::dotprod:
      return getauxval(AT_HWCAP) >> 20 & 1;
    case Feature::i8mm:
      return getauxval(AT_HWCAP2) >> 13 & 1;
    case Feature::bf16:
      return getauxval(AT_HWCAP2) >> 14 & 1;
  }
  return false;
#elif defined(__APPLE__)
  const char* const name = feature == Feature::dotprod ? "hw.optional.arm.FEAT_DotProd"
                           : feature == Feature::i8mm  ? "hw.optional.arm.FEAT_I8MM"
                                                       : "hw.optional.arm.FEAT_BF16";
  int value = 0;
  std::size_t size = sizeof value;
  return sysctlbyname(name, &value, &size, nullptr, 0) == 0 && value != 0;
#else
  static_cast<void>(feature);
  return false;
#endif
}

}  // namespace

bool has_dotprod() { return has(Feature::dotprod); }
bool has_i8mm() { return has_dotprod() && has(Feature::i8mm); }
bool has_bf16() { return has_i8mm() && has(Feature::bf16); }

}  // namespace treadle::arm

#endif

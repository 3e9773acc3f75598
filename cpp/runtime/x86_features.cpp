#include "runtime/x86_features.h"

#if defined(__x86_64__)

#include <cpuid.h>

#include <initializer_list>

namespace treadle::x86 {
namespace {

// The registers that CPUID fills: zeros where the CPU has no such leaf.
struct Leaf {
  unsigned a = 0, b = 0, c = 0, d = 0;

  explicit Leaf(unsigned number, unsigned part = 0) {
    if (!__get_cpuid_count(number, part, &a, &b, &c, &d)) a = b = c = d = 0;
  }
};

constexpr unsigned bits(std::initializer_list<int> numbers) {
  unsigned all = 0;
  for (const int n : numbers) all |= 1u << n;
  return all;
}

bool has(unsigned found, std::initializer_list<int> numbers) {
  return (found & bits(numbers)) == bits(numbers);
}

// XCR0, which says what registers the system saves; 0 where programs may not ask (bit OSXSAVE). On
// macOS those of AVX-512 are missing until a program uses them, and its level is not found.
unsigned saved_registers(const Leaf& one) {
  unsigned low = 0, high = 0;
  if (has(one.c, {27})) asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

// The bits are those of Intel SDM volume 2, CPUID, and volume 1, 13.3 (XCR0).
struct Cpu {
  const Leaf one{1}, seven{7}, seven_1{7, 1}, extended{0x80000001};
  const unsigned saved = saved_registers(one);
};

const Cpu& cpu() {
  static const Cpu found;
  return found;
}

}  // namespace

bool has_avx2() {
  const Cpu& x = cpu();
  return has(x.one.c, {12, 22, 28, 29}) &&  // FMA, MOVBE, AVX, F16C
         has(x.seven.b, {3, 5, 8}) &&       // BMI1, AVX2, BMI2
         has(x.extended.c, {5}) &&          // LZCNT
         has(x.saved, {1, 2});              // xmm, ymm
}

bool has_avx512() {
  const Cpu& x = cpu();
  return has_avx2() && has(x.seven.b, {16, 17, 28, 30, 31}) &&  // F, DQ, CD, BW, VL
         has(x.saved, {5, 6, 7});                               // masks, zmm
}

bool has_avx512_bf16() {
  const Cpu& x = cpu();
  return has_avx512() && has(x.seven.c, {11}) && has(x.seven_1.a, {5});  // VNNI, BF16
}

}  // namespace treadle::x86

#endif

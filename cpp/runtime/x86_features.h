// The instructions that an x86 CPU has, as it tells by CPUID, and that the system lets programs
// use, as XGETBV tells: it saves their registers. __builtin_cpu_supports needs a library that
// neither zig nor clang-cl links.
#pragma once

namespace treadle::x86 {

bool has_avx2();         // all of x86-64-v3
bool has_avx512();       // and of x86-64-v4
bool has_avx512_bf16();  // and the dot products of bfloat16 and int8 (VNNI)

}  // namespace treadle::x86

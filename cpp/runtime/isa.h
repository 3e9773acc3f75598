// The CPU and TREADLE_ISA decide which kernels run; the active table holds them.
#pragma once

#include <string>
#include <vector>

#include "kernels/table.h"

namespace treadle {

// Returns the levels that this build has and this CPU can run, lowest first: portable, then those
// of x86-64 (avx2, avx512, avx512_bf16, amx) or Arm (neon, neon_dotprod, neon_i8mm, neon_bf16). amx
// is there only if TREADLE_ISA names it or nothing.
std::vector<std::string> available_isas();

// Returns the table for objects that are packed now: the highest level, or that of TREADLE_ISA.
// Throws std::invalid_argument where TREADLE_ISA names a level that cannot run here.
const KernelTable& kernels();

// Makes `isa` the active level. Objects keep the table that they were packed for.
void set_isa(const std::string& isa);

}  // namespace treadle

// Which kernels run: detection of the CPU, TREADLE_ISA, and the active table.
#pragma once

#include <string>
#include <vector>

#include "kernels/table.h"

namespace treadle {

// Levels that this build has and this CPU can run, lowest first: portable, avx2, avx512,
// avx512_bf16.
std::vector<std::string> available_isas();

// The table that objects packed from now on use: the highest level, or the one TREADLE_ISA names.
// Throws std::invalid_argument where TREADLE_ISA names a level that cannot run here.
const KernelTable& kernels();

// Makes `isa` the active level. Objects keep the table that they were packed for.
void set_isa(const std::string& isa);

}  // namespace treadle

// A plain product, packed for one call: x [M, K] times weight [N, K] transposed, plus bias [N].
#pragma once

#include <cstdint>

#include "engine/sequence.h"
#include "kernels/table.h"

namespace weft {

// out [M, N] is contiguous; the rows of x are x_m floats apart.
void linear_product(const KernelTable& table, std::int64_t M, std::int64_t N, std::int64_t K,
                    const float* x, std::int64_t x_m, const float* weight, const float* bias,
                    float* out, Interrupt& interrupt);

}  // namespace weft

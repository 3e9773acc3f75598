// Functions of the numbers of arrays, shared out among threads: of one array, and of two whose
// shapes are broadcast. A number's result does not depend on the numbers beside it.
#pragma once

#include <cstdint>

#include "engine/product/broadcast.h"
#include "engine/schedule/parallel_for.h"
#include "kernels/table.h"

namespace treadle {

// y[i] = f(x[i]); y may be x.
void apply_all(const KernelTable& table, const Activation& f, const float* x, float* y,
               std::int64_t n, const ParallelFor& parallel_for);
void apply_all(const KernelTable& table, UnaryFunction f, const float* x, float* y, std::int64_t n,
               const ParallelFor& parallel_for);
// The same for functions without a kernel, such as std::sin.
void apply_all(float (*f)(float), const float* x, float* y, std::int64_t n,
               const ParallelFor& parallel_for);

// `out` is contiguous. It may be the memory of an operand that has the shape of the result.
void apply_binary(const KernelTable& table, BinaryFunction f, const Broadcast& shape,
                  const float* a, const float* b, float* out, const ParallelFor& parallel_for);

// a^b, as std::pow; an exponent that is the single number 2 or 1/2 squares, or takes the root.
void apply_power(const KernelTable& table, const Broadcast& shape, const float* a, const float* b,
                 float* out, const ParallelFor& parallel_for);

}  // namespace treadle

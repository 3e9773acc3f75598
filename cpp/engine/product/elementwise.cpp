#include "engine/product/elementwise.h"

#include <algorithm>
#include <cmath>

namespace treadle {
namespace {

constexpr std::int64_t kTaskFloats = 16384;
// What a float costs in multiply-adds: read and written; through an activation; through libm.
constexpr double kCopyWork = 3, kFunctionWork = 50, kScalarWork = 500;

// Calls f(begin, count) for parts of [0, n).
template <class F>
void in_parts(std::int64_t n, double work, const ParallelFor& parallel_for, const F& f) {
  const std::int64_t tasks = (n + kTaskFloats - 1) / kTaskFloats;
  const auto task = [&](std::int64_t i) {
    f(i * kTaskFloats, std::min(kTaskFloats, n - i * kTaskFloats));
  };
  parallel_for(tasks, work * static_cast<double>(std::min(n, kTaskFloats)), task);
}

bool is_number(const Broadcast& shape) {
  return std::all_of(shape.b_strides, shape.b_strides + shape.rank,
                     [](std::int64_t stride) { return stride == 0; });
}

}  // namespace

void apply_all(const KernelTable& table, const Activation& f, const float* x, float* y,
               std::int64_t n, const ParallelFor& parallel_for) {
  in_parts(n, kFunctionWork, parallel_for, [&](std::int64_t begin, std::int64_t count) {
    table.apply(f, x + begin, y + begin, count);
  });
}

void apply_all(const KernelTable& table, UnaryFunction f, const float* x, float* y, std::int64_t n,
               const ParallelFor& parallel_for) {
  const double work = f == UnaryFunction::log ? kFunctionWork : kCopyWork;
  in_parts(n, work, parallel_for, [&](std::int64_t begin, std::int64_t count) {
    table.unary(f, x + begin, y + begin, count);
  });
}

void apply_all(float (*f)(float), const float* x, float* y, std::int64_t n,
               const ParallelFor& parallel_for) {
  in_parts(n, kScalarWork, parallel_for, [&](std::int64_t begin, std::int64_t count) {
    std::transform(x + begin, x + begin + count, y + begin, f);
  });
}

void apply_binary(const KernelTable& table, BinaryFunction f, const Broadcast& shape,
                  const float* a, const float* b, float* out, const ParallelFor& parallel_for) {
  for_each_block(shape, kCopyWork, parallel_for, [&](const BroadcastBlock& at) {
    table.binary({f,
                  at.rows,
                  at.columns,
                  {a + at.a, at.a_row, at.a_step},
                  {b + at.b, at.b_row, at.b_step},
                  out + at.out});
  });
}

void apply_power(const KernelTable& table, const Broadcast& shape, const float* a, const float* b,
                 float* out, const ParallelFor& parallel_for) {
  const bool number = is_number(shape);
  // As PyTorch does it: the root of -0 and of -infinity is not what std::pow gives.
  const bool squares = number && *b == 2.0f, roots = number && *b == 0.5f;
  const auto power = [&](const BroadcastBlock& at) {
    for (std::int64_t r = 0; r < at.rows; ++r) {
      const float *base = a + at.a + r * at.a_row, *exponent = b + at.b + r * at.b_row;
      float* to = out + at.out + r * at.columns;
      if ((squares || roots) && at.a_step) {
        table.unary(squares ? UnaryFunction::square : UnaryFunction::sqrt, base, to, at.columns);
        continue;
      }
      for (std::int64_t c = 0; c < at.columns; ++c) {
        to[c] = std::pow(base[c * at.a_step], exponent[c * at.b_step]);
      }
    }
  };
  for_each_block(shape, squares || roots ? kCopyWork : kScalarWork, parallel_for, power);
}

}  // namespace treadle

// Functions of two values that broadcast: the loops that the elementwise operators share.
#pragma once

#include <type_traits>

#include "engine/graph/ops/families.h"
#include "engine/graph/strides.h"
#include "kernels/table.h"

namespace treadle::graph {

// y = f(a, b), where the loop's operands are y, a and b. y may be a or b where that one does not
// broadcast. An element takes `work` (Call::parallel_for).
template <class A, class B, class Y, class F>
void binary_rows(Call& call, const StridedLoop<3>& loop, double work, const A* a, const B* b, Y* y,
                 F f) {
  const std::int64_t y_row = loop.row_step(0);
  const std::int64_t a_row = loop.row_step(1), a_step = loop.step(1);
  const std::int64_t b_row = loop.row_step(2), b_step = loop.step(2);
  loop.run(call, work, [&](const std::int64_t (&at)[3], std::int64_t rows, std::int64_t n) {
    for (std::int64_t r = 0; r < rows; ++r) {
      Y* to = y + at[0] + r * y_row;
      const A* one = a + at[1] + r * a_row;
      const B* other = b + at[2] + r * b_row;
      if (a_step == 1 && b_step == 1) {
        for (std::int64_t i = 0; i < n; ++i) to[i] = f(one[i], other[i]);
      } else if (a_step == 1 && b_step == 0) {
        const B same = *other;
        for (std::int64_t i = 0; i < n; ++i) to[i] = f(one[i], same);
      } else {
        for (std::int64_t i = 0; i < n; ++i) to[i] = f(one[i * a_step], other[i * b_step]);
      }
    }
  });
}

// Does the same in float32, with the kernels of `table`.
void binary_floats(Call& call, const KernelTable& table, BinaryFunction f,
                   const StridedLoop<3>& loop, const float* a, const float* b, float* y);

// Two inputs of one type that broadcast, and the output of their common shape, which lies in the
// memory of an input where that dies and has the output's type and shape.
struct Pair {
  const Tensor &a, &b;
  Tensor& y;
  StridedLoop<3> loop;
};
Pair make_pair(Call& call, Type type);  // of the output
Pair make_pair(Call& call);             // of the inputs' type

// Throws std::invalid_argument: the operator does not compute in the type of input i.
[[noreturn]] void wrong_dtype(Type type, int i = 0);

// The parts in which the elements of one array are shared among threads.
constexpr std::int64_t kChunk = 1024;

// Calls f(begin, count) for the chunks of `count` elements, each of which takes `work`.
template <class F>
void chunks(Call& call, std::int64_t count, double work, F&& f) {
  call.parallel_for((count + kChunk - 1) / kChunk, work * kChunk, [&](std::int64_t chunk) {
    f(chunk * kChunk, std::min(kChunk, count - chunk * kChunk));
  });
}

template <class T>
constexpr bool is_integer = std::is_integral_v<T> && !std::is_same_v<T, bool>;

}  // namespace treadle::graph

// Functions of two values that broadcast: the loops that the elementwise operators share.
#pragma once

#include <type_traits>

#include "engine/graph/ops/families.h"
#include "engine/graph/strides.h"
#include "kernels/table.h"

namespace treadle::graph {

// Elements that are computed at once where they are floats or bytes. GCC makes vectors of a loop
// over so many; one over 16 or fewer it unrolls before it looks for vectors.
constexpr std::int64_t kBlock = 32;

// A BinaryRow computes y[i] = f(a[i], b[i]) for the n elements of a row: of a and b every
// `a_step`-th and `b_step`-th.
struct BinaryRow {
  const void* f;
  void (*run)(const void* f, const char* a, std::int64_t a_step, const char* b, std::int64_t b_step,
              char* y, std::int64_t n);
  std::int64_t a_size, b_size, y_size;  // bytes of an element
};

template <class A, class B, class Y, class F>
void binary_row(const void* function, const char* a, std::int64_t a_step, const char* b,
                std::int64_t b_step, char* y, std::int64_t n) {
  const F& f = *static_cast<const F*>(function);
  const A* one = reinterpret_cast<const A*>(a);
  const B* other = reinterpret_cast<const B*>(b);
  Y* to = reinterpret_cast<Y*>(y);
  std::int64_t i = 0;
  if constexpr (std::is_same_v<A, B> && (std::is_same_v<A, float> || sizeof(A) == 1)) {
    if (n >= kBlock && a_step == 1 && (b_step == 1 || b_step == 0)) {
      B same[kBlock];
      std::fill_n(same, kBlock, *other);
      for (; i + kBlock <= n; i += kBlock) {
        const B* second = b_step == 0 ? same : other + i;
        Y block[kBlock];  // y may be a or b
        for (std::int64_t j = 0; j < kBlock; ++j) block[j] = f(one[i + j], second[j]);
        std::copy_n(block, kBlock, to + i);
      }
    }
  }
  for (; i < n; ++i) to[i] = f(one[i * a_step], other[i * b_step]);
}

// Runs a function over all rows of the loop, whose operands are y, a and b. y may be a or b where
// that one does not broadcast. An element takes `work` (Call::parallel_for). The code that walks
// through the loop is there once, not once for each function and type.
void run_binary_rows(Call& call, const StridedLoop<3>& loop, double work, const void* a,
                     const void* b, void* y, const BinaryRow& row);

template <class A, class B, class Y, class F>
void binary_rows(Call& call, const StridedLoop<3>& loop, double work, const A* a, const B* b, Y* y,
                 const F& f) {
  run_binary_rows(call, loop, work, a, b, y,
                  {&f, binary_row<A, B, Y, F>, sizeof(A), sizeof(B), sizeof(Y)});
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

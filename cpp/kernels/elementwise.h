// Functions of single numbers, and the sums of rows and columns that norms and pools need.
#pragma once

#include "kernels/table.h"
#include "simd/math.h"

namespace treadle::TREADLE_ISA {
namespace {

// Each of the loops below has one function in it, which the compiler turns into vectors.
template <class F>
TREADLE_INLINE void map(const float* x, float* y, std::int64_t n, F f) {
  for (std::int64_t i = 0; i < n; ++i) y[i] = f(x[i]);
}

template <class F>
TREADLE_INLINE void map_vectors(const float* x, float* y, std::int64_t n, F f) {
  for (std::int64_t i = 0; i < n; i += kLanes) {
    store_up_to(y + i, f(load_up_to(x + i, n - i)), n - i);
  }
}

void unary(UnaryFunction function, const float* x, float* y, std::int64_t n) {
  switch (function) {
    case UnaryFunction::negative:
      return map(x, y, n, [](float v) { return -v; });
    case UnaryFunction::abs:
      return map(x, y, n, [](float v) { return __builtin_fabsf(v); });
    case UnaryFunction::sign:
      return map(x, y, n, [](float v) { return v > 0 ? 1.0f : v < 0 ? -1.0f : v == 0 ? 0.0f : v; });
    case UnaryFunction::square:
      return map(x, y, n, [](float v) { return v * v; });
    case UnaryFunction::sqrt:
      return map(x, y, n, [](float v) { return __builtin_sqrtf(v); });
    case UnaryFunction::reciprocal:
      return map(x, y, n, [](float v) { return 1.0f / v; });
    case UnaryFunction::floor:
      return map(x, y, n, [](float v) { return __builtin_floorf(v); });
    case UnaryFunction::ceil:
      return map(x, y, n, [](float v) { return __builtin_ceilf(v); });
    case UnaryFunction::round:
      return map(x, y, n, [](float v) { return __builtin_rintf(v); });
    case UnaryFunction::log:
      return map_vectors(x, y, n, [](Vec v) { return log_of_any(v); });
  }
}

// x86's min and max forget a NaN in their first argument.
TREADLE_INLINE Vec min_or_nan(Vec a, Vec b) { return a == a ? min(a, b) : a; }
TREADLE_INLINE Vec max_or_nan(Vec a, Vec b) { return a == a ? max(a, b) : a; }

template <int StepA, int StepB, class F>
TREADLE_INLINE void binary_rows(const BinaryArgs& args, F f) {
  const std::int64_t N = args.columns;
  for (std::int64_t r = 0; r < args.rows; ++r) {
    const float *a = args.a.data + r * args.a.row, *b = args.b.data + r * args.b.row;
    float* out = args.out + r * N;
    const Vec one_a = broadcast(StepA ? 0.0f : *a), one_b = broadcast(StepB ? 0.0f : *b);
    std::int64_t i = 0;
    for (; i + kLanes <= N; i += kLanes) {
      store(out + i, f(StepA ? load(a + i) : one_a, StepB ? load(b + i) : one_b));
    }
    if (i < N) {
      const int left = static_cast<int>(N - i);
      store_partial(
          out + i,
          f(StepA ? load_partial(a + i, left) : one_a, StepB ? load_partial(b + i, left) : one_b),
          left);
    }
  }
}

template <class F>
TREADLE_INLINE void binary_patterns(const BinaryArgs& args, F f) {
  if (args.a.step && args.b.step) return binary_rows<1, 1>(args, f);
  if (args.a.step) return binary_rows<1, 0>(args, f);
  if (args.b.step) return binary_rows<0, 1>(args, f);
  binary_rows<0, 0>(args, f);
}

void binary(const BinaryArgs& args) {
  if (args.columns == 0) return;
  switch (args.f) {
    case BinaryFunction::add:
      return binary_patterns(args, [](Vec a, Vec b) { return a + b; });
    case BinaryFunction::subtract:
      return binary_patterns(args, [](Vec a, Vec b) { return a - b; });
    case BinaryFunction::multiply:
      return binary_patterns(args, [](Vec a, Vec b) { return a * b; });
    case BinaryFunction::divide:
      return binary_patterns(args, [](Vec a, Vec b) { return a / b; });
    case BinaryFunction::min:
      return binary_patterns(args, [](Vec a, Vec b) { return min_or_nan(a, b); });
    case BinaryFunction::max:
      return binary_patterns(args, [](Vec a, Vec b) { return max_or_nan(a, b); });
  }
}

// Product and sum are rounded one by one, as NumPy does it.
void scale_rows(const ScaleArgs& a) {
  const std::int64_t N = a.columns;
  for (std::int64_t r = 0; r < a.rows; ++r) {
    const float* x = a.x + r * N;
    float* out = a.out + r * N;
    if (a.by_column) {
      for (std::int64_t i = 0; i < N; i += kLanes) {
        Vec v = load_up_to(x + i, N - i);
        if (a.mean) v = v - load_up_to(a.mean + i, N - i);
        v = v * load_up_to(a.scale + i, N - i) + load_up_to(a.shift + i, N - i);
        store_up_to(out + i, v, N - i);
      }
    } else {
      const Vec mean = broadcast(a.mean ? a.mean[r] : 0.0f);
      const Vec scale = broadcast(a.scale[r]), shift = broadcast(a.shift[r]);
      map_vectors(x, out, N, [&](Vec v) { return (v - mean) * scale + shift; });
    }
  }
}

// Returns the sum of `rows` rows of one vector of columns.
template <class Load>
TREADLE_INLINE Vec sum_down(std::int64_t rows, Load term) {
  Vec total{};
  for (std::int64_t begin = 0; begin < rows; begin += kSumRows) {
    const std::int64_t end = begin + kSumRows < rows ? begin + kSumRows : rows;
    Vec part[4] = {};
    std::int64_t r = begin;
    for (; r + 4 <= end; r += 4) {
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) part[i] = part[i] + term(r + i);
    }
    for (; r < end; ++r) part[0] = part[0] + term(r);
    total = total + ((part[0] + part[1]) + (part[2] + part[3]));
  }
  return total;
}

void column_sums(const ColumnSumArgs& a) {
  for (std::int64_t c = 0; c < a.columns; c += kLanes) {
    const std::int64_t left = a.columns - c;
    const float* x = a.x + c;
    Vec sum;
    if (a.mean) {
      const Vec mean = load_up_to(a.mean + c, left);
      sum = sum_down(a.rows, [&](std::int64_t r) {
        const Vec d = load_up_to(x + r * a.stride, left) - mean;
        return d * d;
      });
    } else if (left >= kLanes) {
      sum = sum_down(a.rows, [&](std::int64_t r) { return load(x + r * a.stride); });
    } else {
      sum = sum_down(a.rows, [&](std::int64_t r) { return load_up_to(x + r * a.stride, left); });
    }
    store_up_to(a.sums + c, sum, left);
  }
}

// Returns sum_i x_i, or sum_i (x_i - mean)^2 where `squares` is true: the lanes are columns, whose
// sums over `kSumRows` vectors are added in float64.
double row_sum_of(const float* x, std::int64_t n, float mean, bool squares) {
  constexpr std::int64_t kBlock = kSumRows * kLanes;
  const Vec middle = broadcast(mean);
  double total = 0;
  for (std::int64_t begin = 0; begin < n; begin += kBlock) {
    const std::int64_t size = n - begin < kBlock ? n - begin : kBlock;
    const std::int64_t whole = size / kLanes, left = size % kLanes;
    const float* from = x + begin;
    Vec sum;
    if (squares) {
      sum = sum_down(whole, [&](std::int64_t r) {
        const Vec d = load(from + r * kLanes) - middle;
        return d * d;
      });
    } else {
      sum = sum_down(whole, [&](std::int64_t r) { return load(from + r * kLanes); });
    }
    if (left) {
      Vec v = load_partial(from + whole * kLanes, static_cast<int>(left));
      if (squares) {
        const Vec d = v - middle;
        v = lane_numbers() < static_cast<std::uint32_t>(left) ? d * d : Vec{};
      }
      sum = sum + v;
    }
    total += static_cast<double>(sum_lanes(sum));
  }
  return total;
}

}  // namespace
}  // namespace treadle::TREADLE_ISA

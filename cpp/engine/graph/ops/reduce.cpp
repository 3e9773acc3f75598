// Reductions over axes: ReduceSum, ReduceMax, ReduceLogSumExp, ...
//
// The numbers of a reduction go in turn to kParts partial results, which are combined at the end:
// the bits of a result depend on its own numbers, wherever they lie and whatever is beside them.
// Floats are summed in float64, and so are exponentials of integers; other integers in 64 bits,
// where they wrap.
#include "engine/graph/ops/reduce.h"

#include <cmath>
#include <limits>

#include "engine/graph/ops/cast_number.h"
#include "engine/graph/strides.h"

namespace treadle::graph {
namespace {

constexpr int kParts = 8;
constexpr std::int64_t kColumns = 32;  // that are reduced beside each other

struct LogSumExp;

template <class F, class T>
using Accumulator =
    std::conditional_t<std::is_floating_point_v<T> || std::is_same_v<F, LogSumExp>, double,
                       std::conditional_t<std::is_signed_v<T>, std::int64_t, std::uint64_t>>;

template <class A>
A wrapping_add(A a, A b) {
  if constexpr (std::is_same_v<A, double>) return a + b;
  return static_cast<A>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
}
template <class A>
A wrapping_multiply(A a, A b) {
  if constexpr (std::is_same_v<A, double>) return a * b;
  return static_cast<A>(static_cast<std::uint64_t>(a) * static_cast<std::uint64_t>(b));
}
template <class A>
A lowest() {
  return std::is_same_v<A, double> ? -std::numeric_limits<A>::infinity()
                                   : std::numeric_limits<A>::lowest();
}

// A reduction joins the terms of its numbers x, of which `shift` may be subtracted, and finishes
// with the number of them. T is the type of the numbers, A that of the partial results.
struct Sum {
  template <class T, class A>
  static A start() {
    return 0;
  }
  template <class A>
  static A term(A x, A) {
    return x;
  }
  template <class A>
  static A join(A a, A b) {
    return wrapping_add(a, b);
  }
  template <class A>
  static A finish(A a, std::int64_t, A) {
    return a;
  }
};

struct Mean : Sum {
  template <class A>
  static A finish(A a, std::int64_t n, A) {
    if constexpr (std::is_same_v<A, double>) return a / static_cast<double>(n);
    return n == 0 ? 0 : a / static_cast<A>(n);
  }
};

struct L1 : Sum {
  template <class A>
  static A term(A x, A) {
    return x < 0 ? wrapping_multiply(x, static_cast<A>(-1)) : x;
  }
};

struct SumSquare : Sum {
  template <class A>
  static A term(A x, A) {
    return wrapping_multiply(x, x);
  }
};

struct L2 : SumSquare {
  template <class A>
  static A finish(A a, std::int64_t, A) {
    return cast_number<A>(std::sqrt(static_cast<double>(a)));
  }
};

struct LogSum : Sum {
  template <class A>
  static A finish(A a, std::int64_t, A) {
    if (!std::is_same_v<A, double> && a <= 0) return lowest<A>();
    return static_cast<A>(std::log(static_cast<double>(a)));
  }
};

struct LogSumExp : Sum {
  template <class A>
  static A term(A x, A shift) {
    return std::exp(x - shift);
  }
  template <class A>
  static A finish(A a, std::int64_t, A shift) {
    return std::log(a) + shift;
  }
};

struct Prod : Sum {
  template <class T, class A>
  static A start() {
    return 1;
  }
  template <class A>
  static A join(A a, A b) {
    return wrapping_multiply(a, b);
  }
};

struct Max : Sum {
  template <class T, class A>
  static A start() {
    return std::is_floating_point_v<T> ? lowest<A>()
                                       : static_cast<A>(std::numeric_limits<T>::lowest());
  }
  template <class A>
  static A join(A a, A b) {
    return ((b > a) | (b != b)) ? b : a;
  }
};

struct Min : Sum {
  template <class T, class A>
  static A start() {
    return std::is_floating_point_v<T> ? std::numeric_limits<A>::infinity()
                                       : static_cast<A>(std::numeric_limits<T>::max());
  }
  template <class A>
  static A join(A a, A b) {
    return ((b < a) | (b != b)) ? b : a;
  }
};

// Reduces a matrix of `n` rows, `stride` elements apart, over its rows. shifts has a number for
// each column, or is null.
template <class F, class T, class Put>
void reduce_columns(const T* x, std::int64_t n, std::int64_t stride, std::int64_t columns,
                    const double* shifts, Put&& put) {
  using A = Accumulator<F, T>;
  A parts[kParts][kColumns];
  for (auto& part : parts) std::fill_n(part, columns, F::template start<T, A>());
  const auto shift = [&](std::int64_t c) { return shifts ? static_cast<A>(shifts[c]) : A(0); };
  const auto row = [&](std::int64_t r, A* part) {
    const T* from = x + r * stride;
    const auto join = [&](std::int64_t c) {
      part[c] = F::join(part[c], F::term(static_cast<A>(from[c]), shift(c)));
    };
    if (std::is_same_v<T, float> && columns == kColumns) {
      for (std::int64_t c = 0; c < kColumns; ++c) join(c);  // becomes vectors
    } else {
      for (std::int64_t c = 0; c < columns; ++c) join(c);
    }
  };
  for (std::int64_t r = 0; r < n; ++r) row(r, parts[r % kParts]);
  for (int half = kParts / 2; half > 0; half /= 2) {
    for (int p = 0; p < half; ++p) {
      for (std::int64_t c = 0; c < columns; ++c) {
        parts[p][c] = F::join(parts[p][c], parts[p + half][c]);
      }
    }
  }
  for (std::int64_t c = 0; c < columns; ++c) put(c, F::finish(parts[0][c], n, shift(c)));
}

// Reduces one column without gaps in the same way.
template <class F, class T>
Accumulator<F, T> reduce_row(const T* x, std::int64_t n, double wide_shift) {
  using A = Accumulator<F, T>;
  A parts[kParts];
  std::fill_n(parts, kParts, F::template start<T, A>());
  const A shift = static_cast<A>(wide_shift);
  std::int64_t r = 0;
  for (; r + kParts <= n; r += kParts) {
#pragma GCC unroll 8
    for (int p = 0; p < kParts; ++p) {
      parts[p] = F::join(parts[p], F::term(static_cast<A>(x[r + p]), shift));
    }
  }
  for (int p = 0; r < n; ++r, ++p) {
    parts[p] = F::join(parts[p], F::term(static_cast<A>(x[r]), shift));
  }
  for (int half = kParts / 2; half > 0; half /= 2) {
    for (int p = 0; p < half; ++p) parts[p] = F::join(parts[p], parts[p + half]);
  }
  return F::finish(parts[0], n, shift);
}

// Reduces x [outer, n, inner] to y [outer, inner]. `shifts` is as large as y, or null.
template <class F, class T, class Y>
void reduce_all(Call& call, const Reduced& how, const T* x, const double* shifts, Y* y) {
  const std::int64_t n = how.n, inner = how.inner;
  const double cost = std::is_same_v<F, LogSumExp> ? 500 : 30;
  if (inner == 1) {
    const std::int64_t step = std::max<std::int64_t>(1, 4096 / std::max<std::int64_t>(n, 1));
    const double work = cost * static_cast<double>(step * (n + 4));
    return call.parallel_for((how.outer + step - 1) / step, work, [&](std::int64_t task) {
      for (std::int64_t o = task * step, end = std::min(how.outer, o + step); o < end; ++o) {
        y[o] = cast_number<Y>(reduce_row<F>(x + o * n, n, shifts ? shifts[o] : 0));
      }
    });
  }
  const std::int64_t blocks = (inner + kColumns - 1) / kColumns;
  const double work = cost * static_cast<double>(kColumns * (n + 4));
  call.parallel_for(how.outer * blocks, work, [&](std::int64_t task) {
    const std::int64_t o = task / blocks, begin = task % blocks * kColumns;
    const std::int64_t at = o * inner + begin;
    reduce_columns<F>(x + o * n * inner + begin, n, inner, std::min(kColumns, inner - begin),
                      shifts ? shifts + at : nullptr,
                      [&](std::int64_t c, auto result) { y[at + c] = cast_number<Y>(result); });
  });
}

template <class F, class T>
void reduce(Call& call, const Reduced& how, const char* x, char* y) {
  const T* from = reinterpret_cast<const T*>(x);
  double* shifts = nullptr;
  if constexpr (std::is_same_v<F, LogSumExp>) {
    const std::int64_t count = how.outer * how.inner;
    shifts = reinterpret_cast<double*>(call.scratch(count * 8));
    reduce_all<Max>(call, how, from, nullptr, shifts);
    for (std::int64_t i = 0; i < count; ++i) {
      if (!std::isfinite(shifts[i]) || how.n == 0) shifts[i] = 0;
    }
  }
  reduce_all<F>(call, how, from, shifts, reinterpret_cast<T*>(y));
}

constexpr bool is_order(const Max*) { return true; }
constexpr bool is_order(const Min*) { return true; }
constexpr bool is_order(const void*) { return false; }

template <class F>
std::unique_ptr<Operator> make_reduce(const NodeDescription& node) {
  const bool keep = node.integer("keepdims", 1) != 0;
  const bool none = node.integer("noop_with_empty_axes", 0) != 0;
  return make_operator([keep, none](Call& call) {
    const Tensor& x = call.input(0);
    std::vector<std::int64_t> axes;
    if (call.has(1)) axes = call.integers(1, kMaxRank);
    const bool all = axes.empty() && !none;
    const Reduced how = reduced_axes(x.shape, axes, all, keep);
    Tensor& y = call.output(0, x.type, how.shape);
    const char* from = in_order(call, x, how);
    with_type(x.type, [&](auto zero) {
      using T = decltype(zero);
      constexpr bool kOrder = is_order(static_cast<const F*>(nullptr));
      if constexpr (kOrder || sizeof(T) >= 4) {
        if (how.outer * how.inner > 0) reduce<F, T>(call, how, from, y.data);
      } else {
        refuse(std::string("input 0 has dtype ") + name_of(x.type) +
               ", in which the operator does not compute");
      }
    });
  });
}

}  // namespace

Reduced reduced_axes(const Shape& shape, const std::vector<std::int64_t>& axes, bool all,
                     bool keep) {
  const int rank = shape.rank();
  Reduced how;
  for (const std::int64_t given : axes) {
    const int axis = checked_axis(given, rank);
    if (how.axes >> axis & 1) refuse("axis " + std::to_string(given) + " is named twice");
    how.axes |= 1u << axis;
  }
  if (all) how.axes = (1u << rank) - 1;
  std::vector<std::int64_t> sizes;
  int changes = 0;  // between axes that are reduced and others; those of size 1 are either
  bool before = false;
  for (int axis = 0; axis < rank; ++axis) {
    const bool reduces = how.axes >> axis & 1;
    if (!reduces) sizes.push_back(shape[axis]);
    if (reduces && keep) sizes.push_back(1);
    if (shape[axis] != 1) {
      changes += reduces != before;
      before = reduces;
    }
    if (reduces) {
      how.n *= shape[axis];
    } else if (how.n != 1 || changes > 0) {
      how.inner *= shape[axis];
    } else {
      how.outer *= shape[axis];
    }
  }
  how.shape = Shape(sizes.data(), sizes.size());
  how.moves = changes > 2;
  if (how.moves) {
    how.outer *= how.inner;
    how.inner = 1;
  }
  return how;
}

const char* in_order(Call& call, const Tensor& x, const Reduced& how) {
  if (!how.moves || x.count() == 0) return x.data;
  const int rank = x.shape.rank();
  StridedLoop<2> loop;
  std::int64_t strides[kMaxRank], stride = 1;
  for (const bool reduces : {true, false}) {
    for (int axis = rank - 1; axis >= 0; --axis) {
      if (((how.axes >> axis & 1) != 0) != reduces) continue;
      strides[axis] = stride;
      stride *= x.shape[axis];
    }
  }
  for (const bool reduces : {false, true}) {
    for (int axis = 0; axis < rank; ++axis) {
      if (((how.axes >> axis & 1) != 0) != reduces) continue;
      loop.add(x.shape[axis], {strides[axis], x.shape.count(axis + 1, rank)});
    }
  }
  char* to = call.scratch(x.bytes());
  copy_strided(call, loop, to, x.data, size_of(x.type));
  return to;
}

void list_reduce(OperatorTable& table) {
  table["ReduceSum"] = make_reduce<Sum>;
  table["ReduceMean"] = make_reduce<Mean>;
  table["ReduceMax"] = make_reduce<Max>;
  table["ReduceMin"] = make_reduce<Min>;
  table["ReduceProd"] = make_reduce<Prod>;
  table["ReduceL1"] = make_reduce<L1>;
  table["ReduceL2"] = make_reduce<L2>;
  table["ReduceLogSum"] = make_reduce<LogSum>;
  table["ReduceLogSumExp"] = make_reduce<LogSumExp>;
  table["ReduceSumSquare"] = make_reduce<SumSquare>;
}

}  // namespace treadle::graph

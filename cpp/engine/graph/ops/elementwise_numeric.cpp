// Functions of single numbers of any type, Neg, Abs, Sign, Relu and Clip, and the magnitude of an
// STFT.
#include <cmath>
#include <limits>

#include "engine/graph/ops/elementwise.h"
#include "runtime/isa.h"

namespace treadle::graph {
namespace {

// Integers wrap: the least has no opposite.
struct Negative {
  template <class T>
  static T of(T x) {
    if constexpr (is_integer<T>) return static_cast<T>(0 - static_cast<std::uint64_t>(x));
    return -x;
  }
};

struct Absolute {
  template <class T>
  static T of(T x) {
    if constexpr (std::is_floating_point_v<T>) return std::fabs(x);
    return x < 0 ? Negative::of(x) : x;
  }
};

struct Sign {
  template <class T>
  static T of(T x) {
    return x > 0 ? T(1) : x < 0 ? static_cast<T>(-1) : x;
  }
};

struct Relu {
  template <class T>
  static T of(T x) {
    return x < 0 ? 0 : x;
  }
};

// Computes y = F::of(x); unsigned types only where the function has a meaning for them.
template <class F>
void run_numeric(Call& call, bool of_unsigned) {
  const Tensor& x = call.input(0);
  const Shape shape = x.shape;
  Tensor& y = call.output_over(0, 0, shape);
  with_type(x.type, [&](auto zero) {
    using T = decltype(zero);
    if (std::is_same_v<T, bool> || (std::is_unsigned_v<T> && !of_unsigned)) wrong_dtype(x.type);
    if constexpr (!std::is_same_v<T, bool>) {
      const T* from = x.as<T>();
      T* to = y.as<T>();
      chunks(call, shape.count(), 10, [&](std::int64_t begin, std::int64_t n) {
        for (std::int64_t i = begin; i < begin + n; ++i) to[i] = F::of(from[i]);
      });
    }
  });
}

// Computes float32 with a kernel, other types one by one.
template <class F, UnaryFunction f, bool of_unsigned>
std::unique_ptr<Operator> make_unary(const NodeDescription&) {
  const KernelTable* table = &kernels();
  return make_operator([table](Call& call) {
    const Tensor& x = call.input(0);
    if (x.type != Type::float32) return run_numeric<F>(call, of_unsigned);
    const Shape shape = x.shape;
    const float* from = x.floats();
    float* to = call.output_over(0, 0, shape).floats();
    chunks(call, shape.count(), 5, [&](std::int64_t begin, std::int64_t n) {
      table->unary(f, from + begin, to + begin, n);
    });
  });
}

std::unique_ptr<Operator> make_relu(const NodeDescription&) {
  const KernelTable* table = &kernels();
  return make_operator([table](Call& call) {
    const Tensor& x = call.input(0);
    if (x.type != Type::float32) return run_numeric<Relu>(call, false);
    const Shape shape = x.shape;
    const float* from = x.floats();
    float* to = call.output_over(0, 0, shape).floats();
    chunks(call, shape.count(), 5, [&](std::int64_t begin, std::int64_t n) {
      table->apply({ActivationFunction::relu, 0, 0}, from + begin, to + begin, n);
    });
  });
}

// Clip: y = min(most, max(least, x)); the limits may be absent.
void clip(Call& call, const KernelTable& table) {
  const Tensor& x = call.input(0);
  const Shape shape = x.shape;
  for (int i = 1; i < 3; ++i) {
    if (call.has(i) && call.input(i, x.type).count() != 1) {
      refuse("input " + std::to_string(i) + " has not one element");
    }
  }
  with_type(x.type, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (std::is_same_v<T, bool>) {
      wrong_dtype(x.type);
    } else {
      using Limits = std::numeric_limits<T>;
      constexpr bool kFloats = std::is_floating_point_v<T>;
      const T low = kFloats ? -Limits::infinity() : Limits::lowest();
      const T high = kFloats ? Limits::infinity() : Limits::max();
      const T least = call.has(1) ? *call.input(1).as<T>() : low;
      const T most = call.has(2) ? *call.input(2).as<T>() : high;
      const T* from = x.as<T>();
      T* to = call.output_over(0, 0, shape).template as<T>();
      chunks(call, shape.count(), 5, [&](std::int64_t begin, std::int64_t n) {
        if constexpr (std::is_same_v<T, float>) {
          return table.apply({ActivationFunction::clip, least, most}, from + begin, to + begin, n);
        }
        for (std::int64_t i = begin; i < begin + n; ++i) {
          const T above = from[i] < least ? least : from[i];
          to[i] = above > most ? most : above;
        }
      });
    }
  });
}

std::unique_ptr<Operator> make_clip(const NodeDescription&) {
  const KernelTable* table = &kernels();
  return make_operator([table](Call& call) { clip(call, *table); });
}

// treadle.Magnitude: y [.., n] = sqrt(a a + b b), where x [.., 2 n] has a and then b in each row.
std::unique_ptr<Operator> make_magnitude(const NodeDescription&) {
  const KernelTable* table = &kernels();
  return make_operator([table](Call& call) {
    const Tensor& x = call.input(0, Type::float32);
    const int last = x.shape.rank() - 1;
    if (last < 0 || x.shape[last] % 2 != 0) {
      refuse("input 0 has shape " + x.shape.text() + ", expected a last axis of an even size");
    }
    const std::int64_t n = x.shape[last] / 2, rows = x.shape.count(0, last);
    const float* from = x.floats();
    float* to = call.output(0, Type::float32, x.shape.with(last, n)).floats();
    if (n == 0) return;
    call.parallel_for(rows, static_cast<double>(n) * 10, [&](std::int64_t r) {
      const float *a = from + r * 2 * n, *b = a + n;
      float* y = to + r * n;
      for (std::int64_t i = 0; i < n; ++i) y[i] = a[i] * a[i] + b[i] * b[i];
      table->unary(UnaryFunction::sqrt, y, y, n);
    });
  });
}

}  // namespace

void list_numeric(OperatorTable& table) {
  table["Neg"] = make_unary<Negative, UnaryFunction::negative, false>;
  table["Abs"] = make_unary<Absolute, UnaryFunction::abs, true>;
  table["Sign"] = make_unary<Sign, UnaryFunction::sign, true>;
  table["Relu"] = make_relu;
  table["Clip"] = make_clip;
  table["treadle.Magnitude"] = make_magnitude;
}

}  // namespace treadle::graph

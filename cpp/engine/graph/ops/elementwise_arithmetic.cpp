// Arithmetic of values that broadcast: Add, Sub, Mul, Div, Mod, Pow, Min, Max, Sum, Mean, PRelu.
// Integers wrap. A division by the integer 0 is refused.
#include <cmath>
#include <limits>

#include "engine/graph/ops/elementwise.h"
#include "runtime/isa.h"

namespace treadle::graph {
namespace {

// Integers are computed without a sign, where overflow is defined.
template <class T>
using Wrapping = std::conditional_t<is_integer<T>, std::uint64_t, T>;

struct Add {
  static constexpr BinaryFunction kernel = BinaryFunction::add;
  template <class T>
  static T of(T a, T b) {
    return static_cast<T>(static_cast<Wrapping<T>>(a) + static_cast<Wrapping<T>>(b));
  }
};

struct Subtract {
  static constexpr BinaryFunction kernel = BinaryFunction::subtract;
  template <class T>
  static T of(T a, T b) {
    return static_cast<T>(static_cast<Wrapping<T>>(a) - static_cast<Wrapping<T>>(b));
  }
};

struct Multiply {
  static constexpr BinaryFunction kernel = BinaryFunction::multiply;
  template <class T>
  static T of(T a, T b) {
    return static_cast<T>(static_cast<Wrapping<T>>(a) * static_cast<Wrapping<T>>(b));
  }
};

// Integers lose their fraction. The divisor is not 0.
struct Divide {
  static constexpr BinaryFunction kernel = BinaryFunction::divide;
  template <class T>
  static T of(T a, T b) {
    if constexpr (is_integer<T> && std::is_signed_v<T>) {
      if (b == T(-1)) return Subtract::of<T>(0, a);
    }
    return static_cast<T>(a / b);
  }
};

struct Min {
  static constexpr BinaryFunction kernel = BinaryFunction::min;
  template <class T>
  static T of(T a, T b) {
    return a < b || a != a ? a : b;
  }
};

struct Max {
  static constexpr BinaryFunction kernel = BinaryFunction::max;
  template <class T>
  static T of(T a, T b) {
    return a > b || a != a ? a : b;
  }
};

// The remainder has the divisor's sign. The divisor is not 0, if it is an integer.
struct Modulo {
  template <class T>
  static T of(T a, T b) {
    if constexpr (is_integer<T>) {
      if (std::is_signed_v<T> && b == T(-1)) return 0;
      const T rest = static_cast<T>(a % b);
      return rest != 0 && (rest < 0) != (b < 0) ? static_cast<T>(rest + b) : rest;
    } else {
      const T rest = std::fmod(a, b);
      return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
    }
  }
};

// The remainder has the dividend's sign.
struct Remainder {
  template <class T>
  static T of(T a, T b) {
    if constexpr (is_integer<T>) {
      return std::is_signed_v<T> && b == T(-1) ? T(0) : static_cast<T>(a % b);
    } else {
      return std::fmod(a, b);
    }
  }
};

// Throws where an integer is 0.
template <class T>
void check_divisor(Call& call, const Tensor& b) {
  if constexpr (is_integer<T>) {
    const T* values = b.as<T>();
    const std::int64_t count = b.count();
    call.serial_for((count + kChunk - 1) / kChunk, kChunk * 10, [&](std::int64_t chunk) {
      for (std::int64_t i = chunk * kChunk, end = std::min(count, i + kChunk); i < end; ++i) {
        if (values[i] == 0) refuse("an integer is divided by 0");
      }
    });
  }
}

template <class F, bool divides>
void run_generic(Call& call, const Pair& pair) {
  with_type(pair.a.type, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (std::is_same_v<T, bool>) {
      wrong_dtype(pair.a.type);
    } else {
      if (divides && pair.y.count() > 0) check_divisor<T>(call, pair.b);
      binary_rows(call, pair.loop, 20, pair.a.as<T>(), pair.b.as<T>(), pair.y.as<T>(),
                  [](T a, T b) { return F::template of<T>(a, b); });
    }
  });
}

template <class F>
std::unique_ptr<Operator> make_arithmetic(const NodeDescription&) {
  const KernelTable* table = &kernels();
  return make_operator([table](Call& call) {
    const Pair pair = make_pair(call);
    if (pair.a.type == Type::float32) {
      return binary_floats(call, *table, F::kernel, pair.loop, pair.a.floats(), pair.b.floats(),
                           pair.y.floats());
    }
    run_generic<F, std::is_same_v<F, Divide>>(call, pair);
  });
}

std::unique_ptr<Operator> make_mod(const NodeDescription& node) {
  const bool fmod = node.integer("fmod", 0) != 0;
  return make_operator([fmod](Call& call) {
    const Pair pair = make_pair(call);
    fmod ? run_generic<Remainder, true>(call, pair) : run_generic<Modulo, true>(call, pair);
  });
}

// Min, Max, Sum and Mean of any number of inputs, which are taken one after the other.
template <class F, bool mean>
std::unique_ptr<Operator> make_of_many(const NodeDescription&) {
  const KernelTable* table = &kernels();
  return make_operator([table](Call& call) {
    const Tensor& first = call.input(0);
    const Type type = first.type;
    Shape shape = first.shape;
    for (int i = 1; i < call.inputs(); ++i) shape = broadcast(shape, call.input(i, type).shape);
    if (type == Type::boolean) wrong_dtype(type);
    if (call.inputs() == 1) return call.share(0, 0, shape);
    Tensor& y = shape == first.shape ? call.output_over(0, 0, shape) : call.output(0, type, shape);
    if (y.data != first.data) {
      copy_strided(call, broadcast_loop(shape, {&shape, &first.shape}), y.data, first.data,
                   size_of(type));
    }
    for (int i = 1; i < call.inputs(); ++i) {
      const Tensor& x = call.input(i);
      const StridedLoop<3> loop = broadcast_loop(shape, {&shape, &shape, &x.shape});
      if (type == Type::float32) {
        binary_floats(call, *table, F::kernel, loop, y.floats(), x.floats(), y.floats());
      } else {
        run_generic<F, false>(call, {y, x, y, loop});
      }
    }
    if (!mean) return;
    const float reach = static_cast<float>(call.inputs());
    if (type != Type::float32 && type != Type::float64) wrong_dtype(type);
    chunks(call, y.count(), 10, [&](std::int64_t begin, std::int64_t n) {
      for (std::int64_t i = begin; i < begin + n; ++i) {
        type == Type::float32 ? y.floats()[i] /= reach : y.as<double>()[i] /= reach;
      }
    });
  });
}

// Returns a to the power of e >= 0.
template <class T>
T integer_power(T a, std::int64_t e) {
  std::uint64_t result = 1, factor = static_cast<std::uint64_t>(a);
  for (; e > 0; e >>= 1, factor *= factor) {
    if (e & 1) result *= factor;
  }
  return static_cast<T>(result);
}

template <class T>
T rounded_power(T a, double e) {
  const double power = std::trunc(std::pow(static_cast<double>(a), e));
  constexpr double kBeyond = static_cast<double>(std::numeric_limits<T>::max() / 2 + 1) * 2;
  if (power >= kBeyond) return std::numeric_limits<T>::max();
  if (power <= static_cast<double>(std::numeric_limits<T>::min())) {
    return std::numeric_limits<T>::min();
  }
  return power == power ? static_cast<T>(power) : 0;
}

// Returns the elements of a tensor in another type.
template <class To>
const To* converted(Call& call, const Tensor& x) {
  if (x.type == type_of<To>()) return x.as<To>();
  To* to = reinterpret_cast<To*>(call.scratch(x.count() * static_cast<std::int64_t>(sizeof(To))));
  with_type(x.type, [&](auto zero) {
    const auto* from = x.as<decltype(zero)>();
    chunks(call, x.count(), 10, [&](std::int64_t begin, std::int64_t n) {
      for (std::int64_t i = begin; i < begin + n; ++i) to[i] = static_cast<To>(from[i]);
    });
  });
  return to;
}

// Squares, cubes and square roots, which models are full of. Returns whether it was one.
bool common_power(Call& call, const KernelTable& table, const Tensor& a, double e, Tensor& y) {
  if (e != 2 && e != 3 && e != 0.5) return false;
  const float* x = a.floats();
  float* to = y.floats();
  chunks(call, y.count(), 5, [&](std::int64_t begin, std::int64_t n) {
    if (e == 3) {
      for (std::int64_t i = begin; i < begin + n; ++i) to[i] = x[i] * x[i] * x[i];
    } else {
      table.unary(e == 2 ? UnaryFunction::square : UnaryFunction::sqrt, x + begin, to + begin, n);
    }
  });
  return true;
}

template <class T>
void integer_powers(Call& call, const StridedLoop<3>& loop, const Tensor& a, const Tensor& b,
                    Tensor& y) {
  const T* x = a.as<T>();
  if (b.type == Type::float32 || b.type == Type::float64) {
    const double* e = converted<double>(call, b);
    return binary_rows(call, loop, 1000, x, e, y.as<T>(),
                       [](T base, double power) { return rounded_power(base, power); });
  }
  const std::int64_t* e = converted<std::int64_t>(call, b);
  for (std::int64_t i = 0; i < b.count(); ++i) {
    if (e[i] < 0) refuse("an integer has the negative power " + std::to_string(e[i]));
  }
  binary_rows(call, loop, 200, x, e, y.as<T>(),
              [](T base, std::int64_t power) { return integer_power(base, power); });
}

// Pow: the result has the type of the base; the exponent may be of any.
std::unique_ptr<Operator> make_pow(const NodeDescription&) {
  const KernelTable* table = &kernels();
  return make_operator([table](Call& call) {
    const Tensor &a = call.input(0), &b = call.input(1);
    const Shape shape = broadcast(a.shape, b.shape);
    const StridedLoop<3> loop = broadcast_loop(shape, {&shape, &a.shape, &b.shape});
    if (b.type == Type::boolean) wrong_dtype(b.type, 1);
    const double e = b.count() == 1 ? call.number(1) : 0;
    Tensor& y = a.shape == shape ? call.output_over(0, 0, shape) : call.output(0, a.type, shape);
    if (a.type == Type::float32 && shape.count() == a.count() && b.count() == 1) {
      if (common_power(call, *table, a, e, y)) return;
    }
    with_type(a.type, [&](auto zero) {
      using T = decltype(zero);
      if constexpr (std::is_floating_point_v<T>) {
        const T* exponents = converted<T>(call, b);
        binary_rows(call, loop, 1000, a.as<T>(), exponents, y.as<T>(),
                    [](T x, T power) { return std::pow(x, power); });
      } else if constexpr (is_integer<T>) {
        integer_powers<T>(call, loop, a, b, y);
      } else {
        wrong_dtype(a.type);
      }
    });
  });
}

// PRelu: y = x < 0 ? slope x : x; the slope broadcasts to x.
void prelu(Call& call) {
  const Tensor &x = call.input(0), &slope = call.input(1, x.type);
  const Shape shape = x.shape;
  const StridedLoop<3> loop = broadcast_loop(shape, {&shape, &shape, &slope.shape});
  Tensor& y = call.output_over(0, 0, shape);
  with_type(x.type, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (std::is_same_v<T, bool>) {
      wrong_dtype(x.type);
    } else {
      binary_rows(call, loop, 10, x.as<T>(), slope.as<T>(), y.as<T>(), [](T a, T b) {
        const T scaled = Multiply::of<T>(a, b);  // without a branch it is a vector
        return a < 0 ? scaled : a;
      });
    }
  });
}

}  // namespace

void list_arithmetic(OperatorTable& table) {
  table["Add"] = make_arithmetic<Add>;
  table["Sub"] = make_arithmetic<Subtract>;
  table["Mul"] = make_arithmetic<Multiply>;
  table["Div"] = make_arithmetic<Divide>;
  table["Mod"] = make_mod;
  table["Pow"] = make_pow;
  table["Min"] = make_of_many<Min, false>;
  table["Max"] = make_of_many<Max, false>;
  table["Sum"] = make_of_many<Add, false>;
  table["Mean"] = make_of_many<Add, true>;
  table["PRelu"] = make_plain<prelu>;
}

}  // namespace treadle::graph

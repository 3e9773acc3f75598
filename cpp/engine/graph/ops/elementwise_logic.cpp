// Comparisons and logic of values that broadcast, bits of integers, and what floats are.
#include <functional>
#include <limits>

#include "engine/graph/ops/elementwise.h"

namespace treadle::graph {
namespace {

// Comparisons: equality of all types, the order of numbers.
template <template <class> class Compare, bool of_bool>
void compare(Call& call) {
  const Pair pair = make_pair(call, Type::boolean);
  with_type(pair.a.type, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (std::is_same_v<T, bool> && !of_bool) {
      wrong_dtype(pair.a.type);
    } else {
      binary_rows(call, pair.loop, 15, pair.a.as<T>(), pair.b.as<T>(), pair.y.as<bool>(),
                  Compare<T>());
    }
  });
}

template <template <class> class Combine>
void logic(Call& call) {
  const Pair pair = make_pair(call);
  if (pair.a.type != Type::boolean) wrong_dtype(pair.a.type);
  binary_rows(call, pair.loop, 10, pair.a.as<std::uint8_t>(), pair.b.as<std::uint8_t>(),
              pair.y.as<std::uint8_t>(), Combine<std::uint8_t>());
}

template <template <class> class Combine>
void bitwise(Call& call) {
  const Pair pair = make_pair(call);
  if (pair.a.type == Type::boolean || pair.a.type >= Type::float32) wrong_dtype(pair.a.type);
  with_size(size_of(pair.a.type), [&](auto zero) {
    using T = decltype(zero);
    binary_rows(call, pair.loop, 20, pair.a.as<T>(), pair.b.as<T>(), pair.y.as<T>(), Combine<T>());
  });
}

// BitShift: bits that leave the integer are lost; the sign's bit comes in from the left. A number
// of places that the integer does not have moves all bits out.
std::unique_ptr<Operator> make_shift(const NodeDescription& node) {
  const std::string direction = node.text("direction", "");
  if (direction != "LEFT" && direction != "RIGHT") refuse("attribute direction is " + direction);
  const bool left = direction == "LEFT";
  return make_operator([left](Call& call) {
    const Pair pair = make_pair(call);
    with_type(pair.a.type, [&](auto zero) {
      using T = decltype(zero);
      if constexpr (is_integer<T>) {
        binary_rows(call, pair.loop, 20, pair.a.as<T>(), pair.b.as<T>(), pair.y.as<T>(),
                    [left](T a, T b) {
                      const bool all = b < 0 || static_cast<std::uint64_t>(b) >= 8 * sizeof(T);
                      if (left) return all ? T(0) : static_cast<T>(std::uint64_t(a) << b);
                      if (all) return a < 0 ? static_cast<T>(-1) : T(0);
                      return static_cast<T>(a >> b);
                    });
      } else {
        wrong_dtype(pair.a.type);
      }
    });
  });
}

void logical_not(Call& call) {
  const Tensor& x = call.input(0, Type::boolean);
  const Shape shape = x.shape;
  Tensor& y = call.output_over(0, 0, shape);
  chunks(call, shape.count(), 5, [&](std::int64_t begin, std::int64_t n) {
    for (std::int64_t i = begin; i < begin + n; ++i) y.data[i] = static_cast<char>(x.data[i] == 0);
  });
}

void bitwise_not(Call& call) {
  const Tensor& x = call.input(0);
  if (x.type == Type::boolean || x.type >= Type::float32) wrong_dtype(x.type);
  const Shape shape = x.shape;
  Tensor& y = call.output_over(0, 0, shape);
  const std::int64_t size = size_of(x.type);
  chunks(call, shape.count() * size, 5, [&](std::int64_t begin, std::int64_t n) {
    for (std::int64_t i = begin; i < begin + n; ++i) y.data[i] = static_cast<char>(~x.data[i]);
  });
}

// y = f(x) of floats, which says what x is.
template <class F>
void predicate(Call& call, F f) {
  const Tensor& x = call.input(0);
  const Shape shape = x.shape;
  bool* y = call.output(0, Type::boolean, shape).as<bool>();
  with_type(x.type, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (std::is_floating_point_v<T>) {
      const T* from = x.as<T>();
      chunks(call, shape.count(), 10, [&](std::int64_t begin, std::int64_t n) {
        for (std::int64_t i = begin; i < begin + n; ++i) y[i] = f(from[i]);
      });
    } else {
      wrong_dtype(x.type);
    }
  });
}

void is_nan(Call& call) {
  predicate(call, [](auto x) { return x != x; });
}

std::unique_ptr<Operator> make_is_inf(const NodeDescription& node) {
  const bool negative = node.integer("detect_negative", 1) != 0;
  const bool positive = node.integer("detect_positive", 1) != 0;
  return make_operator([negative, positive](Call& call) {
    predicate(call, [negative, positive](auto x) {
      constexpr auto kInfinity = std::numeric_limits<decltype(x)>::infinity();
      return (negative && x == -kInfinity) || (positive && x == kInfinity);
    });
  });
}

}  // namespace

void list_logic(OperatorTable& table) {
  table["Equal"] = make_plain<compare<std::equal_to, true>>;
  table["Greater"] = make_plain<compare<std::greater, false>>;
  table["GreaterOrEqual"] = make_plain<compare<std::greater_equal, false>>;
  table["Less"] = make_plain<compare<std::less, false>>;
  table["LessOrEqual"] = make_plain<compare<std::less_equal, false>>;
  table["And"] = make_plain<logic<std::bit_and>>;
  table["Or"] = make_plain<logic<std::bit_or>>;
  table["Xor"] = make_plain<logic<std::bit_xor>>;
  table["Not"] = make_plain<logical_not>;
  table["BitwiseAnd"] = make_plain<bitwise<std::bit_and>>;
  table["BitwiseOr"] = make_plain<bitwise<std::bit_or>>;
  table["BitwiseXor"] = make_plain<bitwise<std::bit_xor>>;
  table["BitwiseNot"] = make_plain<bitwise_not>;
  table["BitShift"] = make_shift;
  table["IsNaN"] = make_plain<is_nan>;
  table["IsInf"] = make_is_inf;
}

}  // namespace treadle::graph

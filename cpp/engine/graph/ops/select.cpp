// Operators that choose elements by what they are: Where, Compress, NonZero, TopK, Unique.
#include <algorithm>

#include "engine/graph/ops/elementwise.h"

namespace treadle::graph {
namespace {

// The order of numbers, with NaN behind all others.
template <class T>
bool before(T a, T b) {
  if constexpr (std::is_floating_point_v<T>) {
    if (a != a) return false;
    if (b != b) return true;
  }
  return a < b;
}

// The order of two elements of an array, whatever their type is.
using Order = bool (*)(const char* elements, std::int64_t a, std::int64_t b);
template <class T>
bool is_before(const char* elements, std::int64_t a, std::int64_t b) {
  const T* numbers = reinterpret_cast<const T*>(elements);
  return before(numbers[a], numbers[b]);
}
Order order_of(Type type) {
  return with_type(type, [](auto zero) -> Order { return is_before<decltype(zero)>; });
}

// Computes y = condition ? a : b, all broadcast.
void where(Call& call) {
  const Tensor& condition = call.input(0, Type::boolean);
  const Tensor &a = call.input(1), &b = call.input(2, a.type);
  const Shape shape = broadcast(condition.shape, broadcast(a.shape, b.shape));
  const auto loop = broadcast_loop(shape, {&shape, &condition.shape, &a.shape, &b.shape});
  Tensor& y = call.output(0, a.type, shape);
  with_size(size_of(a.type), [&](auto zero) {
    using T = decltype(zero);
    std::int64_t row[4], step[4];
    for (int k = 0; k < 4; ++k) row[k] = loop.row_step(k), step[k] = loop.step(k);
    const auto* choose = condition.as<std::uint8_t>();
    loop.run(call, 25, [&](const std::int64_t (&at)[4], std::int64_t rows, std::int64_t n) {
      for (std::int64_t r = 0; r < rows; ++r) {
        T* to = y.as<T>() + at[0] + r * row[0];
        const std::uint8_t* c = choose + at[1] + r * row[1];
        const T* one = a.as<T>() + at[2] + r * row[2];
        const T* other = b.as<T>() + at[3] + r * row[3];
        // Without branches, which would be as hard to foresee as the conditions.
        const auto choice = [](std::uint8_t chosen, T first, T second) {
          return static_cast<T>(second ^ ((first ^ second) & (T(0) - T(chosen != 0))));
        };
        std::int64_t i = 0;
        if (step[1] == 1 && step[2] == 1 && step[3] == 1) {
          for (; i + kBlock <= n; i += kBlock) {
            T block[kBlock];  // becomes vectors
            for (std::int64_t j = 0; j < kBlock; ++j) {
              block[j] = choice(c[i + j], one[i + j], other[i + j]);
            }
            std::copy_n(block, kBlock, to + i);
          }
        }
        for (; i < n; ++i) to[i] = choice(c[i * step[1]], one[i * step[2]], other[i * step[3]]);
      }
    });
  });
}

// Compress: the slices of an axis, or the elements, whose condition is true.
std::unique_ptr<Operator> make_compress(const NodeDescription& node) {
  const bool flat = !node.has("axis");
  const std::int64_t given = node.integer("axis", 0);
  return make_operator([flat, given](Call& call) {
    const Tensor &x = call.input(0), &condition = call.input(1, Type::boolean, 1);
    const int rank = x.shape.rank(), axis = flat ? 0 : checked_axis(given, rank);
    const std::int64_t size = flat ? x.count() : x.shape[axis];
    const std::int64_t outer = flat ? 1 : x.shape.count(0, axis);
    const std::int64_t bytes = size_of(x.type) * (flat ? 1 : x.shape.count(axis + 1, rank));
    if (condition.count() > size) {
      refuse("the condition has " + std::to_string(condition.count()) + " elements for " +
             std::to_string(size));
    }
    const auto* wanted = condition.as<std::uint8_t>();
    std::vector<std::int64_t> places;
    for (std::int64_t i = 0; i < condition.count(); ++i) {
      if (wanted[i]) places.push_back(i);
    }
    const auto n = static_cast<std::int64_t>(places.size());
    Tensor& y = call.output(0, x.type, flat ? Shape{n} : x.shape.with(axis, n));
    if (y.count() == 0) return;
    const double work = static_cast<double>(n) * (10 + 2.5 * static_cast<double>(bytes));
    call.parallel_for(outer, work, [&](std::int64_t o) {
      for (std::int64_t i = 0; i < n; ++i) {
        std::memcpy(y.data + (o * n + i) * bytes, x.data + (o * size + places[i]) * bytes,
                    static_cast<std::size_t>(bytes));
      }
    });
  });
}

// NonZero: y [rank, n] has the indices of the elements that are not 0, in their order.
void non_zero(Call& call) {
  const Tensor& x = call.input(0);
  const std::int64_t count = x.count();
  const int rank = x.shape.rank();
  constexpr std::int64_t kPiece = 1 << 13;
  // The elements are looked at once: they may be the caller's, and change.
  auto* flags = reinterpret_cast<std::uint8_t*>(call.scratch(count));
  std::int64_t found = 0;
  with_type(x.type, [&](auto zero) {
    using T = decltype(zero);
    const T* from = x.as<T>();
    call.serial_for((count + kPiece - 1) / kPiece, kPiece * 50, [&](std::int64_t piece) {
      for (std::int64_t i = piece * kPiece, end = std::min(count, i + kPiece); i < end; ++i) {
        flags[i] = from[i] != T(0);
        found += flags[i];
      }
    });
  });
  std::int64_t* y = call.output(0, Type::int64, Shape{rank, found}).as<std::int64_t>();
  std::int64_t at = 0;
  call.serial_for((count + kPiece - 1) / kPiece, kPiece * 50, [&](std::int64_t piece) {
    for (std::int64_t i = piece * kPiece, end = std::min(count, i + kPiece); i < end; ++i) {
      if (!flags[i]) continue;
      for (std::int64_t axis = rank - 1, rest = i; axis >= 0; --axis) {
        const std::int64_t size = x.shape[static_cast<int>(axis)];
        y[axis * found + at] = rest % size;
        rest /= size;
      }
      ++at;
    }
  });
}

// TopK: the K largest (or smallest) elements along an axis and their indices; of equal elements
// those that come first. NaN counts as larger than any number. The result is always sorted.
std::unique_ptr<Operator> make_top_k(const NodeDescription& node) {
  const std::int64_t given = node.integer("axis", -1);
  const bool largest = node.integer("largest", 1) != 0;
  return make_operator([given, largest](Call& call) {
    const Tensor& x = call.input(0);
    const int rank = x.shape.rank(), axis = checked_axis(given, rank);
    const std::int64_t n = x.shape[axis], k = call.integer(1);
    if (k < 0 || k > n) {
      refuse("K is " + std::to_string(k) + ", axis " + std::to_string(axis) + " has " +
             std::to_string(n) + " elements");
    }
    const Shape shape = x.shape.with(axis, k);
    const std::int64_t inner = x.shape.count(axis + 1, rank), rows = x.shape.count(0, axis) * inner;
    const Type type = x.type;
    Tensor& values = call.output(0, type, shape);
    char* keys = call.scratch(x.bytes());
    auto* order = reinterpret_cast<std::int64_t*>(call.scratch(x.count() * 8));
    // An output that nobody wants shares the Call's place for it with the next.
    char* to_values = values.data;
    auto* to_indices = call.output(1, Type::int64, shape).as<std::int64_t>();
    if (shape.count() == 0) return;
    const int size = size_of(type);
    const Order is_before = order_of(type);
    call.parallel_for(rows, static_cast<double>(n) * 200, [&](std::int64_t r) {
      const std::int64_t first = r / inner * n * inner + r % inner;
      const std::int64_t to = r / inner * k * inner + r % inner;
      // The keys are a copy, which nobody else changes while they are sorted.
      char* key = keys + r * n * size;
      std::int64_t* place = order + r * n;
      with_size(size, [&](auto zero) {
        constexpr std::int64_t kSize = sizeof(zero);
        for (std::int64_t i = 0; i < n; ++i) {
          std::memcpy(key + i * kSize, x.data + (first + i * inner) * kSize, kSize);
          place[i] = i;
        }
      });
      const auto sort = [&](auto in_order) {
        std::partial_sort(place, place + k, place + n, [&](std::int64_t a, std::int64_t b) {
          if (in_order(key, a, b)) return !largest;
          if (in_order(key, b, a)) return largest;
          return a < b;
        });
      };
      if (type == Type::float32) {  // nearly always; all other types share their code
        sort([](const char* all, std::int64_t a, std::int64_t b) {
          return before(reinterpret_cast<const float*>(all)[a],
                        reinterpret_cast<const float*>(all)[b]);
        });
      } else {
        sort(is_before);
      }
      with_size(size, [&](auto zero) {
        constexpr std::int64_t kSize = sizeof(zero);
        for (std::int64_t i = 0; i < k; ++i) {
          std::memcpy(to_values + (to + i * inner) * kSize, key + place[i] * kSize, kSize);
          to_indices[to + i * inner] = place[i];
        }
      });
    });
  });
}

void unique(Call& call, bool sorted, bool flat, int axis) {
  const Tensor& x = call.input(0);
  const int rank = x.shape.rank();
  const std::int64_t n = flat ? x.count() : x.shape[axis];
  const std::int64_t outer = flat ? 1 : x.shape.count(0, axis);
  const std::int64_t inner = flat ? 1 : x.shape.count(axis + 1, rank), m = outer * inner;
  const std::int64_t size = size_of(x.type);
  const Order is_before = order_of(x.type);
  // Slice i becomes row i of a matrix.
  char* rows = call.scratch(n * m * size);
  StridedLoop<2> loop;
  loop.add(n, {m, inner});
  loop.add(outer, {inner, n * inner});
  loop.add(inner, {1, 1});
  copy_strided(call, loop, rows, x.data, static_cast<int>(size));
  const auto compare = [&](std::int64_t a, std::int64_t b) {
    call.interrupt().progress(20);
    if (call.interrupt().stopped()) throw Interrupted{};
    for (std::int64_t i = 0; i < m; ++i) {
      if (is_before(rows, a * m + i, b * m + i)) return -1;
      if (is_before(rows, b * m + i, a * m + i)) return 1;
    }
    return 0;
  };
  std::vector<std::int64_t> order(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i) order[i] = i;
  std::sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
    const int result = compare(a, b);
    return result != 0 ? result < 0 : a < b;
  });
  std::vector<std::int64_t> first, group(order.size()), counts;  // groups in the order of sorting
  for (std::int64_t i = 0; i < n; ++i) {
    if (i == 0 || compare(order[i - 1], order[i]) != 0) {
      first.push_back(order[i]);
      counts.push_back(0);
    }
    group[order[i]] = static_cast<std::int64_t>(first.size()) - 1;
    ++counts.back();
  }
  const auto u = static_cast<std::int64_t>(first.size());
  std::vector<std::int64_t> shown(first.size()),
      place(first.size());  // groups as they are returned
  for (std::int64_t i = 0; i < u; ++i) shown[i] = i;
  if (!sorted) {
    std::sort(shown.begin(), shown.end(),
              [&](std::int64_t a, std::int64_t b) { return first[a] < first[b]; });
  }
  for (std::int64_t i = 0; i < u; ++i) place[shown[i]] = i;
  char* y = call.output(0, x.type, flat ? Shape{u} : x.shape.with(axis, u)).data;
  for (std::int64_t o = 0; o < outer; ++o) {
    for (std::int64_t i = 0; i < u; ++i) {
      std::copy_n(rows + (first[shown[i]] * m + o * inner) * size, inner * size,
                  y + (o * u + i) * inner * size);
    }
  }
  const auto output = [&](int number, std::int64_t count, auto&& value) {
    if (!call.wants(number)) return;
    auto* to = call.output(number, Type::int64, Shape{count}).as<std::int64_t>();
    for (std::int64_t i = 0; i < count; ++i) to[i] = value(i);
  };
  output(1, u, [&](std::int64_t i) { return first[shown[i]]; });
  output(2, n, [&](std::int64_t i) { return place[group[i]]; });
  output(3, u, [&](std::int64_t i) { return counts[shown[i]]; });
}

// Unique: the different elements, or the different slices of an axis, sorted or in the order in
// which they come first; where each comes first; which of them each element is; how often it comes.
std::unique_ptr<Operator> make_unique_elements(const NodeDescription& node) {
  const bool sorted = node.integer("sorted", 1) != 0, flat = !node.has("axis");
  const std::int64_t axis = node.integer("axis", 0);
  return make_operator([sorted, flat, axis](Call& call) {
    unique(call, sorted, flat, flat ? 0 : checked_axis(axis, call.input(0).shape.rank()));
  });
}

}  // namespace

void list_select(OperatorTable& table) {
  table["Where"] = make_plain<where>;
  table["Compress"] = make_compress;
  table["NonZero"] = make_plain<non_zero>;
  table["TopK"] = make_top_k;
  table["Unique"] = make_unique_elements;
}

}  // namespace treadle::graph

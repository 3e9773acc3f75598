// Operators that look at shapes, change them without a change of elements, or make values of them.
#include <cmath>

#include "engine/graph/ops/families.h"
#include "engine/graph/strides.h"

namespace treadle::graph {
namespace {

// Reshape: a size of 0 is that of the input's axis unless allowzero, and -1 is what is left.
std::unique_ptr<Operator> make_reshape(const NodeDescription& node) {
  const bool allow_zero = node.integer("allowzero", 0) != 0;
  return make_operator([allow_zero](Call& call) {
    const Tensor& x = call.input(0);
    std::vector<std::int64_t> sizes = call.integers(1, kMaxRank);
    int free = -1;
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      if (sizes[i] == 0 && !allow_zero) {
        if (static_cast<int>(i) >= x.shape.rank()) refuse("a size of 0 has no axis of the input");
        sizes[i] = x.shape[static_cast<int>(i)];
      } else if (sizes[i] == -1) {
        if (free >= 0) refuse("two sizes are -1");
        free = static_cast<int>(i);
        sizes[i] = 1;
      }
    }
    Shape shape(sizes.data(), sizes.size());
    if (free >= 0) {
      if (shape.count() == 0 || x.count() % shape.count() != 0) {
        refuse("shape " + x.shape.text() + " cannot become " + shape.text() + " with a free axis " +
               std::to_string(free));
      }
      shape = shape.with(free, x.count() / shape.count());
    }
    call.share(0, 0, shape);
  });
}

// Flatten: the axes before `axis` become one, the others another.
std::unique_ptr<Operator> make_flatten(const NodeDescription& node) {
  const std::int64_t axis = node.integer("axis", 1);
  return make_operator([axis](Call& call) {
    const Shape& shape = call.input(0).shape;
    const int rank = shape.rank();
    const int middle = axis == rank ? rank : axis == 0 ? 0 : checked_axis(axis, rank);
    call.share(0, 0, Shape{shape.count(0, middle), shape.count(middle, rank)});
  });
}

// Returns which of `rank` axes the numbers name. Throws where one is named twice.
std::vector<bool> marked_axes(const std::vector<std::int64_t>& axes, int rank) {
  std::vector<bool> marked(static_cast<std::size_t>(rank));
  for (const std::int64_t number : axes) {
    const int axis = checked_axis(number, rank);
    if (marked[axis]) refuse("axis " + std::to_string(number) + " is named twice");
    marked[axis] = true;
  }
  return marked;
}

void squeeze(Call& call) {
  const Shape& shape = call.input(0).shape;
  std::vector<bool> marked;
  if (call.has(1)) {
    marked = marked_axes(call.integers(1, kMaxRank), shape.rank());
  } else {
    for (const std::int64_t size : shape) marked.push_back(size == 1);
  }
  std::vector<std::int64_t> sizes;
  for (int axis = 0; axis < shape.rank(); ++axis) {
    if (!marked[axis]) {
      sizes.push_back(shape[axis]);
    } else if (shape[axis] != 1) {
      refuse("axis " + std::to_string(axis) + " of " + shape.text() + " is not of size 1");
    }
  }
  call.share(0, 0, Shape(sizes.data(), sizes.size()));
}

void unsqueeze(Call& call) {
  const Shape& shape = call.input(0).shape;
  const std::vector<std::int64_t> axes = call.integers(1, kMaxRank);
  const int rank = shape.rank() + static_cast<int>(axes.size());
  const std::vector<bool> marked = marked_axes(axes, rank);
  std::vector<std::int64_t> sizes;
  for (int axis = 0, from = 0; axis < rank; ++axis) {
    sizes.push_back(marked[axis] ? 1 : shape[from++]);
  }
  call.share(0, 0, Shape(sizes.data(), sizes.size()));
}

void identity(Call& call) { call.share(0, 0, call.input(0).shape); }

// Shape: the sizes of the axes [start, end).
std::unique_ptr<Operator> make_shape(const NodeDescription& node) {
  const std::int64_t start = node.integer("start", 0), end = node.integer("end", INT64_MAX);
  return make_operator([start, end](Call& call) {
    const Shape& shape = call.input(0).shape;
    const auto place = [&](std::int64_t axis) {
      const std::int64_t rank = shape.rank();
      return std::max<std::int64_t>(0, std::min(rank, axis < 0 ? axis + rank : axis));
    };
    const std::int64_t first = place(start), count = std::max<std::int64_t>(0, place(end) - first);
    Tensor& y = call.output(0, Type::int64, Shape{count});
    std::copy_n(shape.begin() + first, count, y.as<std::int64_t>());
  });
}

void size(Call& call) {
  *call.output(0, Type::int64, Shape{}).as<std::int64_t>() = call.input(0).count();
}

// ConstantOfShape: every element is that of `value`, 0 in float32 where it is missing.
std::unique_ptr<Operator> make_constant_of_shape(const NodeDescription& node) {
  std::shared_ptr<const OwnedTensor> value;
  if (node.has("value")) value = node.native<OwnedTensor>("value");
  if (value && value->tensor.count() != 1) refuse("attribute value has not one element");
  return make_operator([value](Call& call) {
    const std::vector<std::int64_t> sizes = call.integers(0, kMaxRank);
    static const float kZero = 0;
    const Type type = value ? value->tensor.type : Type::float32;
    const char* from = value ? value->tensor.data : reinterpret_cast<const char*>(&kZero);
    const Shape shape(sizes.data(), sizes.size());
    Tensor& y = call.output(0, type, shape);
    const Shape one;
    copy_strided(call, broadcast_loop(shape, {&shape, &one}), y.data, from, size_of(type));
  });
}

// Range: start, start + delta, ..., all before limit.
void range(Call& call) {
  const Type type = call.input(0).type;
  for (int i = 0; i < 3; ++i) call.input(i, type);
  with_type(type, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (std::is_floating_point_v<T>) {
      const double start = call.number(0), limit = call.number(1), delta = call.number(2);
      const double count = std::ceil((limit - start) / delta);
      if (delta == 0 || !(count < 1e15)) refuse("the range has no end");
      const auto n = static_cast<std::int64_t>(std::max(count, 0.0));
      T* y = call.output(0, type, Shape{n}).template as<T>();
      call.parallel_for((n + 16383) / 16384, 16384 * 20, [&](std::int64_t task) {
        for (std::int64_t i = task * 16384, end = std::min(n, i + 16384); i < end; ++i) {
          y[i] = static_cast<T>(start) + static_cast<T>(i) * static_cast<T>(delta);
        }
      });
    } else if constexpr (std::is_signed_v<T> && sizeof(T) > 1) {
      const std::int64_t start = call.integer(0), limit = call.integer(1), delta = call.integer(2);
      if (delta == 0) refuse("delta is 0");
      // The span of 64 bits with a sign fits into 64 bits without one.
      const bool up = delta > 0;
      const auto first = static_cast<std::uint64_t>(start),
                 last = static_cast<std::uint64_t>(limit), step = static_cast<std::uint64_t>(delta);
      std::uint64_t count = 0;
      if (up ? start < limit : start > limit) {
        count = ((up ? last - first : first - last) - 1) / (up ? step : 0 - step) + 1;
      }
      if (count >= (std::uint64_t{1} << 56)) refuse("the range has no end");
      const auto n = static_cast<std::int64_t>(count);
      T* y = call.output(0, type, Shape{n}).template as<T>();
      call.parallel_for((n + 16383) / 16384, 16384 * 20, [&](std::int64_t task) {
        for (std::int64_t i = task * 16384, end = std::min(n, i + 16384); i < end; ++i) {
          y[i] = static_cast<T>(start + i * delta);
        }
      });
    } else {
      refuse(std::string("input 0 has dtype ") + name_of(type) + ", which has no range");
    }
  });
}

// EyeLike: ones on the k-th diagonal of a matrix of the input's shape.
std::unique_ptr<Operator> make_eye_like(const NodeDescription& node) {
  const std::int64_t k = node.integer("k", 0), code = node.integer("dtype", 0);
  return make_operator([k, code](Call& call) {
    const Tensor& x = call.input(0);
    if (x.shape.rank() != 2) refuse("input 0 has shape " + x.shape.text() + ", expected 2 axes");
    const Shape shape = x.shape;
    Tensor& y = call.output(0, code ? type_of_code(code) : x.type, shape);
    if (y.count()) std::memset(y.data, 0, static_cast<std::size_t>(y.bytes()));
    const std::int64_t rows = shape[0], columns = shape[1];
    with_type(y.type, [&](auto zero) {
      using T = decltype(zero);
      if (k <= -rows || k >= columns) return;
      const std::int64_t first = std::max<std::int64_t>(0, -k);
      for (std::int64_t r = first; r < rows && r + k < columns; ++r) {
        y.as<T>()[r * columns + r + k] = T(1);
      }
    });
  });
}

}  // namespace

void list_shapes(OperatorTable& table) {
  table["Reshape"] = make_reshape;
  table["Flatten"] = make_flatten;
  table["Squeeze"] = make_plain<squeeze>;
  table["Unsqueeze"] = make_plain<unsqueeze>;
  table["Identity"] = make_plain<identity>;
  table["Shape"] = make_shape;
  table["Size"] = make_plain<size>;
  table["ConstantOfShape"] = make_constant_of_shape;
  table["Range"] = make_plain<range>;
  table["EyeLike"] = make_eye_like;
}

}  // namespace treadle::graph

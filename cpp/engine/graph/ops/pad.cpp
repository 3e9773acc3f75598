// Pad: elements before and behind those of each axis, constant or taken from the axis itself.
// A negative number of them takes elements away.
#include <algorithm>
#include <array>

#include "engine/graph/ops/families.h"
#include "engine/graph/strides.h"

namespace treadle::graph {
namespace {

enum class Mode { constant, edge, reflect, wrap };

Mode mode_of(const NodeDescription& node) {
  constexpr const char* names[] = {"constant", "edge", "reflect", "wrap"};
  const std::string text = node.text("mode", "constant");
  for (int i = 0; i < 4; ++i) {
    if (text == names[i]) return static_cast<Mode>(i);
  }
  refuse("attribute mode is " + text);
}

// An axis of `size` elements, which becomes `padded` long.
struct Padding {
  std::int64_t size, begin = 0, padded;
};

// Returns the element of an axis that comes to place i, or -1 for the constant.
std::int64_t source(Mode mode, const Padding& axis, std::int64_t i) {
  const std::int64_t at = i - axis.begin, n = axis.size;
  if (at >= 0 && at < n) return at;
  if (mode == Mode::constant) return -1;
  if (mode == Mode::edge || n == 1) return at < 0 ? 0 : n - 1;
  const std::int64_t period = mode == Mode::wrap ? n : 2 * (n - 1);
  const std::int64_t rest = (at % period + period) % period;
  return rest < n ? rest : period - rest;
}

using Paddings = std::array<Padding, kMaxRank>;

// Returns the axes with their padding, of which the first input's shape and the numbers tell.
Paddings paddings(Call& call, Mode mode) {
  const Shape& shape = call.input(0).shape;
  const int rank = shape.rank();
  const std::vector<std::int64_t> pads = call.integers(1, 2 * kMaxRank);
  std::vector<std::int64_t> axes;  // empty: all of them
  if (call.has(3)) axes = call.integers(3, kMaxRank);
  const std::size_t count = call.has(3) ? axes.size() : static_cast<std::size_t>(rank);
  if (pads.size() != 2 * count) {
    refuse("there are " + std::to_string(pads.size()) + " pads for " + std::to_string(count) +
           " axes");
  }
  Paddings all{};
  for (int axis = 0; axis < rank; ++axis) all[axis] = {shape[axis], 0, shape[axis]};
  unsigned seen = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const int number = call.has(3) ? checked_axis(axes[i], rank) : static_cast<int>(i);
    if (seen >> number & 1) refuse("axis " + std::to_string(number) + " is named twice");
    seen |= 1u << number;
    Padding& axis = all[number];
    axis.begin = pads[i];
    std::int64_t size;
    if (__builtin_add_overflow(axis.size, pads[i], &size) ||
        __builtin_add_overflow(size, pads[i + count], &size)) {
      refuse("a pad is too large");
    }
    axis.padded = size;
    if (axis.size == 0 && size > 0 && mode != Mode::constant) {
      refuse("axis " + std::to_string(number) + " has no element that pads could repeat");
    }
  }
  return all;
}

// Writes the padded row of an axis whose elements have `block` numbers.
template <class T>
void pad_row(Mode mode, const Padding& axis, std::int64_t block, const T* from, T value, T* to) {
  const std::int64_t first = std::clamp<std::int64_t>(axis.begin, 0, axis.padded);
  const std::int64_t skipped = std::max<std::int64_t>(0, -axis.begin);
  const std::int64_t body = std::clamp<std::int64_t>(axis.size - skipped, 0, axis.padded - first);
  const auto pad = [&](std::int64_t begin, std::int64_t end) {
    if (mode == Mode::constant) return (void)std::fill(to + begin * block, to + end * block, value);
    const std::int64_t n = axis.size;
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t at = i - axis.begin;
      // A reflection that stays within the axis needs no division.
      const bool near = mode == Mode::reflect && at > -n && at < 2 * n - 1;
      const std::int64_t place = near ? (at < 0 ? -at : 2 * (n - 1) - at) : source(mode, axis, i);
      if (block == 1) {
        to[i] = from[place];
      } else {
        std::copy_n(from + place * block, block, to + i * block);
      }
    }
  };
  pad(0, first);
  if (body > 0) std::copy_n(from + skipped * block, body * block, to + first * block);
  pad(first + body, axis.padded);
}

std::unique_ptr<Operator> make_pad(const NodeDescription& node) {
  const Mode mode = mode_of(node);
  return make_operator([mode](Call& call) {
    const Tensor& x = call.input(0);
    const Paddings axes = paddings(call, mode);
    std::array<std::int64_t, kMaxRank> sizes;
    int last = -1;  // of the axes that change
    for (int i = 0; i < x.shape.rank(); ++i) {
      if (axes[i].begin != 0 || axes[i].padded != axes[i].size) last = i;
      sizes[i] = axes[i].padded;
    }
    const Shape shape(sizes.data(), static_cast<std::size_t>(x.shape.rank()));
    if (call.has(2) && call.input(2, x.type).count() != 1) refuse("input 2 has not one element");
    if (last < 0) return call.share(0, 0, shape);
    Tensor& y = call.output(0, x.type, shape);
    if (y.count() == 0) return;
    const int rank = shape.rank();
    const std::int64_t block = shape.count(last + 1, rank), row = shape.count(last, rank);
    const std::int64_t from_row = axes[last].size * block, rows = y.count() / row;
    with_size(size_of(x.type), [&](auto zero) {
      using T = decltype(zero);
      const T value = call.has(2) ? *call.input(2).as<T>() : T{};
      const std::int64_t step = std::max<std::int64_t>(1, (1 << 13) / row);
      const double work =
          static_cast<double>(step) * (50 + 2.5 * static_cast<double>(row * sizeof(T)));
      call.parallel_for((rows + step - 1) / step, work, [&](std::int64_t task) {
        for (std::int64_t r = task * step, end = std::min(rows, r + step); r < end; ++r) {
          std::int64_t from = 0, rest = r, stride = 1;
          for (int axis = last - 1; axis >= 0 && from >= 0; --axis) {
            const std::int64_t at = source(mode, axes[axis], rest % axes[axis].padded);
            from = at < 0 ? -1 : from + at * stride;
            rest /= axes[axis].padded;
            stride *= axes[axis].size;
          }
          T* to = y.as<T>() + r * row;
          if (from < 0) {
            std::fill_n(to, row, value);
          } else {
            pad_row(mode, axes[last], block, x.as<T>() + from * from_row, value, to);
          }
        }
      });
    });
  });
}

}  // namespace

void list_pad(OperatorTable& table) { table["Pad"] = make_pad; }

}  // namespace treadle::graph

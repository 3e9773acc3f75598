// Operators that write elements by their indices: ScatterElements, ScatterND. Where an index occurs
// more than once, the updates come one after the other, in their order.
#include "engine/graph/ops/families.h"
#include "engine/graph/ops/indices.h"

namespace treadle::graph {
namespace {

enum class Reduction { none, add, mul, min, max };

Reduction reduction_of(const NodeDescription& node) {
  constexpr const char* names[] = {"none", "add", "mul", "min", "max"};
  const std::string text = node.text("reduction", "none");
  for (int i = 0; i < 5; ++i) {
    if (text == names[i]) return static_cast<Reduction>(i);
  }
  refuse("attribute reduction is " + text);
}

// Integers wrap.
template <class T>
T reduced(Reduction reduction, T old, T update) {
  switch (reduction) {
    case Reduction::add:
      if constexpr (std::is_integral_v<T>) {
        return static_cast<T>(static_cast<std::uint64_t>(old) + static_cast<std::uint64_t>(update));
      } else {
        return old + update;
      }
    case Reduction::mul:
      if constexpr (std::is_integral_v<T>) {
        return static_cast<T>(static_cast<std::uint64_t>(old) * static_cast<std::uint64_t>(update));
      } else {
        return old * update;
      }
    case Reduction::min:
      return update < old || update != update ? update : old;
    case Reduction::max:
      return update > old || update != update ? update : old;
    case Reduction::none:
      break;
  }
  return update;
}

void copy_all(Call& call, const Tensor& from, Tensor& to) {
  if (from.data == to.data || from.count() == 0) return;
  constexpr std::int64_t kPiece = 1 << 16;
  const std::int64_t bytes = from.bytes();
  call.parallel_for((bytes + kPiece - 1) / kPiece, kPiece * 2.5, [&](std::int64_t i) {
    std::memcpy(to.data + i * kPiece, from.data + i * kPiece,
                static_cast<std::size_t>(std::min(kPiece, bytes - i * kPiece)));
  });
}

std::unique_ptr<Operator> make_scatter_elements(const NodeDescription& node) {
  const std::int64_t given = node.integer("axis", 0);
  const Reduction reduction = reduction_of(node);
  return make_operator([given, reduction](Call& call) {
    const Tensor &x = call.input(0), &indices = call.input(1), &updates = call.input(2, x.type);
    const StridedLoop<2> loop = elements_loop(x.shape, indices.shape, given);
    if (updates.shape != indices.shape) {
      refuse("updates have shape " + updates.shape.text() + ", the indices " +
             indices.shape.text());
    }
    const int axis = checked_axis(given, x.shape.rank());
    const std::int64_t* at = checked_indices(call, 1, x.shape[axis]);
    const std::int64_t stride = x.shape.count(axis + 1, x.shape.rank());
    const Shape shape = x.shape;
    Tensor& y = call.output_over(0, 0, shape);
    copy_all(call, x, y);
    with_type(x.type, [&](auto zero) {
      using T = decltype(zero);
      const T* from = updates.as<T>();
      T* to = y.as<T>();
      const std::int64_t from_row = loop.row_step(0), from_step = loop.step(0);
      const std::int64_t row = loop.row_step(1), step = loop.step(1);
      loop.run_in_order(call, 50,
                        [&](const std::int64_t (&offsets)[2], std::int64_t rows, std::int64_t n) {
                          for (std::int64_t r = 0; r < rows; ++r) {
                            for (std::int64_t i = 0; i < n; ++i) {
                              const std::int64_t k = offsets[0] + r * from_row + i * from_step;
                              T& place = to[offsets[1] + r * row + i * step + at[k] * stride];
                              place = reduced(reduction, place, from[k]);
                            }
                          }
                        });
    });
  });
}

std::unique_ptr<Operator> make_scatter_nd(const NodeDescription& node) {
  const Reduction reduction = reduction_of(node);
  return make_operator([reduction](Call& call) {
    const Tensor &x = call.input(0), &indices = call.input(1), &updates = call.input(2, x.type);
    const int rank = x.shape.rank(), last = indices.shape.rank() - 1;
    const std::int64_t* at = checked_tuples(call, 1, x.shape, 0);
    const int behind = static_cast<int>(indices.shape[last]);
    std::vector<std::int64_t> sizes(indices.shape.begin(), indices.shape.begin() + last);
    sizes.insert(sizes.end(), x.shape.begin() + behind, x.shape.end());
    const Shape expected(sizes.data(), sizes.size()), shape = x.shape;
    if (updates.shape != expected) {
      refuse("updates have shape " + updates.shape.text() + ", expected " + expected.text());
    }
    Tensor& y = call.output_over(0, 0, shape);
    copy_all(call, x, y);
    const std::int64_t tuples = indices.shape.count(0, last), part = shape.count(behind, rank);
    with_type(x.type, [&](auto zero) {
      using T = decltype(zero);
      call.serial_for(tuples, 20 + 10 * static_cast<double>(part), [&](std::int64_t t) {
        const T* from = updates.as<T>() + t * part;
        T* to = y.as<T>() + at[t];
        for (std::int64_t i = 0; i < part; ++i) to[i] = reduced(reduction, to[i], from[i]);
      });
    });
  });
}

}  // namespace

void list_scatter(OperatorTable& table) {
  table["ScatterElements"] = make_scatter_elements;
  table["ScatterND"] = make_scatter_nd;
}

}  // namespace treadle::graph

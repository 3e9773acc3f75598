// Operators that go along an axis: ArgMax, ArgMin, CumSum.
#include "engine/graph/ops/elementwise.h"
#include "engine/graph/ops/families.h"
#include "engine/graph/ops/reduce.h"

namespace treadle::graph {
namespace {

// ArgMax and ArgMin: the index of the first (or last) largest or smallest number. NaN counts as
// both.
template <bool largest>
std::unique_ptr<Operator> make_arg(const NodeDescription& node) {
  const std::int64_t axis = node.integer("axis", 0);
  const bool keep = node.integer("keepdims", 1) != 0;
  const bool last = node.integer("select_last_index", 0) != 0;
  return make_operator([axis, keep, last](Call& call) {
    const Tensor& x = call.input(0);
    const Reduced how = reduced_axes(x.shape, {axis}, false, keep);
    const std::int64_t n = how.n, inner = how.inner, results = how.outer * inner;
    if (n == 0 && results > 0) refuse("axis " + std::to_string(axis) + " has no elements");
    auto* y = call.output(0, Type::int64, how.shape).as<std::int64_t>();
    with_type(x.type, [&](auto zero) {
      using T = decltype(zero);
      if constexpr (std::is_same_v<T, bool>) {
        wrong_dtype(x.type);
      } else {
        const auto beats = [](T a, T b) { return (largest ? a > b : a < b) || (a != a && b == b); };
        const T* from = x.as<T>();
        call.parallel_for(results, static_cast<double>(n) * 50, [&](std::int64_t i) {
          const T* row = from + i / inner * n * inner + i % inner;
          T best = row[0];
          std::int64_t place = 0;
          for (std::int64_t k = 1; k < n; ++k) {
            const T value = row[k * inner];
            if (beats(value, best) || (last && !beats(best, value))) {
              best = value;
              place = k;
            }
          }
          y[i] = place;
        });
      }
    });
  });
}

// CumSum: the sums of the elements up to each (before it if exclusive; from behind if reverse).
std::unique_ptr<Operator> make_cum_sum(const NodeDescription& node) {
  const bool exclusive = node.integer("exclusive", 0) != 0;
  const bool reverse = node.integer("reverse", 0) != 0;
  return make_operator([exclusive, reverse](Call& call) {
    const Tensor& x = call.input(0);
    const int rank = x.shape.rank(), axis = checked_axis(call.integer(1), rank);
    const std::int64_t n = x.shape[axis], inner = x.shape.count(axis + 1, rank);
    const std::int64_t rows = x.shape.count(0, axis) * inner;
    const Shape shape = x.shape;
    Tensor& y = call.output_over(0, 0, shape);
    if (shape.count() == 0) return;
    with_type(x.type, [&](auto zero) {
      using T = decltype(zero);
      if constexpr (std::is_same_v<T, bool>) {
        wrong_dtype(x.type);
      } else {
        using Wide = std::conditional_t<std::is_integral_v<T>, std::uint64_t, T>;
        const T* from = x.as<T>();
        T* to = y.as<T>();
        call.parallel_for(rows, static_cast<double>(n) * 50, [&](std::int64_t r) {
          const std::int64_t first = r / inner * n * inner + r % inner;
          Wide sum = 0;
          for (std::int64_t k = 0; k < n; ++k) {
            const std::int64_t at = first + (reverse ? n - 1 - k : k) * inner;
            const Wide before = sum;
            sum += static_cast<Wide>(from[at]);
            to[at] = static_cast<T>(exclusive ? before : sum);
          }
        });
      }
    });
  });
}

}  // namespace

void list_scan_axis(OperatorTable& table) {
  table["ArgMax"] = make_arg<true>;
  table["ArgMin"] = make_arg<false>;
  table["CumSum"] = make_cum_sum;
}

}  // namespace treadle::graph

// Operators that change the shape and the order of elements, but no element.
#include "engine/graph/ops/families.h"

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

}  // namespace

void list_movement(OperatorTable& table) { table["Reshape"] = make_reshape; }

}  // namespace treadle::graph

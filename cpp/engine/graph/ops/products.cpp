// Products with weights that are packed once.
#include "engine/graph/ops/families.h"
#include "engine/product/linear.h"

namespace treadle::graph {
namespace {

// treadle.Linear: y [..., N] = x [..., K] W^T + b.
std::unique_ptr<Operator> make_linear(const NodeDescription& node) {
  const auto linear = node.native<Linear>("linear");
  return make_operator([linear](Call& call) {
    const Tensor& x = call.input(0, Type::float32);
    const int last = x.shape.rank() - 1;
    if (last < 0 || x.shape[last] != linear->inputs()) {
      refuse("input 0 has shape " + x.shape.text() + ", expected a last axis of " +
             std::to_string(linear->inputs()));
    }
    Tensor& y = call.output(0, Type::float32, x.shape.with(last, linear->outputs()));
    product(*linear, x.shape.count(0, last), x.floats(), linear->inputs(), nullptr, nullptr,
            y.floats(), call.interrupt());
  });
}

}  // namespace

void list_products(OperatorTable& table) { table["treadle.Linear"] = make_linear; }

}  // namespace treadle::graph

// Pools, channels last: treadle.MaxPool, treadle.AveragePool and the global ones. x is
// [B, spatial.., C] with one spatial axis or two.
#include "engine/conv/pool.h"

#include <algorithm>
#include <string>
#include <vector>

#include "engine/graph/ops/activation.h"
#include "engine/graph/ops/families.h"
#include "engine/graph/ops/windows.h"
#include "runtime/isa.h"

namespace treadle::graph {
namespace {

// Returns the number of spatial axes; throws std::invalid_argument unless it is 1 or 2.
std::size_t spatial_axes(const Tensor& x) {
  const int rank = x.shape.rank();
  if (rank != 3 && rank != 4) {
    refuse("x has shape " + x.shape.text() + ", expected one spatial axis or two");
  }
  return static_cast<std::size_t>(rank) - 2;
}

std::unique_ptr<Operator> make_pool(const NodeDescription& node, PoolKind kind) {
  const Windows windows(node);
  const std::vector<std::int64_t> taps = node.integers("kernel_shape", {});
  for (const std::int64_t size : taps) checked_size("kernel_shape", size, 1);
  const bool ceil = node.integer("ceil_mode", 0) != 0;
  return make_operator([windows, taps, ceil, kind](Call& call) {
    const Tensor& x = call.input(0, Type::float32);
    const std::size_t axes = spatial_axes(x);
    if (taps.size() != axes) refuse("kernel_shape is not for " + std::to_string(axes) + " axes");
    windows.check(axes);
    if (call.wants(1)) refuse("the output Indices is not supported");
    PoolAxis vertical{}, horizontal{};
    for (std::size_t i = 0; i < axes; ++i) {
      const ConvAxis w = windows.at(i, taps[i], x.shape[static_cast<int>(i) + 1]);
      PoolAxis& axis = axes == 2 && i == 0 ? vertical : horizontal;
      axis = {w.taps, w.stride, w.dilation, w.before, w.after, ceil};
    }
    const std::int64_t B = x.shape[0], C = x.shape[x.shape.rank() - 1];
    const std::int64_t H = axes == 2 ? x.shape[1] : 1, W = x.shape[static_cast<int>(axes)];
    const std::int64_t height = vertical.outputs(H), width = horizontal.outputs(W);
    if (height < 1 || width < 1) {
      refuse("x has shape " + x.shape.text() + ", and the windows reach over more than that");
    }
    const Shape shape = axes == 2 ? Shape({B, height, width, C}) : Shape({B, width, C});
    Tensor& y = call.output(0, Type::float32, shape);
    if (y.count() == 0) return;
    const Pool pool = Pool::regular(kernels(), kind, vertical, horizontal, H, W);
    pool.run(B, C, x.floats(), y.floats(), ParallelFor(call));
  });
}

std::unique_ptr<Operator> make_max_pool(const NodeDescription& node) {
  return make_pool(node, PoolKind::max);
}

std::unique_ptr<Operator> make_average_pool(const NodeDescription& node) {
  const bool pads = node.integer("count_include_pad", 0) != 0;
  return make_pool(node, pads ? PoolKind::average_with_pad : PoolKind::average);
}

template <PoolKind kind>
std::unique_ptr<Operator> make_global(const NodeDescription&) {
  return make_operator([](Call& call) {
    const Tensor& x = call.input(0, Type::float32);
    const int rank = x.shape.rank();
    if (rank < 3) refuse("x has shape " + x.shape.text() + ", expected [B, spatial.., C]");
    const std::int64_t pixels = x.shape.count(1, rank - 1);
    Shape shape = x.shape;
    for (int i = 1; i < rank - 1; ++i) shape = shape.with(i, 1);
    if (pixels == 0) refuse("x has shape " + x.shape.text() + ", without a pixel");
    Tensor& y = call.output(0, Type::float32, shape);
    if (y.count() == 0) return;
    pool_all(kernels(), kind, x.shape[0], pixels, x.shape[rank - 1], x.floats(), y.floats(),
             ParallelFor(call));
  });
}

}  // namespace

void list_pool(OperatorTable& table) {
  table["treadle.MaxPool"] = make_max_pool;
  table["treadle.AveragePool"] = make_average_pool;
  table["treadle.GlobalAveragePool"] = make_global<PoolKind::average>;
  table["treadle.GlobalMaxPool"] = make_global<PoolKind::max>;
}

}  // namespace treadle::graph

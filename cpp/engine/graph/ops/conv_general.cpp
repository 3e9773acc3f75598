// Conv with weights that are values, and channels first: it is packed and turned in every call. The
// layout of a graph turns all others into treadle.Conv.
#include <string>
#include <vector>

#include "engine/conv/conv.h"
#include "engine/conv/depthwise.h"
#include "engine/graph/ops/activation.h"
#include "engine/graph/ops/families.h"
#include "engine/graph/ops/windows.h"
#include "engine/product/transpose.h"
#include "runtime/isa.h"

namespace treadle::graph {
namespace {

// Exchanges the last two axes of `count` matrices.
const float* exchanged(Call& call, const float* from, std::int64_t count, std::int64_t rows,
                       std::int64_t columns) {
  float* to = call.scratch_floats(count * rows * columns);
  for (std::int64_t i = 0; i < count; ++i) {
    transpose(from + i * rows * columns, columns, rows, columns, to + i * rows * columns, rows);
    call.interrupt().progress(static_cast<double>(rows * columns));
    stop_if_interrupted(call);
  }
  return to;
}

// Returns the sizes of the convolution of a call.
ConvShape shape_of(const Tensor& x, const Tensor& weight, const Windows& windows,
                   std::int64_t groups) {
  const int axes = x.shape.rank() - 2;
  if ((axes != 1 && axes != 2) || weight.shape.rank() != axes + 2) {
    refuse("x has shape " + x.shape.text() + " and the weight " + weight.shape.text() +
           ", expected one spatial axis or two");
  }
  windows.check(static_cast<std::size_t>(axes));
  ConvShape s{};
  s.inputs = checked_size("x", x.shape[1], 1);
  s.outputs = checked_size("the weight", weight.shape[0], 1);
  s.groups = groups;
  if (s.inputs % groups || s.outputs % groups || weight.shape[1] != s.inputs / groups) {
    refuse("the weight has shape " + weight.shape.text() + ", which does not fit C = " +
           std::to_string(s.inputs) + " in " + std::to_string(groups) + " groups");
  }
  for (int i = 0; i < axes; ++i) {
    const std::int64_t taps = checked_size("the weight", weight.shape[i + 2], 1);
    const Window w = windows.at(static_cast<std::size_t>(i), taps, x.shape[i + 2]);
    ConvAxis& axis = axes == 2 && i == 0 ? s.vertical : s.horizontal;
    axis = {w.taps, w.stride, w.dilation, w.before, w.after};
  }
  return s;
}

void run(Call& call, const Windows& windows, std::int64_t groups) {
  const Tensor &x = call.input(0, Type::float32), &weight = call.input(1, Type::float32);
  const ConvShape s = shape_of(x, weight, windows, groups);
  const bool two = x.shape.rank() == 4;
  const std::int64_t B = x.shape[0], H = two ? x.shape[2] : 1, W = x.shape[two ? 3 : 2];
  const float* bias = nullptr;
  if (call.has(2)) {
    const Tensor& given = call.input(2, Type::float32);
    if (given.shape != Shape({s.outputs})) refuse("the bias has shape " + given.shape.text());
    bias = given.floats();
  }
  const std::int64_t height = s.vertical.outputs(H), width = s.horizontal.outputs(W);
  if (height < 1 || width < 1) {
    refuse("x has shape " + x.shape.text() + ", and the taps reach over more than that");
  }
  Tensor& y = call.output(
      0, Type::float32, two ? Shape({B, s.outputs, height, width}) : Shape({B, s.outputs, width}));
  if (y.count() == 0) return;
  const float* w = exchanged(call, weight.floats(), s.outputs, s.group_inputs(), s.taps());
  const float* rows = exchanged(call, x.floats(), B, s.inputs, H * W);
  float* result = call.scratch_floats(y.count());
  const ConvCall c{B, H, W, rows, result};
  if (Depthwise::is(s)) {
    const Depthwise conv(kernels(), s, w, bias);
    conv.run(c, call.scratch_floats(conv.scratch_floats(c)), ParallelFor(call));
  } else {
    convolve(Conv(kernels(), s, w, bias), c, call.interrupt());
    stop_if_interrupted(call);
  }
  const std::int64_t pixels = height * width;
  for (std::int64_t b = 0; b < B; ++b) {
    transpose(result + b * pixels * s.outputs, s.outputs, pixels, s.outputs,
              y.floats() + b * pixels * s.outputs, pixels);
  }
}

std::unique_ptr<Operator> make_conv(const NodeDescription& node) {
  const Windows windows(node);
  const std::int64_t groups = checked_size("group", node.integer("group", 1), 1);
  return make_operator([windows, groups](Call& call) { run(call, windows, groups); });
}

}  // namespace

void list_conv_general(OperatorTable& table) { table["Conv"] = make_conv; }

}  // namespace treadle::graph

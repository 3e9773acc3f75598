// Conv and ConvTranspose with weights that are values, and channels first: they are packed and
// turned in every call. The layout of a graph turns all others into treadle.Conv and
// treadle.ConvTranspose.
#include <string>
#include <type_traits>
#include <vector>

#include "engine/conv/conv.h"
#include "engine/conv/conv_transpose.h"
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

// Returns the sizes of the convolution of a call. A weight is [D, C / g, taps..] and, transposed,
// [C, D / g, taps..].
template <class ShapeOf, class WindowsOf>
ShapeOf shape_of(const Tensor& x, const Tensor& weight, const WindowsOf& windows,
                 std::int64_t groups) {
  constexpr bool kTransposed = std::is_same_v<ShapeOf, ConvTransposeShape>;
  const int axes = x.shape.rank() - 2;
  if ((axes != 1 && axes != 2) || weight.shape.rank() != axes + 2) {
    refuse("x has shape " + x.shape.text() + " and the weight " + weight.shape.text() +
           ", expected one spatial axis or two");
  }
  windows.check(static_cast<std::size_t>(axes));
  windows.check_weight(weight.shape);
  const std::int64_t first = checked_size("the weight", weight.shape[0], 1);
  const std::int64_t second = checked_size("the weight", weight.shape[1], 1);
  ShapeOf s{};
  s.inputs = checked_size("x", x.shape[1], 1);
  s.groups = groups;
  s.outputs = kTransposed ? second * groups : first;
  const std::int64_t inputs = kTransposed ? first : second * groups;
  if (s.inputs != inputs || s.inputs % groups || s.outputs % groups) {
    refuse("the weight has shape " + weight.shape.text() + ", which does not fit C = " +
           std::to_string(s.inputs) + " in " + std::to_string(groups) + " groups");
  }
  for (int i = 0; i < axes; ++i) {
    const std::int64_t taps = checked_size("the weight", weight.shape[i + 2], 1);
    const std::int64_t size = checked_size("the shape of x", x.shape[i + 2], kTransposed ? 1 : 0);
    ConvAxis& axis = axes == 2 && i == 0 ? s.vertical : s.horizontal;
    axis = windows.at(static_cast<std::size_t>(i), taps, size);
  }
  return s;
}

// Returns the bias [D], or null.
const float* bias_of(const Call& call, std::int64_t outputs) {
  if (!call.has(2)) return nullptr;
  const Tensor& bias = call.input(2, Type::float32);
  if (bias.shape != Shape({outputs})) refuse("the bias has shape " + bias.shape.text());
  return bias.floats();
}

// Makes the output of an image of height x width for each of x, and calls compute(c), which makes
// it channels last.
template <class Compute>
void run_last(Call& call, const ConvShape& s, std::int64_t height, std::int64_t width,
              Compute&& compute) {
  const Tensor& x = call.input(0);
  const bool two = x.shape.rank() == 4;
  const std::int64_t B = x.shape[0], H = two ? x.shape[2] : 1, W = x.shape[two ? 3 : 2];
  if (height < 1 || width < 1) {
    refuse("x has shape " + x.shape.text() + ", and the taps reach over more than that");
  }
  Tensor& y = call.output(
      0, Type::float32, two ? Shape({B, s.outputs, height, width}) : Shape({B, s.outputs, width}));
  if (y.count() == 0) return;
  const float* rows = exchanged(call, x.floats(), B, s.inputs, H * W);
  float* result = call.scratch_floats(y.count());
  compute(ConvCall{B, H, W, rows, result});
  const std::int64_t pixels = height * width;
  for (std::int64_t b = 0; b < B; ++b) {
    transpose(result + b * pixels * s.outputs, s.outputs, pixels, s.outputs,
              y.floats() + b * pixels * s.outputs, pixels);
  }
}

void run(Call& call, const Windows& windows, std::int64_t groups) {
  const Tensor &x = call.input(0, Type::float32), &weight = call.input(1, Type::float32);
  const auto s = shape_of<ConvShape>(x, weight, windows, groups);
  const float* bias = bias_of(call, s.outputs);
  const int axes = x.shape.rank() - 2;
  const std::int64_t H = axes == 2 ? x.shape[2] : 1, W = x.shape[axes + 1];
  run_last(call, s, s.vertical.outputs(H), s.horizontal.outputs(W), [&](const ConvCall& c) {
    const float* w = exchanged(call, weight.floats(), s.outputs, s.group_inputs(), s.taps());
    if (Depthwise::is(s)) {
      const Depthwise conv(kernels(), s, w, bias);
      conv.run(c, call.scratch_floats(conv.scratch_floats(c)), ParallelFor(call));
    } else {
      convolve(Conv(kernels(), s, w, bias), c, call.interrupt());
      stop_if_interrupted(call);
    }
  });
}

void run_transposed(Call& call, const TransposedWindows& windows, std::int64_t groups) {
  const Tensor &x = call.input(0, Type::float32), &weight = call.input(1, Type::float32);
  const auto s = shape_of<ConvTransposeShape>(x, weight, windows, groups);
  const float* bias = bias_of(call, s.outputs);
  const int axes = x.shape.rank() - 2;
  const std::int64_t H = axes == 2 ? x.shape[2] : 1, W = x.shape[axes + 1];
  const std::int64_t height = ConvTransposeShape::outputs_of(s.vertical, H);
  const std::int64_t width = ConvTransposeShape::outputs_of(s.horizontal, W);
  run_last(call, s, height, width, [&](const ConvCall& c) {
    // In each group [C / g, D / g taps] becomes [D / g, taps, C / g].
    const float* w =
        exchanged(call, weight.floats(), groups, s.group_inputs(), s.group_outputs() * s.taps());
    convolve(ConvTranspose(kernels(), s, w, bias), c, call.interrupt());
    stop_if_interrupted(call);
  });
}

template <class WindowsOf, void (*run)(Call&, const WindowsOf&, std::int64_t)>
std::unique_ptr<Operator> make(const NodeDescription& node) {
  const WindowsOf windows(node);
  const std::int64_t groups = checked_size("group", node.integer("group", 1), 1);
  return make_operator([windows, groups](Call& call) { run(call, windows, groups); });
}

}  // namespace

void list_conv_general(OperatorTable& table) {
  table["Conv"] = make<Windows, run>;
  table["ConvTranspose"] = make<TransposedWindows, run_transposed>;
}

}  // namespace treadle::graph

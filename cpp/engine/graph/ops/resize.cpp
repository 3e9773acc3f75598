// Resize and treadle.Resize: images of another size, channels first or last. ONNX's attributes and
// inputs scales and sizes (https://onnx.ai/onnx/operators/onnx__Resize.html), nearest and linear.
#include "engine/conv/resize.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "engine/graph/ops/activation.h"
#include "engine/graph/ops/families.h"
#include "runtime/isa.h"

namespace treadle::graph {
namespace {

template <class Value>
struct Named {
  const char* name;
  Value value;
};

template <class Value, std::size_t N>
Value choose(const char* what, const std::string& name, const Named<Value> (&values)[N]) {
  for (const auto& [known, value] : values) {
    if (name == known) return value;
  }
  refuse(std::string(what) + " is '" + name + "', which is not supported");
}

struct Options {
  bool linear;
  ResizeCoordinates coordinates;
  ResizeRounding rounding;
  std::vector<std::int64_t> axes;  // that scales and sizes are for; empty: all
  enum class Policy { stretch, not_larger, not_smaller } policy;
};

Options read_options(const NodeDescription& node) {
  Options o{};
  const std::string mode = node.text("mode", "nearest");
  if (mode != "nearest" && mode != "linear")
    refuse("mode is '" + mode + "', which is not supported");
  o.linear = mode == "linear";
  static constexpr Named<ResizeCoordinates> kCoordinates[] = {
      {"half_pixel", ResizeCoordinates::half_pixel},
      {"half_pixel_symmetric", ResizeCoordinates::half_pixel_symmetric},
      {"pytorch_half_pixel", ResizeCoordinates::pytorch_half_pixel},
      {"asymmetric", ResizeCoordinates::asymmetric},
      {"align_corners", ResizeCoordinates::align_corners}};
  o.coordinates = choose("coordinate_transformation_mode",
                         node.text("coordinate_transformation_mode", "half_pixel"), kCoordinates);
  static constexpr Named<ResizeRounding> kRoundings[] = {
      {"round_prefer_floor", ResizeRounding::round_prefer_floor},
      {"round_prefer_ceil", ResizeRounding::round_prefer_ceil},
      {"floor", ResizeRounding::floor},
      {"ceil", ResizeRounding::ceil}};
  o.rounding = choose("nearest_mode", node.text("nearest_mode", "round_prefer_floor"), kRoundings);
  static constexpr Named<Options::Policy> kPolicies[] = {
      {"stretch", Options::Policy::stretch},
      {"not_larger", Options::Policy::not_larger},
      {"not_smaller", Options::Policy::not_smaller}};
  o.policy = choose("keep_aspect_ratio_policy", node.text("keep_aspect_ratio_policy", "stretch"),
                    kPolicies);
  o.axes = node.integers("axes", {});
  if (node.integer("antialias", 0) != 0) refuse("antialias is not supported");
  return o;
}

// Returns the resizing of every axis of x.
std::vector<ResizeAxis> resized(const Call& call, const Tensor& x, const Options& o) {
  const int rank = x.shape.rank();
  std::vector<int> axes;
  for (const std::int64_t axis : o.axes) axes.push_back(checked_axis(axis, rank));
  if (axes.empty()) {
    for (int i = 0; i < rank; ++i) axes.push_back(i);
  }
  std::vector<ResizeAxis> result;
  for (int i = 0; i < rank; ++i) result.push_back({x.shape[i], x.shape[i], 0});
  const bool by_sizes = call.has(3) && call.input(3).count() > 0;
  const bool by_scales = call.has(2) && call.input(2).count() > 0;
  if (by_sizes == by_scales) refuse("either scales or sizes must be given");
  if (by_scales) {
    const Tensor& scales = call.input(2, Type::float32, 1);
    if (scales.count() != static_cast<std::int64_t>(axes.size())) {
      refuse("scales has " + std::to_string(scales.count()) + " numbers, expected " +
             std::to_string(axes.size()));
    }
    for (std::size_t i = 0; i < axes.size(); ++i) {
      const double scale = scales.floats()[i];
      ResizeAxis& axis = result[axes[i]];
      const double outputs = std::floor(static_cast<double>(axis.inputs) * scale);
      if (!(scale > 0) || !(outputs < 1e15)) refuse("a scale is " + std::to_string(scale));
      axis.outputs = static_cast<std::int64_t>(outputs);
      axis.scale = scale;
    }
    return result;
  }
  const std::vector<std::int64_t> sizes = call.integers(3, kMaxRank);
  if (sizes.size() != axes.size()) {
    refuse("sizes has " + std::to_string(sizes.size()) + " numbers, expected " +
           std::to_string(axes.size()));
  }
  if (o.policy == Options::Policy::stretch) {
    for (std::size_t i = 0; i < axes.size(); ++i) result[axes[i]].outputs = sizes[i];
    return result;
  }
  // All axes get one scale, the smallest or the largest of what the sizes ask for.
  double scale = 0;
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const auto inputs = static_cast<double>(std::max<std::int64_t>(1, result[axes[i]].inputs));
    const double own = static_cast<double>(sizes[i]) / inputs;
    const bool smaller = o.policy == Options::Policy::not_larger;
    scale = i == 0 ? own : smaller ? std::min(scale, own) : std::max(scale, own);
  }
  for (const int axis : axes) {
    const double outputs = std::round(scale * static_cast<double>(result[axis].inputs));
    if (!(outputs >= 0) || !(outputs < 1e15)) refuse("a size is out of range");
    result[axis].outputs = static_cast<std::int64_t>(outputs);
    result[axis].scale = scale;
  }
  return result;
}

// Returns whether an axis comes out as it goes in.
bool stays(const ResizeAxis& axis) {
  return axis.inputs == axis.outputs && (axis.scale == 0 || axis.scale == 1);
}

// What is resized are one or two neighbouring axes. All axes before them count as the batch, all
// behind them as the channels, whatever the operator's layout.
std::unique_ptr<Operator> make_resize(const NodeDescription& node) {
  const Options o = read_options(node);
  return make_operator([o](Call& call) {
    const Tensor& x = call.input(0, Type::float32);
    const int rank = x.shape.rank();
    if (rank == 0) refuse("x is a scalar, expected an axis");
    const std::vector<ResizeAxis> axes = resized(call, x, o);
    int first = rank - 1, last = 0;
    Shape shape = x.shape;
    for (int i = 0; i < rank; ++i) {
      if (stays(axes[i])) continue;
      if (axes[i].outputs > 0 && axes[i].inputs == 0) refuse("an axis without a pixel is resized");
      shape = shape.with(i, axes[i].outputs);
      first = std::min(first, i);
      last = i;
    }
    last = std::max(first, last);
    if (last - first > 1) refuse("more than two axes, or distant ones, are resized");
    Tensor& y = call.output(0, Type::float32, shape);
    if (y.count() == 0) return;
    const ResizeAxis vertical = last > first ? axes[first] : ResizeAxis{1, 1, 0};
    const ResizeAxis& horizontal = axes[last];
    const std::int64_t B = x.shape.count(0, first), C = x.shape.count(last + 1, rank);
    if (o.linear) {
      const auto rows = linear_taps(vertical, o.coordinates);
      const auto columns = linear_taps(horizontal, o.coordinates);
      const LinearResize args{B,    vertical.inputs, horizontal.inputs, C,
                              rows, columns,         x.floats(),        y.floats()};
      float* scratch = call.scratch_floats(args.scratch_floats());
      return resize_linear(kernels(), args, scratch, ParallelFor(call));
    }
    resize_nearest(nearest_pixels(vertical, o.coordinates, o.rounding),
                   nearest_pixels(horizontal, o.coordinates, o.rounding), B, vertical.inputs,
                   horizontal.inputs, C, x.floats(), y.floats(), ParallelFor(call));
  });
}

}  // namespace

void list_resize(OperatorTable& table) {
  table["Resize"] = make_resize;
  table["treadle.Resize"] = make_resize;
}

}  // namespace treadle::graph

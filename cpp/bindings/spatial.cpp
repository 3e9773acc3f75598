// Pools, norms, resizing and padding of arrays with PyTorch's shapes check their arguments and call
// the engine.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <optional>
#include <stdexcept>
#include <tuple>
#include <utility>

#include "bindings/arrays.h"
#include "bindings/gil.h"
#include "engine/conv/pool.h"
#include "engine/conv/resize.h"
#include "engine/product/norms.h"
#include "engine/product/pad.h"
#include "runtime/buffer.h"
#include "runtime/isa.h"

namespace treadle {
namespace {

using Sizes = std::vector<std::int64_t>;

// An AxisTuple is (taps, stride, dilation, padding, ceil_mode) of an axis.
using AxisTuple = std::tuple<std::int64_t, std::int64_t, std::int64_t, std::int64_t, bool>;

PoolAxis parse_axis(const std::string& f, const AxisTuple& axis) {
  const auto [taps, stride, dilation, padding, ceil] = axis;
  check_size(f, "kernel_size", taps, 1);
  check_size(f, "stride", stride, 1);
  check_size(f, "dilation", dilation, 1);
  check_size(f, "padding", padding, 0);
  return {taps, stride, dilation, padding, padding, ceil};
}

PoolKind parse_kind(const std::string& f, const std::string& kind) {
  if (kind == "max") return PoolKind::max;
  if (kind == "average") return PoolKind::average;
  if (kind == "average_with_pad") return PoolKind::average_with_pad;
  throw py::value_error(f + ": kind is '" + kind + "', which is unknown");
}

View<const float> check_images(const std::string& f, const py::object& x) {
  const auto in = check_array<float>(
      f, "x", x, {{"B", kAny}, {"C", kAny}, {"H", kAny}, {"W", kAny}}, Layout::contiguous);
  checked_product(f, {in.shape[0], in.shape[1], in.shape[2], in.shape[3]});
  return in;
}

// Runs the pool that `make` makes.
template <class Make>
py::array_t<float> run_pool(const std::string& f, const View<const float>& in, Sizes shape,
                            Make make) {
  checked_product(f, {shape[0], shape[1], shape[2], shape[3]});
  py::array_t<float> y = new_array(f, std::move(shape));
  float* out = y.mutable_data();
  interruptible([&](Interrupt& interrupt) {
    pool_planes(kernels(), make(), in.shape[0], in.shape[1], in.data, out, interrupt);
  });
  return y;
}

py::array_t<float> pool(const std::string& f, const py::object& x, const std::string& kind_name,
                        const std::array<AxisTuple, 2>& axes, std::int64_t divisor) {
  const View<const float> in = check_images(f, x);
  const PoolKind kind = parse_kind(f, kind_name);
  const PoolAxis vertical = parse_axis(f, axes[0]), horizontal = parse_axis(f, axes[1]);
  check_size(f, "divisor_override", divisor, 0);
  const std::int64_t H = in.shape[2], W = in.shape[3];
  const std::int64_t height = vertical.outputs(H), width = horizontal.outputs(W);
  if (height < 1 || width < 1) {
    throw py::value_error(f + ": x has images of " + std::to_string(H) + " x " + std::to_string(W) +
                          ", expected at least the kernel's size with the padding");
  }
  return run_pool(f, in, {in.shape[0], in.shape[1], height, width}, [&] {
    return Pool::regular(kernels(), kind, vertical, horizontal, H, W, divisor);
  });
}

py::array_t<float> adaptive_pool(const std::string& f, const py::object& x,
                                 const std::string& kind_name, std::int64_t height,
                                 std::int64_t width) {
  const View<const float> in = check_images(f, x);
  const PoolKind kind = parse_kind(f, kind_name);
  check_size(f, "output_size", height, 0);
  check_size(f, "output_size", width, 0);
  const std::int64_t H = in.shape[2], W = in.shape[3];
  if (H < 1 || W < 1) {
    throw py::value_error(f + ": x has images of " + std::to_string(H) + " x " + std::to_string(W) +
                          ", expected at least one pixel");
  }
  if (height != 1 || width != 1) {
    return run_pool(f, in, {in.shape[0], in.shape[1], height, width},
                    [&] { return Pool::adaptive(kernels(), kind, H, W, height, width); });
  }
  py::array_t<float> y = new_array(f, {in.shape[0], in.shape[1], 1, 1});
  float* out = y.mutable_data();
  interruptible([&](Interrupt& interrupt) {
    OwnTeams teams(interrupt);
    pool_rows(kernels(), kind, in.shape[0] * in.shape[1], H * W, in.data, out, ParallelFor(teams));
  });
  return y;
}

NormArgs check_norm(const std::string& f, const py::object& x, const py::object& weight,
                    const py::object& bias) {
  const auto in =
      check_array<float>(f, "x", x, {{"B", kAny}, {"C", kAny}, {"P", kAny}}, Layout::contiguous);
  checked_product(f, {in.shape[0], in.shape[1], std::max<std::int64_t>(in.shape[2], 3)});
  NormArgs a{};
  a.batch = in.shape[0];
  a.channels = in.shape[1];
  a.pixels = in.shape[2];
  a.x = in.data;
  a.weight = optional_array<float>(f, "weight", weight, {{"C", a.channels}});
  a.bias = optional_array<float>(f, "bias", bias, {{"C", a.channels}});
  return a;
}

py::array_t<float> run_group_norm(const std::string& f, const py::object& x, std::int64_t groups,
                                  const py::object& weight, const py::object& bias, float eps) {
  NormArgs a = check_norm(f, x, weight, bias);
  if (groups < 1 || a.channels % groups) {
    throw py::value_error(
        f + ": num_groups is " + std::to_string(groups) +
        ", expected a divisor of the channels, C = " + std::to_string(a.channels));
  }
  py::array_t<float> y = new_array(f, {a.batch, a.channels, a.pixels});
  a.y = y.mutable_data();
  interruptible([&](Interrupt& interrupt) {
    OwnTeams teams(interrupt);
    Buffer scratch = Buffer::uninitialized(group_norm_floats(a));
    group_norm(kernels(), a, groups, eps, scratch.data(), ParallelFor(teams));
  });
  return y;
}

py::array_t<float> run_scale_channels(const std::string& f, const py::object& x,
                                      const py::object& scale, const py::object& shift) {
  if (scale.is_none() || shift.is_none()) throw py::value_error(f + ": scale or shift is None");
  NormArgs a = check_norm(f, x, scale, shift);
  py::array_t<float> y = new_array(f, {a.batch, a.channels, a.pixels});
  a.y = y.mutable_data();
  interruptible([&](Interrupt& interrupt) {
    OwnTeams teams(interrupt);
    scale_channels(kernels(), a, ParallelFor(teams));
  });
  return y;
}

// `mode` is PyTorch's: nearest, nearest-exact, or linear with and without aligned corners.
py::array_t<float> resize(const std::string& f, const py::object& x, const std::string& mode,
                          std::array<std::int64_t, 2> sizes, std::array<double, 2> scales) {
  const auto in =
      check_array<float>(f, "x", x, {{"N", kAny}, {"H", kAny}, {"W", kAny}}, Layout::contiguous);
  const std::int64_t N = in.shape[0], H = in.shape[1], W = in.shape[2];
  const bool exact = mode == "nearest-exact", corners = mode == "linear_aligned";
  if (!exact && !corners && mode != "nearest" && mode != "linear") {
    throw py::value_error(f + ": mode is '" + mode + "', which is unknown");
  }
  for (const std::int64_t size : sizes) check_size(f, "size", size, 0);
  if (H < 1 || W < 1) {
    throw py::value_error(f + ": x has images of " + std::to_string(H) + " x " + std::to_string(W) +
                          ", expected at least one pixel");
  }
  checked_product(f, {N, std::max(H, sizes[0]), std::max(W, sizes[1])});
  const ResizeAxis down{H, sizes[0], scales[0]}, across{W, sizes[1], scales[1]};
  py::array_t<float> y = new_array(f, {N, sizes[0], sizes[1]});
  float* out = y.mutable_data();
  interruptible([&](Interrupt& interrupt) {
    OwnTeams teams(interrupt);
    const ParallelFor parallel_for(teams);
    if (mode == "nearest" || exact) {
      resize_nearest(torch_nearest_pixels(down, exact), torch_nearest_pixels(across, exact), N, H,
                     W, 1, in.data, out, parallel_for);
      return;
    }
    const auto coordinates =
        corners ? ResizeCoordinates::align_corners : ResizeCoordinates::half_pixel;
    const auto rows = linear_taps(down, coordinates), columns = linear_taps(across, coordinates);
    const LinearResize args{N, H, W, 1, rows, columns, in.data, out};
    Buffer scratch = Buffer::uninitialized(args.scratch_floats());
    resize_linear(kernels(), args, scratch.data(), parallel_for);
  });
  return y;
}

py::array_t<float> pad(const std::string& f, const py::object& x, const Sizes& sizes,
                       const std::string& mode, const Sizes& before, const Sizes& after,
                       float value) {
  const auto in = check_array<float>(f, "x", x, {{"n", kAny}}, Layout::contiguous);
  constexpr std::pair<const char*, PadMode> kModes[] = {{"constant", PadMode::constant},
                                                        {"replicate", PadMode::edge},
                                                        {"reflect", PadMode::reflect},
                                                        {"circular", PadMode::wrap}};
  const auto known = std::find_if(std::begin(kModes), std::end(kModes),
                                  [&](const auto& entry) { return mode == entry.first; });
  if (known == std::end(kModes)) {
    throw py::value_error(f + ": mode is '" + mode + "', which is unknown");
  }
  std::int64_t count = 1;
  for (const std::int64_t size : sizes) {
    count = checked_product(f, {count, check_size(f, "x's shape", size, 0)});
  }
  if (count != in.shape[0] || before.size() != sizes.size() || after.size() != sizes.size()) {
    throw py::value_error(f + ": x and the padding do not have the same axes");
  }
  for (const Sizes& side : {before, after}) {
    for (const std::int64_t n : side) {
      if (n < -INT32_MAX || n > INT32_MAX) {
        throw py::value_error(f + ": pad has " + std::to_string(n) + ", expected less than 2**31");
      }
    }
  }
  std::optional<Padding> padding;
  try {
    padding.emplace(known->second, sizes, before, after);
  } catch (const std::invalid_argument& error) {
    throw py::value_error(f + ": " + error.what());
  }
  count = 1;
  for (const std::int64_t size : padding->sizes()) count = checked_product(f, {count, size});
  py::array_t<float> y = new_array(f, padding->sizes());
  float* out = y.mutable_data();
  interruptible([&](Interrupt& interrupt) {
    OwnTeams teams(interrupt);
    padding->run(sizeof(float), in.data, &value, out, ParallelFor(teams));
  });
  return y;
}

}  // namespace

[[gnu::cold]] void register_spatial(py::module_& m) {
  const auto f = py::arg("function"), x = py::arg("x");
  m.def("pool", &pool, f, x, py::arg("kind"), py::arg("axes"), py::arg("divisor") = 0);
  m.def("adaptive_pool", &adaptive_pool, f, x, py::arg("kind"), py::arg("height"),
        py::arg("width"));
  m.def("group_norm", &run_group_norm, f, x, py::arg("groups"), py::arg("weight"), py::arg("bias"),
        py::arg("eps"));
  m.def("scale_channels", &run_scale_channels, f, x, py::arg("scale"), py::arg("shift"));
  m.def("resize", &resize, f, x, py::arg("mode"), py::arg("sizes"), py::arg("scales"));
  m.def("pad", &pad, f, x, py::arg("sizes"), py::arg("mode"), py::arg("before"), py::arg("after"),
        py::arg("value"));
}

}  // namespace treadle

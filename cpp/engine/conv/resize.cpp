#include "engine/conv/resize.h"

#include <algorithm>
#include <cmath>

#include "engine/schedule/task_size.h"

namespace treadle {
namespace {

constexpr double kCopyWork = 3, kBlendWork = 5;

double coordinate(const ResizeAxis& axis, ResizeCoordinates coordinates, std::int64_t i) {
  const double n = static_cast<double>(axis.inputs), m = static_cast<double>(axis.outputs);
  const double scale = axis.scale > 0 ? axis.scale : m / n, at = static_cast<double>(i);
  switch (coordinates) {
    case ResizeCoordinates::half_pixel:
      break;
    case ResizeCoordinates::half_pixel_symmetric:
      return n / 2 * (1 - m / (scale * n)) + (at + 0.5) / scale - 0.5;
    case ResizeCoordinates::pytorch_half_pixel:
      if (axis.outputs == 1) return 0;
      break;
    case ResizeCoordinates::asymmetric:
      return at / scale;
    case ResizeCoordinates::align_corners:
      return axis.outputs == 1 ? 0 : at * (n - 1) / (m - 1);
  }
  return (at + 0.5) / scale - 0.5;
}

double rounded(double x, ResizeRounding rounding) {
  switch (rounding) {
    case ResizeRounding::round_prefer_floor:
      return std::ceil(x - 0.5);
    case ResizeRounding::round_prefer_ceil:
      return std::floor(x + 0.5);
    case ResizeRounding::ceil:
      return std::ceil(x);
    case ResizeRounding::floor:
      break;
  }
  return std::floor(x);
}

// Returns a coordinate that may be anything, as a pixel of x.
std::int64_t pixel(double x, std::int64_t inputs) {
  if (!(x > 0)) return 0;
  return x < static_cast<double>(inputs - 1) ? static_cast<std::int64_t>(x) : inputs - 1;
}

}  // namespace

std::vector<std::int64_t> nearest_pixels(const ResizeAxis& axis, ResizeCoordinates coordinates,
                                         ResizeRounding rounding) {
  std::vector<std::int64_t> pixels(static_cast<std::size_t>(axis.outputs));
  for (std::int64_t i = 0; i < axis.outputs; ++i) {
    const double at = rounded(coordinate(axis, coordinates, i), rounding);
    pixels[static_cast<std::size_t>(i)] = pixel(at, axis.inputs);
  }
  return pixels;
}

std::vector<std::int64_t> torch_nearest_pixels(const ResizeAxis& axis, bool exact) {
  const float step = axis.scale > 0
                         ? static_cast<float>(1 / axis.scale)
                         : static_cast<float>(axis.inputs) / static_cast<float>(axis.outputs);
  std::vector<std::int64_t> pixels(static_cast<std::size_t>(axis.outputs));
  for (std::int64_t i = 0; i < axis.outputs; ++i) {
    const float at = (static_cast<float>(i) + (exact ? 0.5f : 0.0f)) * step;
    pixels[static_cast<std::size_t>(i)] = pixel(std::floor(at), axis.inputs);
  }
  return pixels;
}

std::vector<BlendTap> linear_taps(const ResizeAxis& axis, ResizeCoordinates coordinates) {
  std::vector<BlendTap> taps(static_cast<std::size_t>(axis.outputs));
  for (std::int64_t i = 0; i < axis.outputs; ++i) {
    const double last = static_cast<double>(axis.inputs - 1);
    const double at = std::min(last, std::max(0.0, coordinate(axis, coordinates, i)));
    const std::int64_t from = pixel(at, axis.inputs);
    taps[static_cast<std::size_t>(i)] = {from, std::min(from + 1, axis.inputs - 1),
                                         static_cast<float>(at - static_cast<double>(from))};
  }
  return taps;
}

void resize_nearest(const std::vector<std::int64_t>& rows, const std::vector<std::int64_t>& columns,
                    std::int64_t batch, std::int64_t height, std::int64_t width,
                    std::int64_t channels, const float* x, float* y,
                    const ParallelFor& parallel_for) {
  const auto out_height = static_cast<std::int64_t>(rows.size());
  const std::int64_t floats = static_cast<std::int64_t>(columns.size()) * channels;
  if (floats == 0) return;
  const auto make = [&](std::int64_t i) {
    const std::int64_t row = rows[static_cast<std::size_t>(i % out_height)];
    const float* from = x + (i / out_height * height + row) * width * channels;
    float* to = y + i * floats;
    for (const std::int64_t column : columns) {
      if (channels == 1) {
        *to = from[column];
      } else {
        std::copy_n(from + column * channels, channels, to);
      }
      to += channels;
    }
  };
  for_each_row(batch * out_height, kCopyWork * static_cast<double>(floats), parallel_for, make);
}

void resize_linear(const KernelTable& table, const LinearResize& args, float* scratch,
                   const ParallelFor& parallel_for) {
  const auto height = static_cast<std::int64_t>(args.rows.size());
  const auto width = static_cast<std::int64_t>(args.columns.size());
  const std::int64_t floats = args.width * args.channels, rows = args.batch * height;
  if (rows == 0 || width == 0 || args.channels == 0) return;
  // A row of x is one pixel of so many channels to the first pass.
  const auto blend_rows = [&](std::int64_t i) {
    const float* image = args.x + i / height * args.height * floats;
    const BlendTap& tap = args.rows[static_cast<std::size_t>(i % height)];
    table.blend_pixels({floats, 1, image, &tap, scratch + i * floats});
  };
  for_each_row(rows, kBlendWork * static_cast<double>(floats), parallel_for, blend_rows);
  const auto blend_columns = [&](std::int64_t i) {
    table.blend_pixels({args.channels, width, scratch + i * floats, args.columns.data(),
                        args.y + i * width * args.channels});
  };
  for_each_row(rows, kBlendWork * static_cast<double>(width * args.channels), parallel_for,
               blend_columns);
}

}  // namespace treadle

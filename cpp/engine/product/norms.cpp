#include "engine/product/norms.h"

#include <algorithm>
#include <cmath>

#include "engine/schedule/task_size.h"

namespace treadle {
namespace {

// Numbers take as long as so many multiply-adds: read three times, or once, and written once.
constexpr double kNormWork = 8, kScaleWork = 3;

float scale_of(double squares, double count, float eps) {
  return static_cast<float>(1 / std::sqrt(squares / count + eps));
}

// The three factors of each channel of an image, as scale_rows takes them.
struct Factors {
  float *mean, *scale, *shift;  // [C]

  Factors(float* memory, std::int64_t channels)
      : mean(memory), scale(memory + channels), shift(memory + 2 * channels) {}

  void set(const NormArgs& args, std::int64_t begin, std::int64_t end, float center,
           float factor) const {
    for (std::int64_t c = begin; c < end; ++c) {
      mean[c] = center;
      scale[c] = args.weight ? factor * args.weight[c] : factor;
      shift[c] = args.bias ? args.bias[c] : 0.0f;
    }
  }
};

// A group's numbers lie one behind the other.
void norm_group(const KernelTable& table, const NormArgs& args, std::int64_t image,
                std::int64_t begin, std::int64_t end, float eps, const Factors& factors) {
  const std::int64_t P = args.pixels, n = (end - begin) * P;
  const std::int64_t at = (image * args.channels + begin) * P;
  const double count = static_cast<double>(n);
  const float mean = static_cast<float>(table.row_sum(args.x + at, n, 0, false) / count);
  const double squares = table.row_sum(args.x + at, n, mean, true);
  factors.set(args, begin, end, mean, scale_of(squares, count, eps));
  table.scale_rows({end - begin, P, args.x + at, args.y + at, factors.mean + begin,
                    factors.scale + begin, factors.shift + begin, false});
}

// A channel's numbers lie C apart: sums go down the columns, and those of a group are added.
void norm_image(const KernelTable& table, const NormArgs& args, std::int64_t image,
                std::int64_t groups, float eps, const Factors& factors) {
  const std::int64_t C = args.channels, P = args.pixels, size = C / groups;
  const double count = static_cast<double>(size) * static_cast<double>(P);
  const float* x = args.x + image * P * C;
  float* sums = factors.shift;  // which is set last
  const auto sum_of_group = [&](std::int64_t g) {
    double sum = 0;
    for (std::int64_t c = g * size; c < (g + 1) * size; ++c) sum += static_cast<double>(sums[c]);
    return sum;
  };
  table.column_sums({P, C, x, C, nullptr, sums});
  for (std::int64_t g = 0; g < groups; ++g) {
    const float mean = static_cast<float>(sum_of_group(g) / count);
    std::fill(factors.mean + g * size, factors.mean + (g + 1) * size, mean);
  }
  table.column_sums({P, C, x, C, factors.mean, sums});
  for (std::int64_t g = 0; g < groups; ++g) {
    const float scale = scale_of(sum_of_group(g), count, eps);
    factors.set(args, g * size, (g + 1) * size, factors.mean[g * size], scale);
  }
  table.scale_rows(
      {P, C, x, args.y + image * P * C, factors.mean, factors.scale, factors.shift, true});
}

}  // namespace

std::int64_t group_norm_floats(const NormArgs& args) { return 3 * args.batch * args.channels; }

void group_norm(const KernelTable& table, const NormArgs& args, std::int64_t groups, float eps,
                float* scratch, const ParallelFor& parallel_for) {
  const std::int64_t C = args.channels, P = args.pixels;
  if (args.batch == 0 || C == 0 || P == 0) return;
  const auto factors = [&](std::int64_t image) { return Factors(scratch + 3 * image * C, C); };
  const double work = kNormWork * static_cast<double>(C) * static_cast<double>(P);
  if (args.channels_last) {
    for_each_row(args.batch, work, parallel_for,
                 [&](std::int64_t b) { norm_image(table, args, b, groups, eps, factors(b)); });
    return;
  }
  const std::int64_t size = C / groups;
  for_each_row(args.batch * groups, work / static_cast<double>(groups), parallel_for,
               [&](std::int64_t i) {
                 const std::int64_t b = i / groups, begin = i % groups * size;
                 norm_group(table, args, b, begin, begin + size, eps, factors(b));
               });
}

void scale_channels(const KernelTable& table, const NormArgs& args,
                    const ParallelFor& parallel_for) {
  const std::int64_t C = args.channels, P = args.pixels;
  if (args.batch == 0 || C == 0 || P == 0) return;
  const std::int64_t columns = args.channels_last ? C : P;
  const std::int64_t rows = args.batch * (args.channels_last ? P : C);
  for_each_row(rows, kScaleWork * static_cast<double>(columns), parallel_for,
               [&](std::int64_t row) {
                 const std::int64_t c = args.channels_last ? 0 : row % C, at = row * columns;
                 table.scale_rows({1, columns, args.x + at, args.y + at, nullptr, args.weight + c,
                                   args.bias + c, args.channels_last});
               });
}

}  // namespace treadle

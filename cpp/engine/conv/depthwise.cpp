#include "engine/conv/depthwise.h"

#include <algorithm>
#include <limits>

#include "engine/schedule/task_size.h"

namespace treadle {
namespace {

// Copying a float takes as long as so many multiply-adds.
constexpr double kCopyWork = 3;
// So many floats stay in L1.
constexpr std::int64_t kNearFloats = 6144;

// Tells whether the kernel applies the function of a call, which only clips its numbers.
bool clips(const ConvCall& call) {
  return call.f && !(call.residual && call.residual_first) &&
         (call.f->function == ActivationFunction::relu ||
          call.f->function == ActivationFunction::clip);
}

}  // namespace

Depthwise::Depthwise(const KernelTable& table, const ConvShape& shape, const float* weight,
                     const float* bias)
    : shape_(shape),
      table_(&table),
      weight_stride_((shape.outputs + table.lanes - 1) / table.lanes * table.lanes),
      weights_(shape.taps() * weight_stride_),
      bias_(weight_stride_) {
  const std::int64_t taps = shape.taps();
  for (std::int64_t d = 0; d < shape.outputs; ++d) {
    for (std::int64_t t = 0; t < taps; ++t) {
      weights_.data()[t * weight_stride_ + d] = weight[d * taps + t];
    }
  }
  if (bias) std::copy(bias, bias + shape.outputs, bias_.data());
}

double Depthwise::work(const ConvCall& call) const {
  return static_cast<double>(call.batch) *
         static_cast<double>(shape_.vertical.outputs(call.height)) *
         static_cast<double>(shape_.horizontal.outputs(call.width)) *
         static_cast<double>(shape_.outputs) * static_cast<double>(shape_.taps());
}

std::int64_t Depthwise::scratch_floats(const ConvCall& call) const {
  std::int64_t floats = 0;
  if (shape_.outputs != shape_.inputs) {
    floats += call.batch * call.height * call.width * shape_.outputs;
  }
  if (call.channels_first) {
    floats += call.batch * shape_.vertical.outputs(call.height) *
              shape_.horizontal.outputs(call.width) * shape_.outputs;
  }
  return floats;
}

void Depthwise::run(const ConvCall& call, float* scratch, const ParallelFor& parallel_for) const {
  const std::int64_t height = shape_.vertical.outputs(call.height);
  const std::int64_t width = shape_.horizontal.outputs(call.width), D = shape_.outputs;
  if (call.batch == 0 || height == 0 || width == 0 || D == 0) return;
  const float* x = call.x;
  if (D != shape_.inputs) {
    repeat_channels(call, scratch, parallel_for);
    x = scratch;
    scratch += call.batch * call.height * call.width * D;
  }
  float* const y = call.channels_first ? scratch : call.y;
  const std::int64_t rows = call.batch * height;
  for_each_range(rows, work(call) / static_cast<double>(rows), parallel_for,
                 [&](std::int64_t begin, std::int64_t end) { make_rows(call, x, begin, end, y); });
  if (!call.channels_first) return;
  const std::int64_t pixels = height * width;
  for_each_row(
      call.batch, kCopyWork * static_cast<double>(pixels * D), parallel_for, [&](std::int64_t b) {
        table_->transpose({pixels, D, y + b * pixels * D, D, call.y + b * pixels * D, pixels});
      });
}

void Depthwise::make_rows(const ConvCall& call, const float* x, std::int64_t begin,
                          std::int64_t end, float* y) const {
  const std::int64_t D = shape_.outputs, lanes = table_->lanes;
  // The rows of x that a row of y reads are read again by the next one: of some channels they stay
  // in L1.
  std::int64_t channels = D;
  if (shape_.vertical.taps > 1) {
    const std::int64_t seen = call.width * (shape_.vertical.taps + 1);
    const std::int64_t most = kNearFloats / std::max(seen, std::int64_t{1});
    channels = std::clamp<std::int64_t>(most / lanes * lanes, lanes, std::max(lanes, D));
  }
  for (std::int64_t c = 0; c < D; c += channels) {
    for (std::int64_t row = begin; row < end; ++row) {
      make_row(call, x, row, c, std::min(channels, D - c), y);
    }
  }
  const std::int64_t row_floats = shape_.horizontal.outputs(call.width) * D;
  const std::int64_t at = begin * row_floats, floats = (end - begin) * row_floats;
  const auto apply = [&] {
    if (call.f && !clips(call)) table_->apply(*call.f, y + at, y + at, floats);
  };
  if (!call.residual_first) apply();
  if (call.residual) {
    table_->binary(
        {BinaryFunction::add, 1, floats, {y + at, 0, 1}, {call.residual + at, 0, 1}, y + at});
  }
  if (call.residual_first) apply();
}

void Depthwise::make_row(const ConvCall& call, const float* x, std::int64_t row, std::int64_t c,
                         std::int64_t channels, float* y) const {
  const ConvAxis &down = shape_.vertical, &across = shape_.horizontal;
  const std::int64_t height = down.outputs(call.height), D = shape_.outputs;
  const std::int64_t image = row / height, i = row % height;
  // The taps [begin, end) of the column meet rows of x.
  const std::int64_t first = i * down.stride - down.before;
  const std::int64_t begin =
      first >= 0 ? 0 : std::min(down.taps, (-first + down.dilation - 1) / down.dilation);
  const std::int64_t room = call.height - first;
  const std::int64_t end =
      room <= 0 ? begin : std::clamp((room + down.dilation - 1) / down.dilation, begin, down.taps);
  DepthwiseArgs a{};
  a.channels = channels;
  a.pixel_stride = D;
  a.width = call.width;
  a.outputs = across.outputs(call.width);
  a.bias = bias_.data() + c;
  // Where no tap meets x, the kernel counts from the bias and reads nothing: x may have no address.
  const bool meets = begin < end && call.width > 0;
  a.x = a.bias;
  if (meets) {
    a.x = x + ((image * call.height + first + begin * down.dilation) * call.width * D + c);
  }
  a.tap_rows = meets ? end - begin : 0;
  a.row_stride = down.dilation * call.width * D;
  a.taps = across.taps;
  a.stride = across.stride;
  a.dilation = across.dilation;
  a.before = across.before;
  a.weights = weights_.data() + begin * across.taps * weight_stride_ + c;
  a.weight_stride = weight_stride_;
  a.low = -std::numeric_limits<float>::infinity();
  a.high = std::numeric_limits<float>::infinity();
  if (clips(call)) {
    const bool bounded = call.f->function == ActivationFunction::clip;
    a.low = bounded ? call.f->alpha : 0;
    if (bounded) a.high = call.f->beta;
  }
  a.out = y + row * a.outputs * D + c;
  table_->depthwise_row(a);
}

void Depthwise::repeat_channels(const ConvCall& call, float* repeated,
                                const ParallelFor& parallel_for) const {
  const std::int64_t C = shape_.inputs, D = shape_.outputs;
  const auto repeat = [&](std::int64_t row) {
    const float* x = call.x + row * call.width * C;
    float* to = repeated + row * call.width * D;
    for (std::int64_t i = 0; i < call.width * C; ++i, to += D / C) std::fill_n(to, D / C, x[i]);
  };
  for_each_row(call.batch * call.height, kCopyWork * static_cast<double>(call.width * D),
               parallel_for, repeat);
}

}  // namespace treadle

#include "engine/conv/conv_planes.h"

#include <algorithm>
#include <limits>
#include <vector>

namespace treadle {
namespace {

// Copies of about so many floats are made for a part of the batch, of one image at least.
constexpr std::int64_t kPartFloats = std::int64_t{1} << 20;
// The copy of an image has at most so many floats.
constexpr double kMostFloats = 1 << 24;
// The rows of x that some columns of a line see stay in L1.
constexpr std::int64_t kSeenFloats = 6 << 10;
// A task takes about so many multiply-adds at most, so that Ctrl-C is seen.
constexpr double kTaskWork = 1 << 24;

// Sources are the planes that the product reads: x itself, or a copy with its padding, whose rows
// are parted by the remainder of a column by the stride, so that each tap meets a row.
class Sources {
 public:
  Sources(const ConvShape& shape, const Planes& in, std::int64_t height, std::int64_t width)
      : shape_(shape), in_(in) {
    const ConvAxis &vertical = shape.vertical, &horizontal = shape.horizontal;
    const bool single = shape.taps() == 1;  // pixels that no tap meets are not copied
    step_ = single ? 1 : vertical.stride;
    copies_ = vertical.before > 0 || vertical.after > 0 || horizontal.before > 0 ||
              horizontal.after > 0 || horizontal.stride > 1 || (single && vertical.stride > 1);
    if (!copies_) {
      channel_ = in.channel_stride;
      row_ = in.row_stride;
    } else {
      rows_ = single ? height : (height - 1) * vertical.stride + vertical.span();
      phases_ = std::min(horizontal.stride, horizontal.span());
      columns_ = width + (horizontal.span() - 1) / horizontal.stride;
      row_ = phases_ * columns_;
      channel_ = rows_ * row_;
    }
    // Lines are rows of outputs, or all outputs of a plane where those of x follow each other.
    const bool merges = single && (row_ == width || height == 1);
    lines_ = merges ? 1 : height;
    line_ = merges ? height * width : width;
  }

  std::int64_t lines() const { return lines_; }
  std::int64_t line() const { return line_; }  // pixels of one
  bool copies() const { return copies_; }
  // Return the floats of the copy of an image; the first without overflow.
  double about() const {
    if (!copies_) return 0;
    return static_cast<double>(shape_.inputs) * static_cast<double>(rows_) *
           static_cast<double>(phases_) * static_cast<double>(columns_);
  }
  std::int64_t floats() const { return copies_ ? shape_.inputs * channel_ : 0; }

  // Lists the rows that the terms of a group meet, in the order of the weights.
  std::vector<const float*> rows(const float* copy) const {
    const ConvAxis &vertical = shape_.vertical, &horizontal = shape_.horizontal;
    const float* x = copies_ ? copy : in_.x;
    std::vector<const float*> rows;
    rows.reserve(shape_.taps() * shape_.group_inputs());
    for (std::int64_t p = 0; p < vertical.taps; ++p) {
      for (std::int64_t q = 0; q < horizontal.taps; ++q) {
        const std::int64_t at = q * horizontal.dilation, stride = horizontal.stride;
        const std::int64_t tap =
            p * vertical.dilation * row_ + (copies_ ? at % stride * columns_ + at / stride : at);
        for (std::int64_t c = 0; c < shape_.group_inputs(); ++c) {
          rows.push_back(x + tap + c * channel_);
        }
      }
    }
    return rows;
  }
  // Returns where a line begins in them; `image` counts from that of `rows`.
  std::int64_t offset(std::int64_t image, std::int64_t group, std::int64_t line) const {
    return image * (copies_ ? floats() : in_.image_stride) +
           group * shape_.group_inputs() * channel_ + line * step_ * row_;
  }

  // Copies a channel of an image.
  void copy(std::int64_t image, std::int64_t channel, float* to) const {
    const float* plane = in_.x + image * in_.image_stride + channel * in_.channel_stride;
    const std::int64_t down = shape_.taps() == 1 ? shape_.vertical.stride : 1;
    to += channel * channel_;
    for (std::int64_t r = 0; r < rows_; ++r, to += row_) {
      const std::int64_t i = r * down - shape_.vertical.before;
      if (i < 0 || i >= in_.height) {
        std::fill_n(to, row_, 0.0f);
      } else {
        copy_row(plane + i * in_.row_stride, to);
      }
    }
  }

 private:
  void copy_row(const float* from, float* to) const {
    const std::int64_t stride = shape_.horizontal.stride, before = shape_.horizontal.before;
    for (std::int64_t phase = 0; phase < phases_; ++phase, to += columns_) {
      // Column i of the phase is number i stride + phase - before of the row.
      const std::int64_t first = phase - before;
      const std::int64_t begin =
          std::min(first < 0 ? ceil_div(-first, stride) : std::int64_t{0}, columns_);
      const std::int64_t room = in_.width - first;
      const std::int64_t end =
          room <= 0 ? begin : std::clamp(ceil_div(room, stride), begin, columns_);
      std::fill_n(to, begin, 0.0f);
      // Where no column meets the row, it may have no address.
      const float* x = begin < end ? from + (begin * stride + first) : from;
      if (stride == 1) {
        std::copy_n(x, end - begin, to + begin);
      } else if (stride == 2) {
        for (std::int64_t i = 0; i < end - begin; ++i) to[begin + i] = x[2 * i];
      } else {
        for (std::int64_t i = 0; i < end - begin; ++i) to[begin + i] = x[i * stride];
      }
      std::fill_n(to + end, columns_ - end, 0.0f);
    }
  }

  const ConvShape& shape_;
  const Planes& in_;
  bool copies_;
  std::int64_t step_;           // rows from one line to the next
  std::int64_t channel_, row_;  // floats from one to the next
  std::int64_t lines_, line_;
  std::int64_t rows_ = 0, phases_ = 0, columns_ = 0;  // of a channel of the copy
};

// Tells whether the product over planes is faster.
bool suits(const Conv& conv, const Planes& in, std::int64_t height, std::int64_t width) {
  const ConvShape& shape = conv.shape();
  if (conv.dtype() != Dtype::float32 || conv.block_terms() == 0) return false;
  // More terms of a strip of pixels, or their weights, would not stay near.
  if (shape.taps() * shape.group_inputs() > kSumBlock) return false;
  constexpr std::int64_t kFew = 1 << 24;  // so that what follows does not overflow
  const ConvAxis &vertical = shape.vertical, &horizontal = shape.horizontal;
  if (std::max({height, width, vertical.span(), horizontal.span(), vertical.stride,
                horizontal.stride}) > kFew) {
    return false;
  }
  const Sources sources(shape, in, height, width);
  const std::int64_t lanes = conv.table().lanes, line = sources.line();
  const std::int64_t padded = ceil_div(line, lanes) * lanes;
  return line >= 4 * lanes && 8 * padded <= 9 * line && sources.about() <= kMostFloats;
}

}  // namespace

bool convolve_planes(const Conv& conv, const Planes& in, const Activation* f, float* y,
                     Interrupt& interrupt) {
  const ConvShape& shape = conv.shape();
  const ConvCall call{in.batch, in.height, in.width, in.x, y, f};
  const std::int64_t height = conv.height(call), width = conv.width(call);
  const std::int64_t D = shape.group_outputs(), size = height * width;
  if (in.batch == 0 || size == 0 || shape.outputs == 0) return true;
  if (!suits(conv, in, height, width)) return false;

  const Sources sources(shape, in, height, width);
  const std::int64_t image = sources.floats();
  const std::int64_t most =
      std::clamp(kPartFloats / std::max(image, std::int64_t{1}), std::int64_t{1}, in.batch);
  Buffer copy = Buffer::uninitialized(sources.copies() ? most * image : 0);
  const std::vector<const float*> rows = sources.rows(copy.data());

  PlanesArgs args{};
  args.k = static_cast<std::int64_t>(rows.size());
  args.x = rows.data();
  args.block = conv.block_terms();
  args.low = -std::numeric_limits<float>::infinity();
  args.high = std::numeric_limits<float>::infinity();
  const bool relu = f && f->function == ActivationFunction::relu;
  const bool clip = f && f->function == ActivationFunction::clip;
  if (relu) args.low = 0;
  if (clip) {
    args.low = f->alpha;
    args.high = f->beta;
  }
  args.out_stride = size;
  const bool after = f && !relu && !clip;
  const KernelTable& table = conv.table();

  // Columns are cut into strips, so that the rows of x that a strip sees stay near.
  const std::int64_t unit = std::int64_t{4} * table.lanes;
  const std::int64_t seen = std::max(shape.group_inputs() * shape.vertical.taps, std::int64_t{1});
  const std::int64_t strip = std::max(kSeenFloats / seen / unit, std::int64_t{1}) * unit;
  const std::int64_t strips = ceil_div(sources.line(), strip);
  const std::int64_t each = shape.groups * sources.lines() * strips;  // pieces of an image
  const double work = static_cast<double>(strip) * static_cast<double>(D) * args.k;  // of a piece

  for (std::int64_t first = 0; first < in.batch && !interrupt.stopped(); first += most) {
    const std::int64_t images = std::min(most, in.batch - first), pieces = images * each;
    const std::int64_t base = sources.copies() ? 0 : first;
    const auto multiply = [&](std::int64_t begin, std::int64_t end) {
      const std::int64_t panels = conv.weights(0).panels();
      for (std::int64_t piece = begin; piece < end; ++piece) {
        const std::int64_t column = piece % strips * strip;
        const std::int64_t line = piece / strips % sources.lines();
        const std::int64_t group = piece / strips / sources.lines() % shape.groups;
        const std::int64_t one = piece / each;
        const PackedWeights& packed = conv.weights(group);
        PlanesArgs a = args;
        a.columns = std::min(strip, sources.line() - column);
        a.x_offset = sources.offset(base + one, group, line) + column;
        float* const out =
            y + ((first + one) * shape.outputs + group * D) * size + line * sources.line() + column;
        for (std::int64_t panel = 0; panel < panels; ++panel) {
          const std::int64_t output = panel * packed.vectors() * table.lanes;
          a.weights = packed.weights() + panel * packed.panel_stride();
          a.weight_stride = static_cast<std::int64_t>(packed.vectors_of(panel)) * table.lanes;
          a.outputs = std::min(a.weight_stride, D - output);
          a.bias = conv.bias(group) ? conv.bias(group) + output : nullptr;
          a.out = out + output * size;
          table.planes(a);
          for (std::int64_t d = 0; after && d < a.outputs; ++d) {
            table.apply(*f, a.out + d * size, a.out + d * size, a.columns);
          }
        }
      }
    };
    Team team(conv.work(call) / in.batch * images, interrupt);
    const std::int64_t wanted = team.size() == 1 ? 1 : std::int64_t{4} * team.size();
    const std::int64_t tasks =
        std::clamp(std::max(wanted, static_cast<std::int64_t>(work * pieces / kTaskWork)),
                   std::int64_t{1}, pieces);
    team.run([&](Team::Member& member) {
      if (sources.copies()) {
        const auto lay = [&](std::int64_t i) {
          sources.copy(first + i / shape.inputs, i % shape.inputs,
                       copy.data() + i / shape.inputs * image);
        };
        if (!member.parallel_for(images * shape.inputs, image / shape.inputs, lay)) return;
      }
      member.parallel_for(tasks, work * pieces / tasks, [&](std::int64_t i) {
        multiply(pieces * i / tasks, pieces * (i + 1) / tasks);
      });
    });
  }
  return true;
}

}  // namespace treadle

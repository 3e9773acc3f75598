#include "engine/conv/conv_transpose.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>

namespace treadle {
namespace {

// The taps of one remainder along an axis: last, last - step, ... (`axis.taps` of them).
struct PartAxis {
  ConvAxis axis;
  std::int64_t first;  // the first output
  std::int64_t last, step;
};

// Returns how many outputs of all remainders have taps; there may be more remainders than taps.
std::int64_t parts_of(const ConvAxis& axis) {
  return std::min(axis.stride / std::gcd(axis.stride, axis.dilation), axis.taps);
}

// Returns the outputs that read tap `tap`, the first of theirs. They read their taps from the last
// to the first, so that they read x upwards.
PartAxis part_of(const ConvAxis& axis, std::int64_t tap) {
  const std::int64_t common = std::gcd(axis.stride, axis.dilation);
  PartAxis part{};
  part.step = axis.stride / common;
  part.axis.taps = (axis.taps - 1 - tap) / part.step + 1;
  part.axis.dilation = axis.dilation / common;
  part.last = tap + (part.axis.taps - 1) * part.step;
  const std::int64_t place = (tap * axis.dilation - axis.before) % axis.stride;
  part.first = place < 0 ? place + axis.stride : place;
  part.axis.before = -((part.first + axis.before - part.last * axis.dilation) / axis.stride);
  return part;
}

// The taps of a weight that parts read, in their order: those of the first column's outputs, then
// of the next one's.
class PartWeight {
 public:
  PartWeight(const StoredMatrix& weight, const ConvShape& shape, const PartAxis& vertical,
             const std::vector<PartAxis>& columns)
      : dtype_(weight.dtype) {
    std::int64_t taps = 0;
    for (const PartAxis& horizontal : columns) taps += horizontal.axis.taps;
    const std::int64_t C = shape.group_inputs(), rows = shape.outputs * vertical.axis.taps * taps;
    numbers_ = Buffer::uninitialized(words(dtype_, rows * C));
    if (weight.scales) scales_ = Buffer::uninitialized(rows * sum_blocks(C));
    to_ = reinterpret_cast<char*>(numbers_.data());
    scale_ = scales_.data();
    for (const PartAxis& horizontal : columns) copy(weight, shape, vertical, horizontal);
  }

  StoredMatrix matrix() const { return {dtype_, numbers_.data(), scales_.data()}; }

 private:
  void copy(const StoredMatrix& weight, const ConvShape& shape, const PartAxis& vertical,
            const PartAxis& horizontal) {
    const std::int64_t C = shape.group_inputs(), blocks = sum_blocks(C);
    const std::int64_t number = static_cast<std::int64_t>(sizeof(Word)) / per_word(dtype_);
    for (std::int64_t d = 0; d < shape.outputs; ++d) {
      for (std::int64_t p = 0; p < vertical.axis.taps; ++p) {
        for (std::int64_t q = 0; q < horizontal.axis.taps; ++q) {
          const std::int64_t down = vertical.last - p * vertical.step;
          const std::int64_t across = horizontal.last - q * horizontal.step;
          const std::int64_t row = d * shape.taps() + down * shape.horizontal.taps + across;
          const std::int64_t bytes = C * number;
          std::memcpy(to_, static_cast<const char*>(weight.data) + row * bytes, bytes);
          to_ += bytes;
          if (weight.scales) scale_ = std::copy_n(weight.scales + row * blocks, blocks, scale_);
        }
      }
    }
  }

  Dtype dtype_;
  Buffer numbers_, scales_;
  char* to_;
  float* scale_;
};

// Tells whether a pixel makes `stride` outputs of a row by itself, which follow each other.
bool side_by_side(const ConvShape& shape) {
  const ConvAxis& axis = shape.horizontal;
  return shape.groups == 1 && axis.stride > 1 && axis.taps == axis.stride && axis.dilation == 1 &&
         axis.before == 0;
}

}  // namespace

ConvTranspose::ConvTranspose(const KernelTable& table, const ConvTransposeShape& shape,
                             const StoredMatrix& weight, const float* bias)
    : shape_(shape), table_(&table), dtype_(weight.dtype) {
  single_ = parts_for(weight, bias, false);
  if (side_by_side(shape)) joined_ = parts_for(weight, bias, true);
}

ConvTranspose::Parts ConvTranspose::parts_for(const StoredMatrix& weight, const float* bias,
                                              bool joined) const {
  const ConvAxis &down = shape_.vertical, &right = shape_.horizontal;
  const std::int64_t rows = parts_of(down), columns = parts_of(right);
  std::vector<Part> parts;
  if (rows < down.stride || columns < right.stride) {
    // Some outputs have no taps: all are set to f(bias) before those that have some.
    const ConvShape none{shape_.inputs, shape_.outputs, shape_.groups, {0}, {0}};
    parts.push_back({0, 0, 1, 1, Conv(*table_, none, StoredMatrix(), bias)});
  }
  const std::int64_t together = joined ? columns : 1;
  std::vector<float> biases;
  for (std::int64_t j = 0; bias && j < together; ++j) {
    biases.insert(biases.end(), bias, bias + shape_.outputs);
  }
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < columns; j += together) {
      const PartAxis vertical = part_of(down, i);
      std::vector<PartAxis> across;
      for (std::int64_t q = j; q < j + together; ++q) across.push_back(part_of(right, q));
      const ConvShape own{shape_.inputs, together * shape_.outputs, shape_.groups, vertical.axis,
                          across[0].axis};
      const PartWeight weights(weight, shape_, vertical, across);
      parts.push_back({vertical.first, across[0].first, down.stride, right.stride,
                       Conv(*table_, own, weights.matrix(), bias ? biases.data() : nullptr, true)});
    }
  }
  return std::make_shared<const std::vector<Part>>(std::move(parts));
}

const std::vector<ConvTranspose::Part>& ConvTranspose::parts(const ConvCall& call) const {
  return joined_ && width(call) % shape_.horizontal.stride == 0 ? *joined_ : *single_;
}

std::int64_t ConvTranspose::weight_bytes() const {
  std::int64_t bytes = 0;
  for (const Parts& parts : {single_, joined_}) {
    if (!parts) continue;
    for (const Part& part : *parts) bytes += part.conv.weight_bytes();
  }
  return bytes;
}

double ConvTranspose::work(const ConvCall& call) const {
  return static_cast<double>(call.batch) * call.height * call.width * shape_.taps() *
         shape_.group_inputs() * shape_.outputs;
}

ConvCall ConvTranspose::call_of(const Part& part, const ConvCall& call, ConvTarget& target) const {
  const std::int64_t H = height(call), W = width(call), D = shape_.outputs;
  target = {std::max(ceil_div(H - part.row, part.down), std::int64_t{0}),
            std::max(ceil_div(W - part.column, part.right), std::int64_t{0}), H * W * D,
            part.down * W * D, part.right * D};
  ConvCall own = call;
  if (target.rows == 0 || target.columns == 0) return own;
  own.y += (part.row * W + part.column) * D;
  own.target = &target;
  return own;
}

ConvTranspose::Job ConvTranspose::plan(const ConvCall& call, int threads) const {
  Job job;
  std::int64_t encoded = 0, slot = 0;
  for (const Part& part : parts(call)) {
    ConvTarget target;
    const ConvCall own = call_of(part, call, target);
    if (target.rows == 0 || target.columns == 0) continue;
    job.convs.push_back(&part.conv);
    job.jobs.push_back(part.conv.plan(own, threads));
    encoded = std::max(encoded, job.jobs.back().encoded_floats);
    slot = std::max(slot, job.jobs.back().slot_size);
  }
  for (Conv::Job& part : job.jobs) {
    part.encoded_floats = encoded;
    part.slot_size = slot;
  }
  job.scratch_floats = encoded + TaskSlots::floats(threads, slot);
  return job;
}

void convolve(const ConvTranspose& conv, const ConvCall& call, Interrupt& interrupt) {
  Team team(conv.work(call), interrupt);
  ConvTranspose::Job job = conv.plan(call, team.size());
  Buffer scratch = Buffer::uninitialized(job.scratch_floats);
  job.use(scratch.data());
  team.run([&](Team::Member& member) {
    conv.run([&](std::int64_t tasks, double work,
                 auto&& task) { return member.parallel_for(tasks, work, task); },
             job);
  });
}

}  // namespace treadle

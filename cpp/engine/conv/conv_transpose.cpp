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

// The taps of a weight that a part reads, in its order.
class PartWeight {
 public:
  PartWeight(const StoredMatrix& weight, const ConvShape& shape, const PartAxis& vertical,
             const PartAxis& horizontal)
      : dtype_(weight.dtype) {
    const std::int64_t C = shape.group_inputs(), blocks = sum_blocks(C);
    const std::int64_t number = static_cast<std::int64_t>(sizeof(Word)) / per_word(dtype_);
    const std::int64_t rows = shape.outputs * vertical.axis.taps * horizontal.axis.taps;
    numbers_ = Buffer::uninitialized(words(dtype_, rows * C));
    if (weight.scales) scales_ = Buffer::uninitialized(rows * blocks);
    char* to = reinterpret_cast<char*>(numbers_.data());
    float* scale = scales_.data();
    for (std::int64_t d = 0; d < shape.outputs; ++d) {
      for (std::int64_t p = 0; p < vertical.axis.taps; ++p) {
        for (std::int64_t q = 0; q < horizontal.axis.taps; ++q) {
          const std::int64_t down = vertical.last - p * vertical.step;
          const std::int64_t across = horizontal.last - q * horizontal.step;
          const std::int64_t row = d * shape.taps() + down * shape.horizontal.taps + across;
          const std::int64_t bytes = C * number;
          std::memcpy(to, static_cast<const char*>(weight.data) + row * bytes, bytes);
          to += bytes;
          if (weight.scales) scale = std::copy_n(weight.scales + row * blocks, blocks, scale);
        }
      }
    }
  }

  StoredMatrix matrix() const { return {dtype_, numbers_.data(), scales_.data()}; }

 private:
  Dtype dtype_;
  Buffer numbers_, scales_;
};

}  // namespace

ConvTranspose::ConvTranspose(const KernelTable& table, const ConvTransposeShape& shape,
                             const StoredMatrix& weight, const float* bias)
    : shape_(shape), table_(&table), dtype_(weight.dtype) {
  const std::int64_t rows = parts_of(shape.vertical), columns = parts_of(shape.horizontal);
  std::vector<Part> parts;
  if (rows < shape.vertical.stride || columns < shape.horizontal.stride) {
    // Some outputs have no taps: all are set to f(bias) before those that have some.
    const ConvShape none{shape.inputs, shape.outputs, shape.groups, {0}, {0}};
    parts.push_back({0, 0, 1, 1, Conv(table, none, StoredMatrix(), bias)});
  }
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < columns; ++j) {
      const PartAxis vertical = part_of(shape.vertical, i);
      const PartAxis horizontal = part_of(shape.horizontal, j);
      const ConvShape own{shape.inputs, shape.outputs, shape.groups, vertical.axis,
                          horizontal.axis};
      const PartWeight weights(weight, shape, vertical, horizontal);
      parts.push_back({vertical.first, horizontal.first, shape.vertical.stride,
                       shape.horizontal.stride, Conv(table, own, weights.matrix(), bias, true)});
    }
  }
  parts_ = std::make_shared<const std::vector<Part>>(std::move(parts));
}

std::int64_t ConvTranspose::weight_bytes() const {
  std::int64_t bytes = 0;
  for (const Part& part : *parts_) bytes += part.conv.weight_bytes();
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
  for (const Part& part : *parts_) {
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

#include "engine/conv/channels_first.h"

#include <algorithm>

namespace treadle {
namespace {

// About so many floats are turned for a part of the batch, of one image at least: they stay near.
constexpr std::int64_t kPartFloats = std::int64_t{1} << 20;
constexpr std::int64_t kTurnedPixels = 256;  // that a task turns

// Channels and pixels of an image, in tasks of some pixels each.
struct Turning {
  const KernelTable& table;
  std::int64_t channels, height, width;

  std::int64_t pixels() const { return height * width; }
  std::int64_t tasks() const { return ceil_div(pixels(), kTurnedPixels); }

  // Turns the pixels of a task from planes to channels last.
  void to_last(const Planes& in, std::int64_t image, std::int64_t task, float* to) const {
    const float* x = in.x + image * in.image_stride;
    const std::int64_t end = std::min((task + 1) * kTurnedPixels, pixels());
    for (std::int64_t p = task * kTurnedPixels; p < end;) {
      const bool whole = in.row_stride == width || height == 1;
      const std::int64_t column = p % width,
                         count = whole ? end - p : std::min(end - p, width - column);
      const float* from = x + (whole ? p : p / width * in.row_stride + column);
      table.transpose({channels, count, from, in.channel_stride, to + p * channels, channels});
      p += count;
    }
  }

  // Turns the pixels of a task from channels last to contiguous planes.
  void to_first(const float* from, std::int64_t task, float* to) const {
    const std::int64_t p = task * kTurnedPixels, count = std::min(kTurnedPixels, pixels() - p);
    table.transpose({count, channels, from + p * channels, channels, to + p, pixels()});
  }
};

// Tells whether planes lie as channels last: there is one channel, or one pixel.
bool lie_last(const Planes& in, std::int64_t channels) {
  const bool one = channels == 1 && (in.height == 1 || in.row_stride == in.width);
  const bool pixel = in.height * in.width == 1 && (channels == 1 || in.channel_stride == 1);
  const std::int64_t size = channels * in.height * in.width;
  return (one || pixel) && (in.batch == 1 || in.image_stride == size);
}

// Computes a part of the batch whose results are to be turned by the engine itself, or here.
template <class Engine>
void compute(const Engine& engine, const Planes& in, const Activation* f, float* y,
             Interrupt& interrupt) {
  const ConvShape& shape = engine.shape();
  ConvCall all{in.batch, in.height, in.width, in.x, y, f};
  const std::int64_t height = engine.height(all), width = engine.width(all);
  const Turning inside{engine.table(), shape.inputs, in.height, in.width};
  const Turning outside{engine.table(), shape.outputs, height, width};
  const bool turns = !lie_last(in, shape.inputs), back = !Engine::kTurnsResults;
  const std::int64_t size = shape.inputs * inside.pixels(),
                     result = shape.outputs * outside.pixels();
  if (in.batch == 0 || result == 0) return;
  const std::int64_t most = std::clamp(kPartFloats / std::max({size, result, std::int64_t{1}}),
                                       std::int64_t{1}, in.batch);
  Buffer turned = Buffer::uninitialized(turns ? most * size : 0);
  Buffer results = Buffer::uninitialized(back ? most * result : 0);
  Buffer scratch;
  for (std::int64_t first = 0; first < in.batch && !interrupt.stopped(); first += most) {
    ConvCall call = all;
    call.batch = std::min(most, in.batch - first);
    call.x = turns ? turned.data() : in.x + first * size;
    call.y = back ? results.data() : y + first * result;
    call.channels_first = !back;
    Team team(engine.work(call), interrupt);
    typename Engine::Job job = engine.plan(call, team.size());
    if (scratch.size() < job.scratch_floats) scratch = Buffer::uninitialized(job.scratch_floats);
    job.use(scratch.data());
    team.run([&](Team::Member& member) {
      const auto run = [&](std::int64_t tasks, double work, auto&& task) {
        return member.parallel_for(tasks, work, task);
      };
      if (turns) {
        const std::int64_t tasks = inside.tasks();
        const auto turn = [&](std::int64_t i) {
          inside.to_last(in, first + i / tasks, i % tasks, turned.data() + i / tasks * size);
        };
        if (!run(call.batch * tasks, kTurnedPixels * shape.inputs, turn)) return;
      }
      if (!engine.run(run, job) || !back) return;
      const std::int64_t tasks = outside.tasks();
      run(call.batch * tasks, kTurnedPixels * shape.outputs, [&](std::int64_t i) {
        outside.to_first(results.data() + i / tasks * result, i % tasks,
                         y + (first + i / tasks) * result);
      });
    });
  }
}

}  // namespace

void convolve(const Conv& conv, const Planes& in, const Activation* f, float* y,
              Interrupt& interrupt) {
  if (!convolve_planes(conv, in, f, y, interrupt)) compute(conv, in, f, y, interrupt);
}

void convolve(const ConvTranspose& conv, const Planes& in, const Activation* f, float* y,
              Interrupt& interrupt) {
  compute(conv, in, f, y, interrupt);
}

void convolve(const Depthwise& conv, const ConvCall& call, Interrupt& interrupt) {
  Buffer scratch = Buffer::uninitialized(conv.scratch_floats(call));
  OwnTeams teams(interrupt);
  conv.run(call, scratch.data(), ParallelFor(teams));
}

void convolve(const Depthwise& conv, const Planes& in, const Activation* f, float* y,
              Interrupt& interrupt) {
  const std::int64_t C = conv.shape().inputs, size = in.height * in.width * C;
  ConvCall call{in.batch, in.height, in.width, in.x, y, f};
  const std::int64_t result = conv.height(call) * conv.width(call) * conv.shape().outputs;
  const std::int64_t most = std::clamp(kPartFloats / std::max({size, result, std::int64_t{1}}),
                                       std::int64_t{1}, std::max(in.batch, std::int64_t{1}));
  const Turning inside{conv.table(), C, in.height, in.width};
  Buffer turned = Buffer::uninitialized(most * size);
  OwnTeams teams(interrupt);
  const ParallelFor parallel_for(teams);
  for (std::int64_t first = 0; first < in.batch; first += most) {
    call.batch = std::min(most, in.batch - first);
    call.x = turned.data();
    call.y = y + first * result;
    call.channels_first = true;
    const std::int64_t tasks = inside.tasks();
    parallel_for(call.batch * tasks, kTurnedPixels * C, [&](std::int64_t i) {
      inside.to_last(in, first + i / tasks, i % tasks, turned.data() + i / tasks * size);
    });
    Buffer scratch = Buffer::uninitialized(conv.scratch_floats(call));
    conv.run(call, scratch.data(), parallel_for);
  }
}

}  // namespace treadle

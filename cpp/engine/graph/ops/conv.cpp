// treadle.Conv and treadle.ConvTranspose: convolutions in one or two dimensions, channels last,
// with packed weights.
#include "engine/conv/conv.h"

#include <memory>
#include <optional>
#include <string>
#include <type_traits>

#include "engine/conv/conv_transpose.h"
#include "engine/conv/depthwise.h"
#include "engine/graph/ops/activation.h"
#include "engine/graph/ops/families.h"
#include "engine/graph/ops/windows.h"
#include "engine/product/pad.h"

namespace treadle::graph {
namespace {

// Runs a product's convolution, whose scratch is the call's.
template <class Convolution>
void run(Call& call, const Convolution& conv, const ConvCall& c) {
  const double work = conv.work(c);
  const int threads = Team::threads_for(work);
  typename Convolution::Job job = conv.plan(c, threads);
  job.use(call.scratch_floats(job.scratch_floats));
  if (threads == 1) {
    const auto alone = [&](std::int64_t tasks, double each, auto&& task) {
      for (std::int64_t i = 0; i < tasks; ++i) {
        call.interrupt().progress(each);
        if (call.interrupt().stopped()) return false;
        task(i);
      }
      return true;
    };
    conv.run(alone, job);
  } else {
    call.run_team(work, [&](Team::Member& member) {
      conv.run([&](std::int64_t tasks, double each,
                   auto&& task) { return member.parallel_for(tasks, each, task); },
               job);
    });
  }
  stop_if_interrupted(call);
}

void run(Call& call, const Depthwise& conv, const ConvCall& c) {
  conv.run(c, call.scratch_floats(conv.scratch_floats(c)), ParallelFor(call));
}

// Lets a call read a copy of x with the zeros around it that `same` wants.
void pad(Call& call, AutoPad same, const ConvShape& s, ConvCall& c) {
  const ConvAxis down = padded_same(same, s.vertical, c.height);
  const ConvAxis across = padded_same(same, s.horizontal, c.width);
  const std::int64_t C = s.inputs;
  const std::int64_t height = c.height + down.before + down.after;
  const std::int64_t width = c.width + across.before + across.after;
  float* padded = call.scratch_floats(Shape({c.batch, height, width, C}).count());
  const Padding padding(PadMode::constant, {c.batch, c.height, c.width * C},
                        {0, down.before, across.before * C}, {0, down.after, across.after * C});
  const float zero = 0;
  padding.run(sizeof(float), c.x, &zero, padded, ParallelFor(call));
  c.x = padded;
  c.height = height;
  c.width = width;
}

// Makes the operator of a convolution, whose padding may follow from the size of x.
template <class Convolution>
std::unique_ptr<Operator> make(std::shared_ptr<const Convolution> conv, std::optional<Activation> f,
                               AutoPad auto_pad = AutoPad::none) {
  return make_operator([conv, f, auto_pad](Call& call) {
    const Tensor& x = call.input(0, Type::float32);
    const Shape& in = x.shape;
    const ConvShape& s = conv->shape();
    const int rank = in.rank();
    if ((rank != 3 && rank != 4) || in[rank - 1] != s.inputs) {
      refuse("x has shape " + in.text() +
             ", expected [B, spatial.., C] with C = " + std::to_string(s.inputs));
    }
    if (rank == 3 && s.vertical.taps != 1) refuse("x has one axis, the weight has two");
    for (int i = 1; i < rank - 1; ++i) checked_size("the shape of x", in[i], 1);
    ConvCall c{in[0], rank == 4 ? in[1] : 1, in[rank - 2], x.floats(), nullptr};
    if (is_same(auto_pad)) pad(call, auto_pad, s, c);
    const std::int64_t height = conv->height(c), width = conv->width(c);
    if (height < 1 || width < 1) {
      refuse("x has shape " + in.text() + ", and the taps reach over more than that");
    }
    const Shape out =
        rank == 4 ? Shape({in[0], height, width, s.outputs}) : Shape({in[0], width, s.outputs});
    if (call.has(1)) {
      const Tensor& residual = call.input(1, Type::float32);
      if (residual.shape != out) refuse("the residual has shape " + residual.shape.text());
      c.residual = residual.floats();
    }
    c.residual_first = true;
    // Depthwise adds a residual behind the function.
    const bool f_last = f && c.residual && std::is_same_v<Convolution, Depthwise>;
    c.f = f && !f_last ? &*f : nullptr;
    c.y = call.output(0, Type::float32, out).floats();
    if (out.count() == 0) return;
    run(call, *conv, c);
    if (f_last) apply(call, *f, c.y, c.y, out.count());
  });
}

std::unique_ptr<Operator> make_conv(const NodeDescription& node) {
  const std::optional<Activation> f = activation_of(node);
  const AutoPad auto_pad = auto_pad_of(node);
  if (node.has("depthwise")) return make(node.native<Depthwise>("depthwise"), f, auto_pad);
  return make(node.native<Conv>("conv"), f, auto_pad);
}

std::unique_ptr<Operator> make_transposed(const NodeDescription& node) {
  return make(node.native<ConvTranspose>("transposed"), activation_of(node));
}

}  // namespace

void list_conv(OperatorTable& table) {
  table["treadle.Conv"] = make_conv;
  table["treadle.ConvTranspose"] = make_transposed;
}

}  // namespace treadle::graph

// LSTM back: d is the gradient of h = o h(c), slopes of activations have a prime.
//
//     dc = (carry of the next step) + d o h'(c)            carry to the step before: dc f
//     da_i = dc g i'    da_f = dc c_old f'    da_g = dc i g'    da_o = d h(c) o'
//
// The cells with tanh or relu have saved their gates after activation and take the slopes from
// them; any other has saved what enters the activations. A peephole brings its gate's gradient to
// the c that it saw.
#pragma once

#include "kernels/backward.h"
#include "kernels/derivative.h"

namespace treadle::TREADLE_ISA {
namespace {

template <LstmKind Kind>
struct LstmBackward {
  static constexpr int kParts = 4;
  // The slope of the function whose value is y. A NaN has the slope 1 of PyTorch's relu.
  static TREADLE_INLINE Vec slope(Vec y) {
    const Vec one = broadcast(1.0f);
    return Kind == LstmKind::relu ? (y <= Vec{} ? Vec{} : one) : one - y * y;
  }
  static TREADLE_INLINE void units(const BackwardUnits& u, Vec d) {
    const BackwardArgs& a = u.a;
    const Vec one = broadcast(1.0f), i = u.read(a.saved), f = u.read(a.saved, 1),
              g = u.read(a.saved, 2), o = u.read(a.saved, 3), c = u.read(a.c);
    const Vec h = Kind == LstmKind::relu ? max(Vec{}, c) : tanh(c);
    const Vec dc = fma(d * o, slope(h), u.read(a.dc));
    if (a.hidden) u.write(a.hidden, o * h);
    u.write(a.out, dc * g * (i * (one - i)));
    u.write(a.out, dc * u.read(a.old) * (f * (one - f)), 1);
    u.write(a.out, dc * i * slope(g), 2);
    u.write(a.out, d * h * (o * (one - o)), 3);
    u.write(a.dc, dc * f);
  }
};

struct LstmBackwardGeneral {
  static constexpr int kParts = 4;
  static void units(const BackwardUnits& u, Vec d) {
    const BackwardArgs& a = u.a;
    const CellOptions& options = *a.options;
    const auto value = [&](const Activation& f, Vec x) {
      return activate(f, clip(options.clip, x));
    };
    const auto backward = [&](const Activation& f, Vec x, Vec grad) {
      return through(f, options.clip, x, grad);
    };
    const Vec x_i = u.read(a.saved), x_f = u.read(a.saved, 1), x_g = u.read(a.saved, 2),
              x_o = u.read(a.saved, 3), c = u.read(a.c), old = u.read(a.old);
    const Vec i = value(options.f, x_i), g = value(options.g, x_g), o = value(options.f, x_o);
    const Vec f = options.input_forget ? broadcast(1.0f) - i : value(options.f, x_f);
    const Vec h = activate(options.h, c);
    if (a.hidden) u.write(a.hidden, o * h);
    const float* peephole =
        options.peepholes ? options.peepholes + u.unit / kLanes * 3 * kLanes : nullptr;
    const Vec d_o = backward(options.f, x_o, d * h);
    Vec dc = fma(d * o, derivative(options.h, c), u.read(a.dc));
    if (peephole) dc = fma(d_o, load(peephole + 2 * kLanes), dc);
    const Vec d_f = options.input_forget ? Vec{} : backward(options.f, x_f, dc * old);
    const Vec d_i = backward(options.f, x_i, dc * (options.input_forget ? g - old : g));
    u.write(a.out, d_i);
    u.write(a.out, d_f, 1);
    u.write(a.out, backward(options.g, x_g, dc * i), 2);
    u.write(a.out, d_o, 3);
    dc = dc * f;
    if (peephole) dc = fma(d_i, load(peephole), fma(d_f, load(peephole + kLanes), dc));
    u.write(a.dc, dc);
  }
};

void lstm_backward(const BackwardArgs& a) {
  switch (lstm_kind(*a.options)) {
    case LstmKind::tanh:
      return backward_step<LstmBackward<LstmKind::tanh>>(a);
    case LstmKind::relu:
      return backward_step<LstmBackward<LstmKind::relu>>(a);
    case LstmKind::general:
      return backward_step<LstmBackwardGeneral>(a);
  }
}

}  // namespace
}  // namespace treadle::TREADLE_ISA

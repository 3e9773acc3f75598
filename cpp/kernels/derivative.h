// Derivatives of the activations by value, of x before the activation. Where a function has a
// corner the side is PyTorch's, as is the slope at NaN.
#pragma once

#include "kernels/activation.h"

namespace treadle::TREADLE_ISA {
namespace {

__attribute__((noinline)) Vec derivative(const Activation& a, Vec x) {
  const Vec zero{}, one = broadcast(1.0f), alpha = broadcast(a.alpha), beta = broadcast(a.beta);
  switch (a.function) {
    case ActivationFunction::tanh: {
      const Vec y = tanh(x);
      return one - y * y;
    }
    case ActivationFunction::sigmoid: {
      const Vec y = sigmoid(x);
      return y * (one - y);
    }
    case ActivationFunction::relu:
      return x <= zero ? zero : one;
    case ActivationFunction::hard_sigmoid: {
      const Vec y = fma(alpha, x, beta);
      return ((y <= zero) | (y >= one)) ? zero : alpha;
    }
    case ActivationFunction::softsign: {
      const Vec d = one + abs(x);
      return one / (d * d);
    }
    case ActivationFunction::softplus:
      return sigmoid(x);
    case ActivationFunction::elu:
      return x > zero ? one : alpha * exp(x);
    case ActivationFunction::leaky_relu:
      return x > zero ? one : alpha;
    case ActivationFunction::affine:
      return alpha;
    case ActivationFunction::thresholded_relu:
      return x <= alpha ? zero : one;
    case ActivationFunction::scaled_tanh: {
      const Vec y = tanh(beta * x);
      return alpha * beta * (one - y * y);
    }
    case ActivationFunction::exp:
      return exp(x);
    case ActivationFunction::log1p:
      return one / (one + x);
    case ActivationFunction::erf:
      return broadcast(0x1.20dd76p+0f) * exp(-x * x);  // 2 / sqrt(pi)
    case ActivationFunction::gelu: {
      // Phi(x) + x Phi'(x); 1 / sqrt(2) and 1 / sqrt(2 pi)
      const Vec phi = fma(broadcast(0.5f), erf(x * broadcast(0x1.6a09e6p-1f)), broadcast(0.5f));
      return fma(x * broadcast(0x1.988454p-2f), exp(broadcast(-0.5f) * x * x), phi);
    }
    case ActivationFunction::gelu_tanh: {
      // x s(v) with v = 2 sqrt(2 / pi) (x + 0.044715 x^3); beyond 100 it is 0 or 1 long since
      const Vec y = clamp(broadcast(-100.0f), broadcast(100.0f), x), square = y * y;
      const Vec two = broadcast(0x1.988454p0f);
      const Vec s = sigmoid(two * fma(broadcast(0.044715f) * square, y, y));
      const Vec slope = two * fma(broadcast(0.134145f), square, one);
      return fma(y * slope * s, one - s, s);
    }
    case ActivationFunction::silu: {
      const Vec s = sigmoid(x);
      return fma(x * s, one - s, s);
    }
    case ActivationFunction::hard_swish: {
      const Vec middle = fma(broadcast(0x1.555556p-2f), x, broadcast(0.5f));  // 1 / 3
      return x <= broadcast(-3.0f) ? zero : (x >= broadcast(3.0f) ? one : middle);
    }
    case ActivationFunction::clip:
      return ((x <= alpha) | (x >= beta)) ? zero : one;
    case ActivationFunction::linear:
      break;
  }
  return one;
}

// d f(clip(x)) / dx for the gradient d of the result.
TREADLE_INLINE Vec through(const Activation& f, float limit, Vec x, Vec d) {
  const Vec inside = d * derivative(f, clip(limit, x));
  return limit > 0 ? (abs(x) > broadcast(limit) ? Vec{} : inside) : inside;
}

}  // namespace
}  // namespace treadle::TREADLE_ISA

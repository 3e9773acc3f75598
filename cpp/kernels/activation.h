// The activations by their runtime names, for linear and for cells whose
// activations are not tanh and sigmoid.
#pragma once

#include "kernels/table.h"
#include "simd/math.h"

namespace treadle::TREADLE_ISA {
namespace {

// Calls use(f), where f is the function of Vec that `a` names.
template <class Use>
TREADLE_INLINE auto with_function(const Activation& a, Use use) {
  const Vec zero{}, one = broadcast(1.0f), alpha = broadcast(a.alpha), beta = broadcast(a.beta);
  switch (a.function) {
    case ActivationFunction::tanh:
      return use([](Vec x) { return tanh(x); });
    case ActivationFunction::sigmoid:
      return use([](Vec x) { return sigmoid(x); });
    case ActivationFunction::relu:
      return use([=](Vec x) { return max(zero, x); });
    case ActivationFunction::hard_sigmoid:
      return use([=](Vec x) { return clamp(zero, one, fma(alpha, x, beta)); });
    case ActivationFunction::softsign:
      return use([=](Vec x) { return x / (one + abs(x)); });
    case ActivationFunction::softplus:
      return use([](Vec x) { return softplus(x); });
    case ActivationFunction::elu:
      return use([=](Vec x) { return x >= zero ? x : alpha * expm1(x); });
    case ActivationFunction::leaky_relu:
      return use([=](Vec x) { return x >= zero ? x : alpha * x; });
    case ActivationFunction::affine:
      return use([=](Vec x) { return fma(alpha, x, beta); });
    case ActivationFunction::thresholded_relu:
      return use([=](Vec x) { return x <= alpha ? zero : x; });
    case ActivationFunction::scaled_tanh:
      return use([=](Vec x) { return alpha * tanh(beta * x); });
    case ActivationFunction::exp:
      return use([](Vec x) { return exp(x); });
    case ActivationFunction::log1p:
      return use([](Vec x) { return log1p_unit(x); });
    case ActivationFunction::erf:
      return use([](Vec x) { return erf(x); });
    case ActivationFunction::gelu:
      return use([](Vec x) { return gelu(x); });
    case ActivationFunction::gelu_tanh:
      return use([](Vec x) { return gelu_tanh(x); });
    case ActivationFunction::silu:
      return use([](Vec x) { return silu(x); });
    case ActivationFunction::hard_swish:
      return use([=](Vec x) { return hard_swish(x); });
    case ActivationFunction::clip:
      return use([=](Vec x) { return clamp(alpha, beta, x); });
    case ActivationFunction::linear:
      break;
  }
  return use([](Vec x) { return x; });
}

// Not inlined: a cell calls it up to five times per vector, and the usual cell never does.
__attribute__((noinline)) Vec activate(const Activation& a, Vec x) {
  return with_function(a, [&](auto f) { return f(x); });
}

// max returns a NaN in its second argument, so a NaN pre-activation stays NaN.
TREADLE_INLINE Vec clip(float limit, Vec x) {
  return limit > 0 ? clamp(broadcast(-limit), broadcast(limit), x) : x;
}

void apply(Activation a, const float* x, float* y, std::int64_t n) {
  with_function(a, [&](auto f) {
    std::int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) store(y + i, f(load(x + i)));
    if (i < n) {
      const int left = static_cast<int>(n - i);
      store_partial(y + i, f(load_partial(x + i, left)), left);
    }
  });
}

}  // namespace
}  // namespace treadle::TREADLE_ISA

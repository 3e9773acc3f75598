// Activations by value, for linear, and for cells that ask for others than
// tanh and sigmoid.
#pragma once

#include "kernels/table.h"
#include "simd/math.h"

namespace weft::WEFT_ISA {
namespace {

// Not inlined: a cell calls it up to five times per vector, and the usual cell never does.
__attribute__((noinline)) Vec activate(const Activation& a, Vec x) {
  const Vec zero{}, one = broadcast(1.0f), alpha = broadcast(a.alpha), beta = broadcast(a.beta);
  switch (a.function) {
    case Function::linear:
      return x;
    case Function::tanh:
      return tanh(x);
    case Function::sigmoid:
      return sigmoid(x);
    case Function::relu:
      return max(zero, x);
    case Function::hard_sigmoid:
      return clamp(zero, one, fma(alpha, x, beta));
    case Function::softsign:
      return x / (one + abs(x));
    case Function::softplus:
      return softplus(x);
    case Function::elu:
      return x >= zero ? x : alpha * expm1(x);
    case Function::leaky_relu:
      return x >= zero ? x : alpha * x;
    case Function::affine:
      return fma(alpha, x, beta);
    case Function::thresholded_relu:
      return x <= alpha ? zero : x;
    case Function::scaled_tanh:
      return alpha * tanh(beta * x);
    case Function::exp:
      return exp(x);
    case Function::log1p:
      return log1p_unit(x);
    case Function::erf:
      return erf(x);
    case Function::gelu:
      return gelu(x);
    case Function::gelu_tanh:
      return gelu_tanh(x);
    case Function::silu:
      return silu(x);
  }
  return x;
}

// max with the NaN second keeps it: a NaN pre-activation stays one.
WEFT_INLINE Vec clip(float limit, Vec x) {
  return limit > 0 ? clamp(broadcast(-limit), broadcast(limit), x) : x;
}

void apply(Activation a, const float* x, float* y, std::int64_t n) {
  for (std::int64_t i = 0; i < n; i += kLanes) {
    store_up_to(y + i, activate(a, load_up_to(x + i, n - i)), n - i);
  }
}

}  // namespace
}  // namespace weft::WEFT_ISA

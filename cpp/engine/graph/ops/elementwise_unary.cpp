// Functions of single numbers, in float32 (with the kernels, where there is one) and in float64.
#include <cmath>
#include <string>

#include "engine/graph/ops/elementwise.h"
#include "runtime/isa.h"

namespace treadle::graph {
namespace {

// A function of a chunk of at most kChunk floats, which may read and write the same memory.
struct Parameters {
  const KernelTable* table;
  double alpha, beta;

  Activation activation(ActivationFunction f) const {
    return {f, static_cast<float>(alpha), static_cast<float>(beta)};
  }
};
using FloatChunk = void (*)(const Parameters&, const float* x, float* y, std::int64_t n);
// This is the same function of one number in float64; null where there is none.
using Double = double (*)(double x, double alpha, double beta);

// Runs both forms on input 0.
void run_function(Call& call, const Parameters& parameters, FloatChunk floats, Double one) {
  const Tensor& x = call.input(0);
  const Type type = x.type;
  if (type != Type::float32 && (type != Type::float64 || !one)) wrong_dtype(type);
  const Shape shape = x.shape;
  Tensor& y = call.output_over(0, 0, shape);
  if (type == Type::float32) {
    const float* from = x.floats();
    float* to = y.floats();
    return chunks(call, shape.count(), 10, [&](std::int64_t begin, std::int64_t n) {
      floats(parameters, from + begin, to + begin, n);
    });
  }
  const double* from = x.as<double>();
  double* to = y.as<double>();
  chunks(call, shape.count(), 500, [&](std::int64_t begin, std::int64_t n) {
    for (std::int64_t i = begin; i < begin + n; ++i) {
      to[i] = one(from[i], parameters.alpha, parameters.beta);
    }
  });
}

// Makes the operator of a function whose parameters have these names and defaults.
std::unique_ptr<Operator> make_function(FloatChunk floats, Double one, double alpha = 0,
                                        double beta = 0) {
  const Parameters parameters{&kernels(), alpha, beta};
  return make_operator([=](Call& call) { run_function(call, parameters, floats, one); });
}

template <UnaryFunction f>
void by_unary(const Parameters& p, const float* x, float* y, std::int64_t n) {
  p.table->unary(f, x, y, n);
}

template <ActivationFunction f>
void by_activation(const Parameters& p, const float* x, float* y, std::int64_t n) {
  p.table->apply(p.activation(f), x, y, n);
}

// Applies a function of the C library to each number.
template <float (*f)(float)>
void by_library(const Parameters&, const float* x, float* y, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) y[i] = f(x[i]);
}

template <double (*f)(double)>
double of_library(double x, double, double) {
  return f(x);
}

template <float (*f)(float), double (*g)(double)>
std::unique_ptr<Operator> make_library(const NodeDescription&) {
  return make_function(by_library<f>, of_library<g>);
}

template <UnaryFunction f, double (*g)(double)>
std::unique_ptr<Operator> make_kernel(const NodeDescription&) {
  return make_function(by_unary<f>, of_library<g>);
}

template <ActivationFunction f, double (*g)(double)>
std::unique_ptr<Operator> make_activation(const NodeDescription&) {
  return make_function(by_activation<f>, of_library<g>);
}

double reciprocal(double x) { return 1 / x; }
double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double silu(double x) { return x / (1 + std::exp(-x)); }
double softplus(double x) { return std::fmax(x, 0) + std::log1p(std::exp(-std::fabs(x))); }
double softsign(double x) { return x / (1 + std::fabs(x)); }
double gelu(double x) { return x / 2 * (1 + std::erf(x * std::sqrt(0.5))); }
double gelu_tanh(double x) {
  constexpr double kPi = 3.141592653589793;
  return x / 2 * (1 + std::tanh(std::sqrt(2 / kPi) * (x + 0.044715 * x * x * x)));
}

std::unique_ptr<Operator> make_leaky_relu(const NodeDescription& node) {
  return make_function(
      by_activation<ActivationFunction::leaky_relu>,
      [](double x, double alpha, double) { return x >= 0 ? x : alpha * x; },
      node.number("alpha", 0.01));
}

std::unique_ptr<Operator> make_elu(const NodeDescription& node) {
  return make_function(
      by_activation<ActivationFunction::elu>,
      [](double x, double alpha, double) { return x >= 0 ? x : alpha * std::expm1(x); },
      node.number("alpha", 1));
}

std::unique_ptr<Operator> make_thresholded_relu(const NodeDescription& node) {
  return make_function(
      by_activation<ActivationFunction::thresholded_relu>,
      [](double x, double alpha, double) { return x <= alpha ? 0 : x; }, node.number("alpha", 1));
}

std::unique_ptr<Operator> make_hard_sigmoid(const NodeDescription& node) {
  return make_function(
      by_activation<ActivationFunction::hard_sigmoid>,
      [](double x, double alpha, double beta) {
        return std::fmax(0.0, std::fmin(1.0, alpha * x + beta));
      },
      node.number("alpha", 0.2), node.number("beta", 0.5));
}

// y = x g(x), where g has written to y's place in a buffer of the stack.
template <FloatChunk g>
void times_itself(const Parameters& p, const float* x, float* y, std::int64_t n) {
  float factor[kChunk] = {};
  g(p, x, factor, n);
  for (std::int64_t i = 0; i < n; ++i) y[i] = x[i] * factor[i];
}

// HardSwish: x max(0, min(1, alpha x + beta)), with ONNX's alpha = 1/6 and beta = 1/2.
std::unique_ptr<Operator> make_hard_swish(const NodeDescription& node) {
  const double alpha = node.number("alpha", 1.0 / 6), beta = node.number("beta", 0.5);
  const bool usual = static_cast<float>(alpha) == 1.0f / 6 && beta == 0.5;
  return make_function(
      usual ? by_activation<ActivationFunction::hard_swish>
            : times_itself<by_activation<ActivationFunction::hard_sigmoid>>,
      [](double x, double a, double b) { return x * std::fmax(0.0, std::fmin(1.0, a * x + b)); },
      alpha, beta);
}

std::unique_ptr<Operator> make_gelu(const NodeDescription& node) {
  const std::string approximate = node.text("approximate", "none");
  if (approximate == "none") {
    return make_activation<ActivationFunction::gelu, gelu>(node);
  }
  if (approximate != "tanh") refuse("attribute approximate is " + approximate);
  return make_activation<ActivationFunction::gelu_tanh, gelu_tanh>(node);
}

void scaled_sigmoid(const Parameters& p, const float* x, float* y, std::int64_t n) {
  const auto alpha = static_cast<float>(p.alpha);
  for (std::int64_t i = 0; i < n; ++i) y[i] = alpha * x[i];
  p.table->apply({ActivationFunction::sigmoid, 0, 0}, y, y, n);
}

// Swish: x sigmoid(alpha x).
std::unique_ptr<Operator> make_swish(const NodeDescription& node) {
  const double alpha = node.number("alpha", 1);
  if (alpha == 1) return make_activation<ActivationFunction::silu, silu>(node);
  return make_function(
      times_itself<scaled_sigmoid>,
      [](double x, double a, double) { return x / (1 + std::exp(-a * x)); }, alpha);
}

void tanh_of_softplus(const Parameters& p, const float* x, float* y, std::int64_t n) {
  p.table->apply({ActivationFunction::softplus, 0, 0}, x, y, n);
  p.table->apply({ActivationFunction::tanh, 0, 0}, y, y, n);
}

// Mish: x tanh(softplus(x)).
std::unique_ptr<Operator> make_mish(const NodeDescription&) {
  return make_function(times_itself<tanh_of_softplus>,
                       [](double x, double, double) { return x * std::tanh(softplus(x)); });
}

// Selu: beta (x > 0 ? x : alpha (e^x - 1)), where ONNX calls beta gamma.
std::unique_ptr<Operator> make_selu(const NodeDescription& node) {
  const FloatChunk floats = [](const Parameters& p, const float* x, float* y, std::int64_t n) {
    p.table->apply(p.activation(ActivationFunction::elu), x, y, n);
    const auto gamma = static_cast<float>(p.beta);
    for (std::int64_t i = 0; i < n; ++i) y[i] *= gamma;
  };
  const Double one = [](double x, double alpha, double gamma) {
    return gamma * (x > 0 ? x : alpha * std::expm1(x));
  };
  return make_function(floats, one, node.number("alpha", 1.67326319217681884765625),
                       node.number("gamma", 1.05070102214813232421875));
}

// Celu: max(0, x) + min(0, alpha (e^(x / alpha) - 1)).
std::unique_ptr<Operator> make_celu(const NodeDescription& node) {
  const FloatChunk floats = [](const Parameters& p, const float* x, float* y, std::int64_t n) {
    float below[kChunk] = {};
    const auto alpha = static_cast<float>(p.alpha);
    for (std::int64_t i = 0; i < n; ++i) below[i] = x[i] / alpha;
    p.table->apply({ActivationFunction::elu, 1, 0}, below, below, n);
    for (std::int64_t i = 0; i < n; ++i) {
      const float other = alpha * below[i];
      y[i] = (x[i] < 0 ? 0 : x[i]) + (other > 0 ? 0 : other);
    }
  };
  const Double one = [](double x, double alpha, double) {
    return std::fmax(0.0, x) + std::fmin(0.0, alpha * std::expm1(x / alpha));
  };
  return make_function(floats, one, node.number("alpha", 1));
}

// Shrink: x + bias below -lambd, x - bias above lambd, 0 between.
std::unique_ptr<Operator> make_shrink(const NodeDescription& node) {
  const FloatChunk floats = [](const Parameters& p, const float* x, float* y, std::int64_t n) {
    const auto bias = static_cast<float>(p.alpha), lambd = static_cast<float>(p.beta);
    for (std::int64_t i = 0; i < n; ++i) {
      y[i] = x[i] < -lambd ? x[i] + bias : x[i] > lambd ? x[i] - bias : 0;
    }
  };
  const Double one = [](double x, double bias, double lambd) {
    return x < -lambd ? x + bias : x > lambd ? x - bias : 0;
  };
  return make_function(floats, one, node.number("bias", 0), node.number("lambd", 0.5));
}

}  // namespace

void list_functions(OperatorTable& table) {
  using F = ActivationFunction;
  using U = UnaryFunction;
  table["Sqrt"] = make_kernel<U::sqrt, std::sqrt>;
  table["Reciprocal"] = make_kernel<U::reciprocal, reciprocal>;
  table["Floor"] = make_kernel<U::floor, std::floor>;
  table["Ceil"] = make_kernel<U::ceil, std::ceil>;
  table["Round"] = make_kernel<U::round, std::rint>;
  table["Log"] = make_kernel<U::log, std::log>;
  table["Exp"] = make_activation<F::exp, std::exp>;
  table["Erf"] = make_activation<F::erf, std::erf>;
  table["Sigmoid"] = make_activation<F::sigmoid, sigmoid>;
  table["Tanh"] = make_activation<F::tanh, std::tanh>;
  table["Softplus"] = make_activation<F::softplus, softplus>;
  table["Softsign"] = make_activation<F::softsign, softsign>;
  table["Sin"] = make_library<std::sin, std::sin>;
  table["Cos"] = make_library<std::cos, std::cos>;
  table["Tan"] = make_library<std::tan, std::tan>;
  table["Asin"] = make_library<std::asin, std::asin>;
  table["Acos"] = make_library<std::acos, std::acos>;
  table["Atan"] = make_library<std::atan, std::atan>;
  table["Sinh"] = make_library<std::sinh, std::sinh>;
  table["Cosh"] = make_library<std::cosh, std::cosh>;
  table["Asinh"] = make_library<std::asinh, std::asinh>;
  table["Acosh"] = make_library<std::acosh, std::acosh>;
  table["Atanh"] = make_library<std::atanh, std::atanh>;
  table["LeakyRelu"] = make_leaky_relu;
  table["Elu"] = make_elu;
  table["Selu"] = make_selu;
  table["Celu"] = make_celu;
  table["ThresholdedRelu"] = make_thresholded_relu;
  table["HardSigmoid"] = make_hard_sigmoid;
  table["HardSwish"] = make_hard_swish;
  table["treadle.HardSwish"] = make_hard_swish;
  table["treadle.Silu"] = make_activation<F::silu, silu>;
  table["Swish"] = make_swish;
  table["Mish"] = make_mish;
  table["Gelu"] = make_gelu;
  table["Shrink"] = make_shrink;
}

}  // namespace treadle::graph

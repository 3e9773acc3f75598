// treadle.DynamicQuantizeLSTM: an LSTM with int8 or uint8 weights, as ONNX Runtime's operator of
// that name (com.microsoft) computes it on one thread.
//
// The arrays that products read, X once and h of all rows in every step, are rounded to 256 levels
// between their least and their largest number (0 included), so that rows of a batch share a scale
// and their results depend on each other:
//
//     scale = (max - min) / 255,   zero = round(-min / scale),   code = round(a / scale) + zero
//     product [n] = sum over k of (code[k] - zero) (w[k, n] - w_zero[n]),   times scale w_scale[n]
//
// Sums of integers are made in float32, which is exact below 2^24.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "engine/graph/ops/activation.h"
#include "engine/graph/ops/families.h"
#include "engine/product/linear.h"
#include "runtime/isa.h"

namespace treadle::graph {
namespace {

// Inputs of the node.
enum Input { kX, kW, kR, kB, kLengths, kH0, kC0, kPeepholes, kWScale, kWZero, kRScale, kRZero };

// A product with quantised weights: the integers, packed, and what turns sums into numbers.
struct QuantizedProduct {
  Linear integers;
  std::vector<float> scales;  // of every output
};

struct QuantizedDirection {
  QuantizedProduct w, r;
  std::vector<float> bias;  // [4 H], both biases added
};

const Tensor& constant(const NodeDescription& node, int i, const char* name) {
  const Tensor* value = node.constant(static_cast<std::size_t>(i));
  if (!value) refuse(std::string(name) + " must be a constant");
  return *value;
}

// Element i of a tensor of int8 or uint8.
float code_at(const Tensor& t, std::int64_t i) {
  return t.type == Type::int8 ? static_cast<float>(t.as<std::int8_t>()[i])
                              : static_cast<float>(t.as<std::uint8_t>()[i]);
}

// Packs direction d of weights [D, K, N]; scales and zero points are [D] or [D, N].
QuantizedProduct pack(const Tensor& weights, const Tensor& scale, const Tensor* zero,
                      std::int64_t d) {
  const std::int64_t D = weights.shape[0], K = weights.shape[1], N = weights.shape[2];
  const bool each = scale.count() == D * N && N != 1;
  if (scale.type != Type::float32 || scale.count() != (each ? D * N : D)) {
    refuse("a scale has shape " + scale.shape.text() + ", expected [D] or [D, 4 H] in float32");
  }
  if (zero && (zero->type != weights.type || zero->count() != scale.count())) {
    refuse("a zero point has shape " + zero->shape.text() + ", expected that of its scale");
  }
  QuantizedProduct product;
  product.scales.resize(static_cast<std::size_t>(N));
  std::vector<float> zeros(static_cast<std::size_t>(N)), numbers(static_cast<std::size_t>(K * N));
  for (std::int64_t n = 0; n < N; ++n) {
    const std::int64_t at = each ? d * N + n : d;
    product.scales[n] = scale.floats()[at];
    zeros[n] = zero ? code_at(*zero, at) : 0.0f;
  }
  for (std::int64_t k = 0; k < K; ++k) {
    for (std::int64_t n = 0; n < N; ++n) {
      numbers[k * N + n] = code_at(weights, (d * K + k) * N + n) - zeros[n];
    }
  }
  const KernelTable& table = kernels();
  product.integers = Linear(
      table, N, PackedWeights::transposed(N, {{StoredMatrix(numbers.data()), K}}, table.lanes));
  return product;
}

// codes[i] = code of a[i] without the zero point; returns the scale.
float quantize(const float* a, std::int64_t n, float* codes) {
  float least = 0, most = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    least = std::min(least, a[i]);
    most = std::max(most, a[i]);
  }
  const float scale = most == least ? 1.0f : (most - least) / 255.0f;
  const float zero = std::clamp(std::nearbyint(-least / scale), 0.0f, 255.0f);
  for (std::int64_t i = 0; i < n; ++i) {
    codes[i] = std::clamp(std::nearbyint(a[i] / scale) + zero, 0.0f, 255.0f) - zero;
  }
  return scale;
}

// out [M, N] = the product of the rows a [M, K]; `codes` has room for a.
void multiply(Call& call, const QuantizedProduct& product, std::int64_t M, const float* a,
              float* codes, float* out) {
  const std::int64_t N = product.integers.outputs(), K = product.integers.inputs();
  const float scale = quantize(a, M * K, codes);
  treadle::product(product.integers, M, codes, K, nullptr, nullptr, out, call.interrupt());
  stop_if_interrupted(call);
  for (std::int64_t m = 0; m < M; ++m) {
    for (std::int64_t n = 0; n < N; ++n) out[m * N + n] *= scale * product.scales[n];
  }
}

// The gates of one step, [B, 4 H] in the order i, o, f, c, become the new c and h.
void step(Call& call, std::int64_t B, std::int64_t H, float* gates, float* c, float* h) {
  static constexpr Activation kSigmoid{ActivationFunction::sigmoid, 0, 0};
  static constexpr Activation kTanh{ActivationFunction::tanh, 0, 0};
  for (std::int64_t b = 0; b < B; ++b) {
    float* row = gates + b * 4 * H;
    apply(call, kSigmoid, row, row, 3 * H);
    apply(call, kTanh, row + 3 * H, row + 3 * H, H);
    const float *i = row, *o = row + H, *f = row + 2 * H, *g = row + 3 * H;
    for (std::int64_t u = b * H, j = 0; j < H; ++j, ++u) c[u] = f[j] * c[u] + i[j] * g[j];
    apply(call, kTanh, c + b * H, h + b * H, H);
    for (std::int64_t u = b * H, j = 0; j < H; ++j, ++u) h[u] *= o[j];
  }
}

// A state [D, B, H] is copied to `to`, or zeros where the node has none.
void start(const Call& call, int i, const Shape& shape, std::int64_t d, float* to) {
  const std::int64_t n = shape[1] * shape[2];
  if (!call.has(i)) {
    std::fill(to, to + n, 0.0f);
    return;
  }
  const Tensor& value = call.input(i, Type::float32);
  if (value.shape != shape) refuse("a state has shape " + value.shape.text());
  std::copy(value.floats() + d * n, value.floats() + (d + 1) * n, to);
}

struct QuantizedNet {
  std::vector<QuantizedDirection> directions;
  std::int64_t I, H;
  bool reverse;                           // of the only direction
  bool has_bias, has_w_zero, has_r_zero;  // as constants
};

void run_net(Call& call, const QuantizedNet& net) {
  const Tensor& x = call.input(kX, Type::float32, 3);
  const std::int64_t T = x.shape[0], B = x.shape[1], H = net.H, G = 4 * H;
  const std::int64_t D = static_cast<std::int64_t>(net.directions.size());
  if (x.shape[2] != net.I) {
    refuse("X has shape " + x.shape.text() + ", expected a last axis of " + std::to_string(net.I));
  }
  if (call.has(kLengths)) {
    for (const std::int64_t length : call.integers(kLengths, std::max<std::int64_t>(B, 1))) {
      if (length != T) refuse("sequence_lens below T are not supported");
    }
  }
  Shape({T, B, std::max(G, net.I)});  // throws where it overflows
  float* y = call.output(0, Type::float32, {T, D, B, H}).floats();
  float* h_n = call.output(1, Type::float32, {D, B, H}).floats();
  float* c_n = call.output(2, Type::float32, {D, B, H}).floats();
  float* sums = call.scratch_floats(T * B * G);
  float* gates = call.scratch_floats(B * G);
  float* codes = call.scratch_floats(std::max(T * B * net.I, B * H));
  for (std::int64_t d = 0; d < D; ++d) {
    const QuantizedDirection& direction = net.directions[d];
    float *h = h_n + d * B * H, *c = c_n + d * B * H;
    start(call, kH0, {D, B, H}, d, h);
    start(call, kC0, {D, B, H}, d, c);
    multiply(call, direction.w, T * B, x.floats(), codes, sums);
    for (std::int64_t number = 0; number < T; ++number) {
      const std::int64_t t = d == 1 || net.reverse ? T - 1 - number : number;
      multiply(call, direction.r, B, h, codes, gates);
      const float* from_x = sums + t * B * G;
      for (std::int64_t b = 0; b < B; ++b) {
        float* row = gates + b * G;
        for (std::int64_t n = 0; n < G; ++n)
          row[n] = from_x[b * G + n] + row[n] + direction.bias[n];
      }
      step(call, B, H, gates, c, h);
      std::copy(h, h + B * H, y + (t * D + d) * B * H);
    }
  }
}

void check_defaults(const NodeDescription& node, std::int64_t D) {
  static const char* const kDefaults[] = {"Sigmoid", "Tanh", "Tanh"};
  if (node.has("activations")) {
    const std::vector<std::string> names = node.texts("activations");
    bool same = names.size() == static_cast<std::size_t>(3 * D);
    for (std::size_t i = 0; i < names.size(); ++i) same = same && names[i] == kDefaults[i % 3];
    if (!same) refuse("activations other than Sigmoid, Tanh, Tanh are not supported");
  }
  if (node.number("clip", 0) != 0) refuse("clip is not supported");
  if (node.integer("input_forget", 0) != 0) refuse("input_forget is not supported");
}

std::unique_ptr<Operator> make_quantized_lstm(const NodeDescription& node) {
  const Tensor &W = constant(node, kW, "W"), &R = constant(node, kR, "R");
  const std::string direction = node.text("direction", "forward");
  const std::int64_t D = direction == "bidirectional" ? 2 : 1;
  if (D == 1 && direction != "forward" && direction != "reverse") {
    refuse("direction is '" + direction + "'");
  }
  for (const Tensor* weights : {&W, &R}) {
    if ((weights->type != Type::int8 && weights->type != Type::uint8) ||
        weights->shape.rank() != 3 || weights->shape[0] != D || weights->shape.count() == 0) {
      refuse("weights of shape " + weights->shape.text() + ", expected [D, K, 4 H] in 8 bits");
    }
  }
  auto net = std::make_shared<QuantizedNet>();
  net->I = W.shape[1];
  net->H = R.shape[1];
  net->reverse = direction == "reverse";
  if (net->H > INT32_MAX || net->I > INT32_MAX || W.shape[2] != 4 * net->H ||
      R.shape[2] != 4 * net->H || node.integer("hidden_size", net->H) != net->H) {
    refuse("W is " + W.shape.text() + " and R is " + R.shape.text() +
           ", expected [D, I, 4 H] and [D, H, 4 H]");
  }
  check_defaults(node, D);
  const Tensor* bias = node.constant(kB);
  if (bias && (bias->type != Type::float32 || bias->shape != Shape({D, 8 * net->H}))) {
    refuse("B has shape " + bias->shape.text() + ", expected [D, 8 H]");
  }
  const std::int64_t G = 4 * net->H;
  for (std::int64_t d = 0; d < D; ++d) {
    QuantizedDirection one;
    one.w = pack(W, constant(node, kWScale, "W_scale"), node.constant(kWZero), d);
    one.r = pack(R, constant(node, kRScale, "R_scale"), node.constant(kRZero), d);
    one.bias.assign(static_cast<std::size_t>(G), 0.0f);
    for (std::int64_t n = 0; bias && n < G; ++n) {
      one.bias[n] = bias->floats()[2 * d * G + n] + bias->floats()[(2 * d + 1) * G + n];
    }
    net->directions.push_back(std::move(one));
  }
  net->has_bias = bias != nullptr;
  net->has_w_zero = node.constant(kWZero) != nullptr;
  net->has_r_zero = node.constant(kRZero) != nullptr;
  return make_operator([net](Call& call) {
    if (call.has(kPeepholes)) refuse("peepholes are not supported");
    if (call.has(kB) != net->has_bias || call.has(kWZero) != net->has_w_zero ||
        call.has(kRZero) != net->has_r_zero) {
      refuse("the bias and zero points must be constants");
    }
    run_net(call, *net);
  });
}

}  // namespace

void list_quantized_lstm(OperatorTable& table) {
  table["treadle.DynamicQuantizeLSTM"] = make_quantized_lstm;
}

}  // namespace treadle::graph

// Recurrent nets: a stack that was packed once (treadle.Recurrent), and ONNX's RNN, GRU and LSTM
// with weights that are values, which are packed in every call.
#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "engine/graph/ops/activation.h"
#include "engine/graph/ops/families.h"
#include "engine/product/activation_name.h"
#include "engine/recurrent/stack.h"
#include "runtime/isa.h"

namespace treadle::graph {
namespace {

// Places say which of the node's inputs the values of a net are; -1: the node has none.
struct Places {
  int h_0, c_0, lengths;
  int mask = -1;
  bool repeats = false;    // a state of one row is that of all rows
  bool continued = false;  // masked steps at the beginning repeat the first state
};

// Returns the lengths [B], checked against T. ONNX's are int32.
std::vector<std::int64_t> checked_lengths(const Call& call, int i, std::int64_t B, std::int64_t T) {
  std::vector<std::int64_t> lengths = call.integers(i, std::max<std::int64_t>(B, 1));
  if (static_cast<std::int64_t>(lengths.size()) != B) {
    refuse("lengths has " + std::to_string(lengths.size()) +
           " numbers, expected B = " + std::to_string(B));
  }
  for (const std::int64_t length : lengths) {
    if (length < 0 || length > T) {
      refuse("a length is " + std::to_string(length) + ", expected 0 to T = " + std::to_string(T));
    }
  }
  lengths.resize(lengths.size() + 1);  // data() of an empty vector would mean that there are none
  return lengths;
}

// Returns a copy of the mask [B, T], since threads read it one by one and it may be the caller's.
const std::uint8_t* checked_mask(Call& call, int i, std::int64_t B, std::int64_t T) {
  const Tensor& value = call.input(i, Type::boolean);
  if (value.shape != Shape({B, T})) {
    refuse("the mask has shape " + value.shape.text() +
           ", expected [B, T] = " + Shape({B, T}).text());
  }
  const auto* from = reinterpret_cast<const std::uint8_t*>(value.data);
  auto* to = reinterpret_cast<std::uint8_t*>(call.scratch(std::max<std::int64_t>(B * T, 1)));
  std::copy_n(from, B * T, to);
  return to;
}

// Returns a value with its axis `axis` of size B: as it is, or repeated where it has size 1. The
// copy is the call's.
Tensor repeated(Call& call, const Tensor& value, int axis, std::int64_t B) {
  if (value.shape[axis] == B || value.shape[axis] != 1) return value;
  Tensor wide = value;
  wide.shape = value.shape.with(axis, B);
  const std::int64_t outer = value.shape.count(0, axis);
  const std::int64_t inner = value.shape.count(axis + 1, value.shape.rank());
  float* to = call.scratch_floats(wide.count());
  wide.data = reinterpret_cast<char*>(to);
  for (std::int64_t o = 0; o < outer; ++o) {
    for (std::int64_t b = 0; b < B; ++b, to += inner) {
      std::copy_n(value.floats() + o * inner, inner, to);
    }
  }
  return wide;
}

// A state's place, checked to be [L D, B, size], or null where the node has none.
const float* state(Call& call, int i, const Shape& shape, bool repeats) {
  if (i < 0 || !call.has(i)) return nullptr;
  Tensor value = call.input(i, Type::float32);
  if (repeats && value.shape.rank() == 3) value = repeated(call, value, 1, shape[1]);
  if (value.shape != shape) {
    refuse("a state has shape " + value.shape.text() + ", expected " + shape.text());
  }
  return value.floats();
}

// The outputs of a run, in the stack's own layout.
struct Results {
  float *y, *h_n, *c_n;
};

// Runs a stack over x. All shapes but those of the states have been checked.
void run_stack(Call& call, const RecurrentStack& stack, const Tensor& x, bool batch_first,
               const Places& places, Results out) {
  const CellShape& cell = stack.cell(0).shape();
  RunArgs args{};
  SequenceArgs& in = args.in;
  const int t = batch_first ? 1 : 0, b = 1 - t;
  in.T = x.shape[t];
  in.B = x.shape[b];
  in.x = x.floats();
  const std::int64_t I = x.shape[2], O = stack.output_size();
  in.x_t = batch_first ? I : in.B * I;
  in.x_b = batch_first ? in.T * I : I;
  const std::int64_t states = stack.layers() * stack.directions();
  in.h_0 = state(call, places.h_0, {states, in.B, cell.state_size()}, places.repeats);
  if (cell.mode == Mode::lstm) {
    in.c_0 = state(call, places.c_0, {states, in.B, cell.hidden_size}, places.repeats);
  }
  std::vector<std::int64_t> lengths;
  if (places.lengths >= 0 && call.has(places.lengths)) {
    lengths = checked_lengths(call, places.lengths, in.B, in.T);
    in.lengths = lengths.data();
  }
  if (places.mask >= 0 && call.has(places.mask)) {
    if (in.lengths) refuse("lengths and a mask are both given, expected one of them");
    in.mask = checked_mask(call, places.mask, in.B, in.T);
    in.continued = places.continued;
  }
  Shape({in.T, in.B, std::max(O, stack.cell(0).input_sums())});  // throws where it overflows
  args.y = out.y;
  args.y_t = batch_first ? O : in.B * O;
  args.y_b = batch_first ? in.T * O : O;
  args.h_n = out.h_n;
  args.c_n = out.c_n;
  stack.run(args, call.interrupt());
  stop_if_interrupted(call);
}

std::unique_ptr<Operator> make_recurrent(const NodeDescription& node) {
  const auto stack = node.native<RecurrentStack>("recurrent");
  const bool batch_first = node.integer("batch_first", 0) != 0;
  const bool repeats = node.integer("broadcast", 0) != 0;
  const bool continued = node.integer("continued", 0) != 0;
  return make_operator([stack, batch_first, repeats, continued](Call& call) {
    Tensor x = call.input(0, Type::float32, 3);
    const CellShape& cell = stack->cell(0).shape();
    if (x.shape[2] != cell.input_size) {
      refuse("x has shape " + x.shape.text() + ", expected a last axis of " +
             std::to_string(cell.input_size));
    }
    const int b = batch_first ? 0 : 1;
    if (repeats) {
      std::int64_t rows = x.shape[b];
      for (int i = 1; i <= 2; ++i) {
        if (rows == 1 && call.has(i)) rows = call.input(i, Type::float32, 3).shape[1];
      }
      x = repeated(call, x, b, rows);
    }
    const std::int64_t B = x.shape[b];
    const std::int64_t states = stack->layers() * stack->directions();
    const bool lstm = cell.mode == Mode::lstm;
    if (call.wants(2) && !lstm) refuse("only an LSTM has a third output");
    Results out{};
    out.y = call.output(0, Type::float32, x.shape.with(2, stack->output_size())).floats();
    out.h_n = call.output(1, Type::float32, {states, B, cell.state_size()}).floats();
    if (lstm) out.c_n = call.scratch_floats(states * B * cell.hidden_size);
    if (lstm && call.wants(2)) {
      out.c_n = call.output(2, Type::float32, {states, B, cell.hidden_size}).floats();
    }
    run_stack(call, *stack, x, batch_first, {1, 2, 3, 4, repeats, continued}, out);
  });
}

// ONNX's attributes of RNN, GRU and LSTM (https://onnx.ai/onnx/operators/onnx__LSTM.html).
struct OnnxCell {
  Mode mode;
  std::int64_t hidden_size;  // 0: that of R
  std::string direction;
  bool batch_first, reset_after;
  CellOptions options[2];  // of each direction
};

// ONNX orders the gates i, o, f, c and z, r, h; the engine's are i, f, g, o and r, z, n. Entry g
// says which gate of ONNX's is the engine's gate g.
const int* gate_order(Mode mode) {
  static constexpr int kRnn[] = {0}, kLstm[] = {0, 2, 3, 1}, kGru[] = {1, 0, 2};
  return mode == Mode::rnn ? kRnn : mode == Mode::lstm ? kLstm : kGru;
}

// The defaults of alpha and beta that ONNX gives an activation.
Activation onnx_activation(const std::string& name, const std::vector<double>& alphas,
                           const std::vector<double>& betas, std::size_t& alpha,
                           std::size_t& beta) {
  struct Known {
    const char* name;
    const char* ours;
    double alpha, beta;
    int parameters;
  };
  static constexpr Known kKnown[] = {{"relu", "relu", 0, 0, 0},
                                     {"tanh", "tanh", 0, 0, 0},
                                     {"sigmoid", "sigmoid", 0, 0, 0},
                                     {"affine", "affine", 1, 0, 2},
                                     {"leakyrelu", "leaky_relu", 0.01, 0, 1},
                                     {"thresholdedrelu", "thresholded_relu", 1, 0, 1},
                                     {"scaledtanh", "scaled_tanh", 1, 1, 2},
                                     {"hardsigmoid", "hard_sigmoid", 0.2, 0.5, 2},
                                     {"elu", "elu", 1, 0, 1},
                                     {"softsign", "softsign", 0, 0, 0},
                                     {"softplus", "softplus", 0, 0, 0}};
  std::string lower = name;
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) {
    return static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  });
  for (const Known& known : kKnown) {
    if (lower != known.name) continue;
    Activation f{*activation_named(known.ours), static_cast<float>(known.alpha),
                 static_cast<float>(known.beta)};
    if (known.parameters > 0 && alpha < alphas.size())
      f.alpha = static_cast<float>(alphas[alpha++]);
    if (known.parameters > 1 && beta < betas.size()) f.beta = static_cast<float>(betas[beta++]);
    return f;
  }
  refuse("activation is '" + name + "', which is unknown");
}

OnnxCell read_cell(const NodeDescription& node, Mode mode) {
  OnnxCell cell{};
  cell.mode = mode;
  cell.hidden_size = node.integer("hidden_size", 0);
  cell.direction = node.text("direction", "forward");
  cell.batch_first = node.integer("layout", 0) != 0;
  cell.reset_after = node.integer("linear_before_reset", 0) != 0;
  if (cell.direction != "forward" && cell.direction != "reverse" &&
      cell.direction != "bidirectional") {
    refuse("direction is '" + cell.direction + "'");
  }
  const int directions = cell.direction == "bidirectional" ? 2 : 1;
  const int each = mode == Mode::rnn ? 1 : mode == Mode::lstm ? 3 : 2;
  std::vector<std::string> names;
  if (node.has("activations")) names = node.texts("activations");
  if (names.empty()) {
    const char* defaults[] = {"sigmoid", "tanh", "tanh"};
    for (int d = 0; d < directions; ++d) {
      for (int i = 0; i < each; ++i) names.push_back(mode == Mode::rnn ? "tanh" : defaults[i]);
    }
  }
  if (static_cast<int>(names.size()) != directions * each) {
    refuse("activations has " + std::to_string(names.size()) + " names, expected " +
           std::to_string(directions * each));
  }
  const auto alphas = node.numbers("activation_alpha", {}),
             betas = node.numbers("activation_beta", {});
  std::size_t alpha = 0, beta = 0;
  for (int d = 0; d < directions; ++d) {
    CellOptions& options = cell.options[d];
    Activation found[3]{};
    for (int i = 0; i < each; ++i) {
      found[i] = onnx_activation(names[d * each + i], alphas, betas, alpha, beta);
    }
    const Activation identity{ActivationFunction::linear, 0, 0};
    options.f = mode == Mode::rnn ? identity : found[0];
    options.g = mode == Mode::rnn ? found[0] : found[1];
    options.h = mode == Mode::lstm ? found[2] : identity;
    options.clip = static_cast<float>(node.number("clip", 0));
    options.input_forget = node.integer("input_forget", 0) != 0;
  }
  return cell;
}

// Copies the gates of ONNX's array [G, size] to `to` in the engine's order.
void order_gates(Mode mode, const float* from, std::int64_t size, float* to) {
  const int* order = gate_order(mode);
  for (int g = 0; g < gate_count(mode); ++g) {
    std::copy(from + order[g] * size, from + (order[g] + 1) * size, to + g * size);
  }
}

// Input i as an array of floats of a shape, or null where it is absent.
const float* weights(const Call& call, int i, const Shape& shape) {
  if (!call.has(i)) return nullptr;
  const Tensor& value = call.input(i, Type::float32);
  if (value.shape != shape) {
    refuse("input " + std::to_string(i) + " has shape " + value.shape.text() + ", expected " +
           shape.text());
  }
  return value.floats();
}

// Packs the net that the node's inputs W, R, B and P describe.
RecurrentStack pack_cell(Call& call, const OnnxCell& cell, std::int64_t I) {
  const Tensor& recurrent = call.input(2, Type::float32, 3);
  const std::int64_t D = cell.direction == "bidirectional" ? 2 : 1, G = gate_count(cell.mode);
  const std::int64_t H = recurrent.shape[2];
  if (H < 1 || H > INT32_MAX || I < 1 || I > INT32_MAX) refuse("a size of the weights is 0");
  if (cell.hidden_size && cell.hidden_size != H) refuse("hidden_size is not that of R");
  const float* W = weights(call, 1, {D, G * H, I});
  const float* R = weights(call, 2, {D, G * H, H});
  const float* B = weights(call, 3, {D, 2 * G * H});
  const float* P = cell.mode == Mode::lstm ? weights(call, 7, {D, 3 * H}) : nullptr;
  if (!W) refuse("W is missing");
  std::vector<Cell> cells;
  for (std::int64_t d = 0; d < D; ++d) {
    CellWeights arrays{};
    float* w = call.scratch_floats(G * H * I);
    float* r = call.scratch_floats(G * H * H);
    order_gates(cell.mode, W + d * G * H * I, H * I, w);
    order_gates(cell.mode, R + d * G * H * H, H * H, r);
    arrays.weight_ih = w;
    arrays.weight_hh = r;
    if (B) {
      float* b = call.scratch_floats(2 * G * H);
      order_gates(cell.mode, B + d * 2 * G * H, H, b);
      order_gates(cell.mode, B + d * 2 * G * H + G * H, H, b + G * H);
      arrays.bias_ih = b;
      arrays.bias_hh = b + G * H;
    }
    if (P) arrays.peepholes = P + d * 3 * H;
    const CellShape shape{cell.mode, I, H, 0, cell.reset_after};
    cells.emplace_back(kernels(), shape, arrays, cell.options[d]);
  }
  const Direction direction = D == 2                        ? Direction::bidirectional
                              : cell.direction == "reverse" ? Direction::reverse
                                                            : Direction::forward;
  return RecurrentStack(direction, std::move(cells));
}

// Copies rows between [outer, a, b, size] and [outer, b, a, size].
void exchange(const float* from, std::int64_t a, std::int64_t b, std::int64_t size, float* to) {
  for (std::int64_t i = 0; i < a; ++i) {
    for (std::int64_t j = 0; j < b; ++j) {
      const float* row = from + (i * b + j) * size;
      std::copy(row, row + size, to + (j * a + i) * size);
    }
  }
}

// The values of a call of ONNX's operator in its two layouts: 0 has X [T, B, I], Y [T, D, B, H] and
// states [D, B, H]; 1 has X [B, T, I], Y [B, T, D, H] and states [B, D, H].
void run_onnx(Call& call, const OnnxCell& cell) {
  const Tensor& x = call.input(0, Type::float32, 3);
  const bool first = cell.batch_first;
  const std::int64_t T = x.shape[first ? 1 : 0], B = x.shape[first ? 0 : 1];
  const RecurrentStack stack = pack_cell(call, cell, x.shape[2]);
  const std::int64_t D = stack.directions(), H = stack.cell(0).shape().hidden_size;
  const bool lstm = cell.mode == Mode::lstm;
  if (!first) {
    Results out{};
    float* rows = nullptr;  // [T, B, D H]; with one direction this is Y itself
    Tensor& y = call.output(0, Type::float32, {T, D, B, H});
    rows = D == 1 ? y.floats() : call.scratch_floats(T * B * D * H);
    out.y = rows;
    out.h_n = call.output(1, Type::float32, {D, B, H}).floats();
    out.c_n = lstm ? call.output(2, Type::float32, {D, B, H}).floats() : nullptr;
    run_stack(call, stack, x, false, {5, lstm ? 6 : -1, 4}, out);
    if (D == 1) return;
    for (std::int64_t t = 0; t < T; ++t) {
      exchange(rows + t * B * D * H, B, D, H, y.floats() + t * B * D * H);
    }
    return;
  }
  // States are turned to the engine's layout and back; Y lies as the engine writes it.
  Results out{};
  out.y = call.output(0, Type::float32, {B, T, D, H}).floats();
  float* h_n = call.scratch_floats(D * B * H);
  float* c_n = call.scratch_floats(D * B * H);
  out.h_n = h_n;
  out.c_n = lstm ? c_n : nullptr;
  Tensor turned[2];
  const Tensor* inputs[5] = {&x, nullptr, nullptr, nullptr, nullptr};
  for (int i = 0; i < (lstm ? 2 : 1); ++i) {
    if (!call.has(5 + i)) continue;
    const Tensor& given = call.input(5 + i, Type::float32, 3);
    if (given.shape != Shape({B, D, H})) refuse("a state has shape " + given.shape.text());
    turned[i] = Tensor{Type::float32, Shape({D, B, H}), nullptr, nullptr};
    turned[i].data = call.scratch(turned[i].bytes());
    exchange(given.floats(), B, D, H, turned[i].floats());
    inputs[1 + i] = &turned[i];
  }
  if (call.has(4)) inputs[3] = &call.input(4);
  Call inner(call.execution(), inputs, 5, nullptr, 0, 0);
  run_stack(inner, stack, x, true, {1, lstm ? 2 : -1, 3}, out);
  exchange(h_n, D, B, H, call.output(1, Type::float32, {B, D, H}).floats());
  if (lstm) exchange(c_n, D, B, H, call.output(2, Type::float32, {B, D, H}).floats());
}

template <Mode mode>
std::unique_ptr<Operator> make_onnx(const NodeDescription& node) {
  const OnnxCell cell = read_cell(node, mode);
  return make_operator([cell](Call& call) { run_onnx(call, cell); });
}

}  // namespace

void list_recurrent(OperatorTable& table) {
  table["treadle.Recurrent"] = make_recurrent;
  table["RNN"] = make_onnx<Mode::rnn>;
  table["GRU"] = make_onnx<Mode::gru>;
  table["LSTM"] = make_onnx<Mode::lstm>;
}

}  // namespace treadle::graph

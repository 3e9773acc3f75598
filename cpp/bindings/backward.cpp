// RecurrentStack.backward checks its arguments and calls engine/recurrent/backward.
#include "engine/recurrent/backward.h"

#include <pybind11/stl.h>

#include <array>
#include <cstring>

#include "bindings/checked_inputs.h"
#include "bindings/gil.h"
#include "bindings/recurrent.h"
#include "runtime/aligned_memory.h"

namespace treadle {
namespace {

using Object = py::object;

// The results of the forward pass, and their gradients, for all directions. The arrays of
// the dict `grads` are kept alive.
struct Results {
  View<const float> y, dy;  // [T, B, D * state_size] or [B, T, ...]; dy without data: zero
  const float *saved, *dh_n, *dc_n;
  std::int64_t saved_size;
  bool recompute;                    // follows from the number of saved floats
  std::array<py::object, 3> owners;  // of dy, dh_n and dc_n
};

Results check_results(const BoundRecurrent& net, const CheckedInputs& inputs, const Object& y,
                      const Object& saved, const py::dict& grads) {
  const std::string& f = net.function;
  const CellShape& shape = net.shape();
  const std::int64_t T = inputs.args.T, B = inputs.args.B;
  const std::int64_t least = net.saved_size(true);  // refuses several layers
  net.check_backward();
  const Axis first{inputs.batch_first ? "B" : "T", inputs.shape[0]};
  const Axis second{inputs.batch_first ? "T" : "B", inputs.shape[1]};
  const Axis outputs{"D*H", net.engine->output_size()}, directions{"D", net.engine->directions()};
  const Axis rows{"B", B}, h_axis{shape.proj_size ? "P" : "H", shape.state_size()};
  Results results{};
  std::size_t found = 0;
  const auto grad = [&](const char* name, py::object& owner) -> const py::object& {
    const bool present = grads.contains(name);
    if (present) ++found;
    return owner = present ? py::object(grads[name]) : py::none();
  };
  const py::object& dy = grad("y", results.owners[0]);
  const py::object& dh_n = grad("h_n", results.owners[1]);
  const py::object& dc_n = grad("c_n", results.owners[2]);
  if (found != grads.size()) {
    throw py::value_error(f + ": grads has a name other than y, h_n and c_n");
  }
  results.y = check_array<float>(f, "y", y, {first, second, outputs}, Layout::last_contiguous);
  if (!dy.is_none()) {
    results.dy = check_array<float>(f, "dy", dy, {first, second, outputs}, Layout::last_contiguous);
  }
  results.dh_n = optional_array<float>(f, "dh_n", dh_n, {directions, rows, h_axis});
  results.dc_n =
      optional_array<float>(f, "dc_n", dc_n, {directions, rows, {"H", shape.hidden_size}});
  if (results.dc_n && !net.lstm()) {
    throw py::value_error(f + ": dc_n is given, expected None for a layer without a cell state");
  }
  if (saved.is_none()) {
    throw py::value_error(f + ": saved is None, expected what the forward pass saved");
  }
  const auto kept = [&](std::int64_t size) {
    return check_array<float>(f, "saved", saved, {directions, {"T", T}, rows, {"saved", size}},
                              Layout::contiguous);
  };
  results.recompute = kept(kAny).shape[3] == least;
  results.saved_size = net.saved_size(results.recompute);
  results.saved = kept(results.saved_size).data;
  return results;
}

// Returns the backward pass of direction d, still without pointers to its gradients.
BackwardPass backward_pass(const BoundRecurrent& net, const CheckedInputs& inputs,
                           const Results& results, std::int64_t d) {
  const std::int64_t S = net.shape().state_size(), H = net.shape().hidden_size;
  const std::int64_t T = inputs.args.T, B = inputs.args.B;
  const auto at = [&](const float* from, std::int64_t floats) {
    return from ? from + d * B * floats : nullptr;
  };
  const int t = inputs.batch_first ? 1 : 0, b = 1 - t;
  BackwardPass pass{};
  pass.reverse = d == 1 || net.engine->direction() == Direction::reverse;
  pass.in = inputs.args.states_of(d, S, H);
  pass.y = results.y.data + d * S;
  pass.y_t = results.y.strides[t];
  pass.y_b = results.y.strides[b];
  pass.saved = at(results.saved, T * results.saved_size);
  pass.recompute = results.recompute;
  pass.dy = results.dy.data ? results.dy.data + d * S : nullptr;
  pass.dy_t = results.dy.strides[t];
  pass.dy_b = results.dy.strides[b];
  pass.dh_n = at(results.dh_n, S);
  pass.dc_n = at(results.dc_n, H);
  return pass;
}

// Returns zeros, to which a gradient is added, or None if the gradient is not wanted.
Object zeros(const std::string& function, bool wanted, std::vector<std::int64_t> shape) {
  if (!wanted) return py::none();
  py::array_t<float> array = new_array(function, std::move(shape));
  std::memset(array.mutable_data(), 0, static_cast<std::size_t>(array.nbytes()));
  return std::move(array);
}

// Returns an array that is written before it is read. Its memory is aligned as PyTorch's is. The C
// library keeps such memory when it is let go; large arrays of NumPy it gives back to the system,
// and every pass would wait for new pages, four times as long as it computes.
Object lasting_array(const std::string& function, const std::vector<std::int64_t>& shape) {
  constexpr std::size_t kLine = 64;
  std::int64_t floats = 1;
  for (const std::int64_t n : shape) floats = checked_product(function, {floats, n});
  const std::size_t bytes = static_cast<std::size_t>(floats) * sizeof(float);
  void* const memory = allocate_aligned(kLine, bytes);
  const py::capsule owner(memory, [](void* p) { free_aligned(p); });
  return py::array_t<float>(std::vector<py::ssize_t>(shape.begin(), shape.end()),
                            static_cast<float*>(memory), owner);
}

float* data(const Object& array) {
  return array.is_none() ? nullptr
                         : py::reinterpret_borrow<py::array_t<float>>(array).mutable_data();
}

// The gradients of the initial and of the reset states, of all directions.
struct StateGrads {
  Object h_0, c_0, reset_h, reset_c;

  StateGrads(const BoundRecurrent& net, const SequenceArgs& args, bool want_h) {
    const std::int64_t D = net.engine->directions(), B = args.B;
    const std::int64_t S = net.shape().state_size(), H = net.shape().hidden_size;
    h_0 = zeros(net.function, want_h, {D, B, S});
    c_0 = zeros(net.function, net.lstm(), {D, B, H});
    reset_h = zeros(net.function, args.resets, {D, B, S});
    reset_c = zeros(net.function, args.resets && net.lstm(), {D, B, H});
  }

  void place(BackwardPass& pass, const CellShape& shape, std::int64_t d) const {
    const auto to = [&](const Object& array, std::int64_t floats) {
      float* first = data(array);
      return first ? first + d * pass.in.B * floats : nullptr;
    };
    pass.dh_0 = to(h_0, shape.state_size());
    pass.dc_0 = to(c_0, shape.hidden_size);
    pass.dreset_h = to(reset_h, shape.state_size());
    pass.dreset_c = to(reset_c, shape.hidden_size);
  }
};

// Returns arrays for the gradients of a direction's weights, as a dict by the weights' names. They
// are zeros, but for the matrices of a pass with terms, which writes them.
py::dict weight_grads(const std::string& function, const CellShape& shape, const CellWeights& w,
                      BackwardPass& pass) {
  const std::int64_t I = shape.input_size, H = shape.hidden_size, S = shape.state_size();
  const std::int64_t G = gate_count(shape.mode) * H;
  py::dict grads;
  const bool written = pass.in.T * pass.in.B > 0;
  const auto place = [&](const char* name, bool wanted, std::vector<std::int64_t> axes) -> float* {
    if (!wanted) return nullptr;
    const Object grad = written && axes.size() == 2 ? lasting_array(function, axes)
                                                    : zeros(function, true, std::move(axes));
    grads[name] = grad;
    return data(grad);
  };
  pass.weight_ih = place("weight_ih", true, {G, I});
  pass.weight_hh = place("weight_hh", true, {G, S});
  pass.bias_ih = place("bias_ih", w.bias_ih, {G});
  pass.bias_hh = place("bias_hh", w.bias_hh, {G});
  pass.weight_hr = place("weight_hr", static_cast<bool>(w.weight_hr), {S, H});
  pass.peepholes = place("peepholes", w.peepholes, {3 * H});
  return grads;
}

// Returns the gradients of the arguments of `run`, from those of its results, as a dict, which
// _core.pyi describes. dx takes a quarter of the work where I = H, and dh_0 half of that of a step
// alone, so they are computed only if `want_x` and `want_h`.
py::dict backward(const BoundRecurrent& net, const Object& inputs,
                  const std::vector<py::dict>& weights, const Object& y, const Object& saved,
                  const py::dict& grads, bool want_x, bool want_h) {
  const std::string& f = net.function;
  const CheckedInputs checked = check_inputs(net, inputs);
  const Results results = check_results(net, checked, y, saved, grads);
  const CellShape& shape = net.shape();
  const std::int64_t T = checked.args.T, B = checked.args.B, I = shape.input_size;
  const std::int64_t D = net.engine->directions();
  if (static_cast<std::int64_t>(weights.size()) != D) {
    throw py::value_error(f + ": weights has " + std::to_string(weights.size()) +
                          " entries, expected " + std::to_string(D));
  }
  checked_product(f, {T, B, 4 * shape.hidden_size});

  // dx is not set to zero here, with the GIL: it may have a gigabyte.
  const Object dx =
      want_x ? Object(new_array(f, {checked.shape[0], checked.shape[1], I})) : py::none();
  const StateGrads states(net, checked.args, want_h);
  py::list weight_grad_dicts;
  for (std::int64_t d = 0; d < D; ++d) {
    const CheckedWeights w = check_weights(f, shape, weights[d]);
    BackwardPass pass = backward_pass(net, checked, results, d);
    pass.dx = data(dx);
    pass.dx_t = checked.batch_first ? I : B * I;
    pass.dx_b = checked.batch_first ? T * I : I;
    pass.add = d == 1;
    states.place(pass, shape, d);
    weight_grad_dicts.append(weight_grads(f, shape, w.arrays, pass));
    interruptible([&](Interrupt& interrupt) {
      const bool every_step = !pass.in.lengths && !pass.in.mask;  // then all of dx is written
      if (pass.dx && !pass.add && !every_step) {
        std::memset(pass.dx, 0, static_cast<std::size_t>(T * B * I) * sizeof(float));
      }
      RecurrentBackward(net.engine->cell(d), w.arrays).run(pass, interrupt);
    });
  }
  py::dict found;
  found["x"] = dx;
  found["weights"] = weight_grad_dicts;
  found["h_0"] = states.h_0;
  found["c_0"] = states.c_0;
  found["reset_h"] = states.reset_h;
  found["reset_c"] = states.reset_c;
  return found;
}

}  // namespace

[[gnu::cold]] void register_backward(py::class_<BoundRecurrent>& recurrent) {
  recurrent.def("backward", &backward, py::arg("inputs"), py::kw_only(), py::arg("weights"),
                py::arg("y"), py::arg("saved"), py::arg("grads"), py::arg("want_x") = true,
                py::arg("want_h") = true);
}

}  // namespace treadle

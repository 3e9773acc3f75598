// Recurrent.backward: argument checks around engine/recurrent/backward.
#include "engine/recurrent/backward.h"

#include <pybind11/stl.h>

#include <cstring>

#include "bindings/checked_inputs.h"
#include "bindings/gil.h"
#include "bindings/recurrent.h"

namespace treadle {
namespace {

using Object = py::object;

// What the forward pass left, and the gradients of its results, of all directions.
struct Results {
  View<const float> y, dy;  // [T, B, D * state_size] or [B, T, ...]; dy without data: zero
  const float *saved, *dh_n, *dc_n;
  std::int64_t saved_size;
  bool recompute;  // as the number of floats saved tells
};

Results check_results(const BoundRecurrent& net, const CheckedInputs& given, const Object& y,
                      const Object& saved, const Object& dy, const Object& dh_n, const Object& dc_n,
                      bool batch_first) {
  const std::string& f = net.function;
  const CellShape& shape = net.shape();
  const std::int64_t T = given.args.T, B = given.args.B;
  const std::int64_t least = net.saved_size(true);  // refuses several layers
  const Axis first{batch_first ? "B" : "T", given.shape[0]};
  const Axis second{batch_first ? "T" : "B", given.shape[1]};
  const Axis outputs{"D*H", net.engine->output_size()}, directions{"D", net.engine->directions()};
  const Axis rows{"B", B}, h_axis{shape.proj_size ? "P" : "H", shape.state_size()};
  Results results{};
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

// Of direction d, the arrays of the forward pass and the gradients of its results.
BackwardPass backward_pass(const BoundRecurrent& net, const CheckedInputs& given,
                           const Results& results, std::int64_t d, bool batch_first) {
  const RunArgs& args = given.args;
  const std::int64_t S = net.shape().state_size(), H = net.shape().hidden_size;
  const auto at = [&](const float* from, std::int64_t floats) {
    return from ? from + d * args.B * floats : nullptr;
  };
  const int t = batch_first ? 1 : 0, b = batch_first ? 0 : 1;
  BackwardPass pass{};
  pass.reverse = d == 1 || net.engine->direction() == Direction::reverse;
  pass.T = args.T;
  pass.B = args.B;
  pass.x = args.x;
  pass.x_t = args.x_t;
  pass.x_b = args.x_b;
  pass.y = results.y.data + d * S;
  pass.y_t = results.y.strides[t];
  pass.y_b = results.y.strides[b];
  pass.h_0 = at(args.h_0, S);
  pass.c_0 = at(args.c_0, H);
  pass.reset_h = at(args.reset_h, S);
  pass.reset_c = at(args.reset_c, H);
  pass.lengths = args.lengths;
  pass.mask = args.mask;
  pass.resets = args.resets;
  pass.saved = at(results.saved, args.T * results.saved_size);
  pass.recompute = results.recompute;
  pass.dy = results.dy.data ? results.dy.data + d * S : nullptr;
  pass.dy_t = results.dy.strides[t];
  pass.dy_b = results.dy.strides[b];
  pass.dh_n = at(results.dh_n, S);
  pass.dc_n = at(results.dc_n, H);
  return pass;
}

// A gradient that is added to, or None where there is nothing to have one.
Object zeros(const std::string& function, bool wanted, std::vector<std::int64_t> shape) {
  if (!wanted) return py::none();
  py::array_t<float> array = new_array(function, std::move(shape));
  std::memset(array.mutable_data(), 0, static_cast<std::size_t>(array.nbytes()));
  return std::move(array);
}

float* data(const Object& array) {
  return array.is_none() ? nullptr
                         : py::reinterpret_borrow<py::array_t<float>>(array).mutable_data();
}

// Gradients of the initial and of the reset states, of all directions.
struct StateGrads {
  Object h_0, c_0, reset_h, reset_c;

  StateGrads(const BoundRecurrent& net, const RunArgs& args) {
    const std::int64_t D = net.engine->directions(), B = args.B;
    const std::int64_t S = net.shape().state_size(), H = net.shape().hidden_size;
    h_0 = zeros(net.function, true, {D, B, S});
    c_0 = zeros(net.function, net.lstm(), {D, B, H});
    reset_h = zeros(net.function, args.resets, {D, B, S});
    reset_c = zeros(net.function, args.resets && net.lstm(), {D, B, H});
  }

  void give(BackwardPass& pass, const CellShape& shape, std::int64_t d) const {
    const auto to = [&](const Object& array, std::int64_t floats) {
      float* first = data(array);
      return first ? first + d * pass.B * floats : nullptr;
    };
    pass.dh_0 = to(h_0, shape.state_size());
    pass.dc_0 = to(c_0, shape.hidden_size);
    pass.dreset_h = to(reset_h, shape.state_size());
    pass.dreset_c = to(reset_c, shape.hidden_size);
  }
};

// Gradients of the weights of a direction, in the order of check_weights.
py::tuple weight_grads(const std::string& function, const CellShape& shape, const CellWeights& w,
                       BackwardPass& pass) {
  const std::int64_t I = shape.input_size, H = shape.hidden_size, S = shape.state_size();
  const std::int64_t G = gate_count(shape.mode) * H;
  const Object ih = zeros(function, true, {G, I}), hh = zeros(function, true, {G, S});
  const Object bias_ih = zeros(function, w.bias_ih, {G}), bias_hh = zeros(function, w.bias_hh, {G});
  const Object hr = zeros(function, static_cast<bool>(w.weight_hr), {S, H});
  const Object peepholes = zeros(function, w.peepholes, {3 * H});
  pass.weight_ih = data(ih);
  pass.weight_hh = data(hh);
  pass.bias_ih = data(bias_ih);
  pass.bias_hh = data(bias_hh);
  pass.weight_hr = data(hr);
  pass.peepholes = data(peepholes);
  return py::make_tuple(ih, hh, bias_ih, bias_hh, hr, peepholes);
}

// (dx, [weight_ih, weight_hh, bias_ih, bias_hh, weight_hr, peepholes] of each direction, dh_0,
// dc_0, dreset_h, dreset_c): the gradients of what `run` was given, from those of its results. A dx
// that nobody wants costs a quarter of the products where I = H: None without `want_x`.
py::tuple backward(const BoundRecurrent& net, const std::vector<py::tuple>& weights,
                   const Object& x, const Object& y, const Object& h0, const Object& c0,
                   const Object& lengths, const Object& mask, const Object& resets,
                   const Object& reset_h, const Object& reset_c, bool batch_first,
                   const Object& saved, const Object& dy, const Object& dh_n, const Object& dc_n,
                   bool want_x) {
  const std::string& f = net.function;
  const CheckedInputs given =
      check_inputs(net, x, h0, c0, lengths, mask, resets, reset_h, reset_c, batch_first);
  const Results results = check_results(net, given, y, saved, dy, dh_n, dc_n, batch_first);
  const CellShape& shape = net.shape();
  const std::int64_t T = given.args.T, B = given.args.B, I = shape.input_size;
  const std::int64_t D = net.engine->directions();
  if (static_cast<std::int64_t>(weights.size()) != D) {
    throw py::value_error(f + ": weights has " + std::to_string(weights.size()) +
                          " entries, expected " + std::to_string(D));
  }
  checked_product(f, {T, B, 4 * shape.hidden_size});

  // Not zeroed here: a gigabyte is, without the GIL.
  const Object dx = want_x ? Object(new_array(f, {given.shape[0], given.shape[1], I})) : py::none();
  const StateGrads states(net, given.args);
  py::list grads;
  for (std::int64_t d = 0; d < D; ++d) {
    const CellWeights w = check_weights(f, shape, weights[d]);
    BackwardPass pass = backward_pass(net, given, results, d, batch_first);
    pass.dx = data(dx);
    pass.dx_t = batch_first ? I : B * I;
    pass.dx_b = batch_first ? T * I : I;
    pass.add = d == 1;
    states.give(pass, shape, d);
    grads.append(weight_grads(f, shape, w, pass));
    interruptible([&](Interrupt& interrupt) {
      const bool every_step = !pass.lengths && !pass.mask;  // then all of it is written
      if (pass.dx && !pass.add && !every_step) {
        std::memset(pass.dx, 0, static_cast<std::size_t>(T * B * I) * sizeof(float));
      }
      RecurrentBackward(net.engine->cell(d), w).run(pass, interrupt);
    });
  }
  return py::make_tuple(dx, std::move(grads), states.h_0, states.c_0, states.reset_h,
                        states.reset_c);
}

}  // namespace

void register_backward(py::class_<BoundRecurrent>& recurrent) {
  recurrent.def("backward", &backward, py::arg("weights"), py::arg("x"), py::arg("y"),
                py::arg("h0"), py::arg("c0"), py::arg("lengths"), py::arg("mask"),
                py::arg("resets"), py::arg("reset_h"), py::arg("reset_c"), py::arg("batch_first"),
                py::arg("saved"), py::arg("dy"), py::arg("dh_n"), py::arg("dc_n"),
                py::arg("want_x") = true);
}

}  // namespace treadle

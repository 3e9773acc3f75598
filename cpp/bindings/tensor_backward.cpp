// RecurrentStack.backward_tensors: the gradients of a call of run_tensors.
#include <cstring>

#include "bindings/gil.h"
#include "bindings/recurrent.h"
#include "bindings/tensor_floats.h"
#include "engine/recurrent/backward.h"

namespace treadle {
namespace {

using Object = py::object;

// The weights of a direction, and where their gradients go.
struct Weights {
  Floats ih, hh, bias_ih, bias_hh, hr;
  std::vector<Floats> grads;  // in the order of the tensors

  // Reads `count` tensors from `first` on. Returns false if one does not fit the net.
  bool read(const CellShape& shape, const py::tuple& tensors, std::size_t first,
            std::size_t count) {
    const std::int64_t I = shape.input_size, H = shape.hidden_size, S = shape.state_size();
    const std::int64_t G = gate_count(shape.mode) * H;
    const bool biases = count >= 4, projects = shape.proj_size != 0;
    if (count != 2U + (biases ? 2 : 0) + (projects ? 1 : 0)) return false;
    std::size_t next = first;
    const auto take = [&](Floats& floats, std::initializer_list<py::ssize_t> axes) {
      const py::handle tensor = tensors[next++];
      return !tensor.is_none() && read_optional(tensor, axes, floats);
    };
    return take(ih, {G, I}) && take(hh, {G, S}) &&
           (!biases || (take(bias_ih, {G}) && take(bias_hh, {G}))) &&
           (!projects || take(hr, {S, H}));
  }

  CellWeights arrays() const {
    return {ih.data(), hh.data(), bias_ih.data(), bias_hh.data(), hr.data(), nullptr};
  }

  // Makes the gradients. Those of matrices are written, the others added to.
  void place(BackwardPass& pass) {
    const auto made = [&](const Floats& of, bool zero) -> float* {
      if (!of.data()) return nullptr;
      grads.push_back(new_floats_like(of));
      float* const to = grads.back().data();
      if (zero) std::memset(to, 0, static_cast<std::size_t>(of.size(0)) * sizeof(float));
      return to;
    };
    pass.weight_ih = made(ih, false);
    pass.weight_hh = made(hh, false);
    pass.bias_ih = made(bias_ih, true);
    pass.bias_hh = made(bias_hh, true);
    pass.weight_hr = made(hr, false);
  }
};

// Makes the gradient of a state, zeros to which others are added; without data if unwanted.
Floats state_grad(const TensorInput& in, const BoundRecurrent& net, std::int64_t size,
                  bool wanted) {
  if (!wanted) return {};
  Floats grad = new_floats(in.state_shape(net, size));
  const std::int64_t floats = net.engine->directions() * in.B * size;
  std::memset(grad.data(), 0, static_cast<std::size_t>(floats) * sizeof(float));
  return grad;
}

// Returns the gradients of x, h, c and the weights as a list, with None for those that `wanted`
// leaves out; or None if an argument does not fit. `forward` has x, h, c, y and what run_tensors
// saved, `upstream` the gradients of y, h_n and c_n.
Object backward_tensors(const BoundRecurrent& net, const py::tuple& forward,
                        const py::tuple& upstream, const py::tuple& weights,
                        const py::tuple& wanted, bool step, bool batch_first) {
  const std::int64_t D = net.engine->directions(), I = net.shape().input_size;
  const std::int64_t S = net.shape().state_size(), H = net.shape().hidden_size;
  const std::size_t count = weights.size() / static_cast<std::size_t>(D);
  if (net.engine->layers() != 1 || forward.size() != 5 || upstream.size() != 3 ||
      weights.size() != count * D || wanted.size() != 3 + weights.size() || (step && D != 1)) {
    return py::none();
  }
  const auto wants = [&](std::size_t i) { return py::handle(wanted[i]).ptr() == Py_True; };
  net.check_backward();
  TensorInput in{{}, step, batch_first && !step, 0, 0, 0, 0};
  Floats h, c, y, saved, dy, dh_n, dc_n;
  if (!in.read(net, forward[0])) return py::none();
  const std::int64_t T = in.T, B = in.B, floats = net.saved_size(false);
  const bool fits =
      in.read_state(net, forward[1], S, h) && in.read_state(net, forward[2], H, c) &&
      in.read_output(net, forward[3], y) && read_optional(forward[4], {D, T, B, floats}, saved) &&
      in.read_output(net, upstream[0], dy) && in.read_state(net, upstream[1], S, dh_n) &&
      in.read_state(net, upstream[2], H, dc_n);
  // A step that saves its gates does not read its output.
  const bool complete = (y.data() || (step && floats)) && !saved.data() == !floats;
  if (!fits || !complete) return py::none();
  if (!net.lstm() && (c.data() || dc_n.data())) return py::none();
  std::vector<Weights> own(D);
  for (std::int64_t d = 0; d < D; ++d) {
    if (!own[d].read(net.shape(), weights, d * count, count)) return py::none();
  }

  const Floats dx =
      wants(0)
          ? new_floats({in.x.memory.shape.begin(), in.x.memory.shape.begin() + in.x.memory.axes})
          : Floats{};
  const Floats dh = state_grad(in, net, S, wants(1)), dc = state_grad(in, net, H, wants(2));
  const auto at = [&](const Floats& of, std::int64_t offset) {
    return of.data() ? of.data() + offset : nullptr;
  };
  py::list grads;
  const auto give = [&](const Floats& grad, bool want) {
    grads.append(want ? grad.tensor : Object(py::none()));
  };
  give(dx, wants(0));
  give(dh, wants(1));
  give(dc, wants(2));
  for (std::int64_t d = 0; d < D; ++d) {
    BackwardPass pass{};
    pass.reverse = d == 1 || net.engine->direction() == Direction::reverse;
    pass.in = in.args(h, c).states_of(d, S, H);
    pass.y = at(y, d * S);
    pass.y_t = pass.dy_t = in.output_t(net);
    pass.y_b = pass.dy_b = in.output_b(net);
    pass.saved = at(saved, d * T * B * floats);
    pass.dy = at(dy, d * S);
    pass.dh_n = at(dh_n, d * B * S);
    pass.dc_n = at(dc_n, d * B * H);
    pass.dx = dx.data();
    pass.dx_t = in.batch_first ? I : B * I;
    pass.dx_b = in.batch_first ? T * I : I;
    pass.add = d == 1;
    pass.dh_0 = at(dh, d * B * S);
    pass.dc_0 = at(dc, d * B * H);
    own[d].place(pass);
    interruptible([&](Interrupt& interrupt) {
      RecurrentBackward(net.engine->cell(d), own[d].arrays()).run(pass, interrupt);
    });
    for (std::size_t i = 0; i < count; ++i) give(own[d].grads[i], wants(3 + d * count + i));
  }
  return std::move(grads);
}

}  // namespace

[[gnu::cold]] void register_tensor_backward(py::class_<BoundRecurrent>& recurrent) {
  recurrent.def("backward_tensors", &backward_tensors, py::arg("forward"), py::arg("upstream"),
                py::arg("weights"), py::arg("wanted"), py::arg("step"), py::arg("batch_first"));
}

}  // namespace treadle

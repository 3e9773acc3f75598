// RecurrentStack.run_tensors: a call that reads and makes PyTorch's tensors. What its arguments
// would cost as arrays takes longer than a step of a small net.
#include <algorithm>
#include <optional>

#include "bindings/gil.h"
#include "bindings/recurrent.h"
#include "bindings/tensor_floats.h"

namespace treadle {
namespace {

using Object = py::object;

// Returns (y, h_n, c_n or None, saved or None). The y of a step is its h_n: it is None, or a copy
// that a backward pass needs. Returns None if an argument does not fit.
Object run_tensors(const BoundRecurrent& net, const Object& x, const Object& h, const Object& c,
                   bool step, bool batch_first, bool save) {
  TensorInput in{{}, step, batch_first && !step, 0, 0, 0, 0};
  Floats h_0, c_0;
  const std::int64_t S = net.shape().state_size(), H = net.shape().hidden_size;
  const std::int64_t D = net.engine->directions();
  if ((step && D * net.engine->layers() != 1) || !in.read(net, x)) return py::none();
  if (!in.read_state(net, h, S, h_0) || !in.read_state(net, c, H, c_0)) return py::none();
  if (c_0.data() && !net.lstm()) return py::none();
  const auto made = [&](const std::vector<std::int64_t>& shape) {
    return h_0.data() && std::equal(shape.begin(), shape.end(), h_0.memory.shape.begin())
               ? new_floats_like(h_0)
               : new_floats(shape);
  };
  const std::int64_t floats = save ? net.saved_size(false) : 0;
  std::optional<Floats> y, c_n, saved;
  if (!step || (save && !floats)) y = made(in.output_shape(net));
  const Floats h_n = made(in.state_shape(net, S));
  if (net.lstm()) c_n = c_0.data() ? new_floats_like(c_0) : new_floats(in.state_shape(net, H));
  if (floats) saved = new_floats({D, in.T, in.B, floats});
  RunArgs args{};
  args.in = in.args(h_0, c_0);
  args.y = y ? y->data() : h_n.data();
  args.y_t = in.output_t(net);
  args.y_b = in.output_b(net);
  args.h_n = h_n.data();
  args.c_n = c_n ? c_n->data() : nullptr;
  args.saved = saved ? saved->data() : nullptr;
  interruptible([&](Interrupt& interrupt) { net.engine->run(args, interrupt); });
  const auto object = [](const std::optional<Floats>& made) -> Object {
    return made ? made->tensor : py::none();
  };
  return py::make_tuple(object(y), h_n.tensor, object(c_n), object(saved));
}

}  // namespace

[[gnu::cold]] void register_tensor_run(py::class_<BoundRecurrent>& recurrent) {
  recurrent.def("run_tensors", &run_tensors, py::arg("x"), py::arg("h"), py::arg("c"),
                py::arg("step"), py::arg("batch_first"), py::arg("save"));
}

}  // namespace treadle

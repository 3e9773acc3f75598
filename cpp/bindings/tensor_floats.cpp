#include "bindings/tensor_floats.h"

#include <algorithm>

namespace treadle {
namespace {

bool has_shape(const TensorMemory& memory, const std::vector<std::int64_t>& shape) {
  return memory.axes == static_cast<int>(shape.size()) &&
         std::equal(shape.begin(), shape.end(), memory.shape.begin());
}

// Reads a tensor or None, contiguous or copied, of a shape.
bool read_shaped(py::handle tensor, const std::vector<std::int64_t>& shape, Floats& floats) {
  if (tensor.is_none()) return true;
  if (!read_floats(tensor, floats) || !has_shape(floats.memory, shape)) return false;
  if (floats.memory.contiguous()) return true;
  return read_floats(call(tensor, torch().contiguous), floats);
}

// Takes the memory of a tensor that PyTorch has just made.
Floats made(PyObject* tensor, const std::vector<std::int64_t>& shape) {
  Floats floats;
  floats.tensor = checked(tensor);
  floats.memory.axes = static_cast<int>(shape.size());
  std::copy(shape.begin(), shape.end(), floats.memory.shape.begin());
  floats.memory.address = PyLong_AsVoidPtr(call(floats.tensor, torch().data_ptr).ptr());
  if (PyErr_Occurred()) throw py::error_already_set();
  return floats;
}

}  // namespace

bool read_floats(py::handle tensor, Floats& floats) {
  const Torch& known = torch();
  const PyTypeObject* const type = Py_TYPE(tensor.ptr());
  if (type != known.tensor && type != known.parameter) return false;
  try {
    if (call(tensor, known.is_neg).ptr() != Py_False) return false;
    if (known.describe) {
      if (!float_memory(known, tensor, floats.memory)) return false;
    } else {
      if (!attribute(tensor, known.dtype).is(known.float32)) return false;
      floats.memory = tensor_memory(known, tensor, sizeof(float));
    }
  } catch (const py::type_error&) {
    return false;
  } catch (const py::error_already_set& error) {
    // PyTorch's own refusals are of these classes.
    if (!error.matches(PyExc_RuntimeError) && !error.matches(PyExc_BufferError)) throw;
    return false;
  }
  floats.tensor = py::reinterpret_borrow<py::object>(tensor);
  return floats.memory.address != nullptr;
}

bool read_optional(py::handle tensor, std::initializer_list<py::ssize_t> shape, Floats& floats) {
  return read_shaped(tensor, shape, floats);
}

Floats new_floats(const std::vector<std::int64_t>& shape) {
  const Torch& known = torch();
  py::tuple sizes(shape.size());
  for (std::size_t i = 0; i < shape.size(); ++i) sizes[i] = py::int_(shape[i]);
  PyObject* const arguments[] = {sizes.ptr(), known.float32.ptr(), known.cpu.ptr()};
  return made(PyObject_Vectorcall(known.empty.ptr(), arguments, 1, known.dtype_and_device.ptr()),
              shape);
}

Floats new_floats_like(const Floats& other) {
  const TensorMemory& memory = other.memory;
  return made(PyObject_CallOneArg(torch().empty_like.ptr(), other.tensor.ptr()),
              {memory.shape.begin(), memory.shape.begin() + memory.axes});
}

bool TensorInput::read(const BoundRecurrent& net, py::handle tensor) {
  if (!read_floats(tensor, x)) return false;
  const int axes = x.memory.axes, last = axes - 1;
  if (step ? axes != 1 && axes != 2 : axes != 3) return false;
  if (x.size(last) != net.shape().input_size) return false;
  if (x.stride(last) != 1 && x.size(last) != 1) return false;
  if (step) {
    T = 1;
    B = axes == 2 ? x.size(0) : 1;
    x_t = 0;
    x_b = axes == 2 ? x.stride(0) : 0;
  } else {
    const int t = batch_first ? 1 : 0, b = 1 - t;
    T = x.size(t);
    B = x.size(b);
    x_t = x.stride(t);
    x_b = x.stride(b);
  }
  // Sizes that overflow are refused where arrays are checked.
  std::int64_t rows = 0, most = 0;
  const std::int64_t floats =
      std::max(4 * net.shape().hidden_size,
               std::max(net.engine->output_size(), net.engine->cell(0).input_sums()));
  return !__builtin_mul_overflow(T, B, &rows) && !__builtin_mul_overflow(rows, floats, &most);
}

std::vector<std::int64_t> TensorInput::state_shape(const BoundRecurrent& net,
                                                   std::int64_t size) const {
  if (!step) return {net.engine->layers() * net.engine->directions(), B, size};
  if (x.memory.axes == 1) return {size};
  return {B, size};
}

std::vector<std::int64_t> TensorInput::output_shape(const BoundRecurrent& net) const {
  if (step) return state_shape(net, net.engine->output_size());
  return {x.size(0), x.size(1), net.engine->output_size()};
}

bool TensorInput::read_state(const BoundRecurrent& net, py::handle tensor, std::int64_t size,
                             Floats& state) const {
  return read_shaped(tensor, state_shape(net, size), state);
}

bool TensorInput::read_output(const BoundRecurrent& net, py::handle tensor, Floats& output) const {
  return read_shaped(tensor, output_shape(net), output);
}

std::int64_t TensorInput::output_t(const BoundRecurrent& net) const {
  return batch_first ? net.engine->output_size() : B * net.engine->output_size();
}

std::int64_t TensorInput::output_b(const BoundRecurrent& net) const {
  return batch_first ? T * net.engine->output_size() : net.engine->output_size();
}

SequenceArgs TensorInput::args(const Floats& h, const Floats& c) const {
  SequenceArgs args{};
  args.T = T;
  args.B = B;
  args.x = x.data();
  args.x_t = x_t;
  args.x_b = x_b;
  args.h_0 = h.data();
  args.c_0 = c.data();
  return args;
}

}  // namespace treadle

// The arguments and results of calls that work on PyTorch's tensors. An argument that is not
// float32 in plain memory of the CPU, or has another shape than expected, is no error here: the
// call returns None, and the caller takes the way over arrays, which converts it or says what is
// wrong.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <vector>

#include "bindings/bound_recurrent.h"
#include "bindings/tensor.h"

namespace treadle {

// A float32 tensor, which this keeps alive with its storage.
struct Floats {
  py::object tensor;
  TensorMemory memory;

  float* data() const { return static_cast<float*>(memory.address); }
  py::ssize_t size(int axis) const { return memory.shape[axis]; }
  py::ssize_t stride(int axis) const { return memory.strides[axis]; }
};

// Reads a tensor of PyTorch's own classes. Returns false if it has no elements, or no plain memory.
bool read_floats(py::handle tensor, Floats& floats);
// Does the same for an argument that may be None, which leaves null data, and copies a tensor that
// is not contiguous. Returns false for another shape, too.
bool read_optional(py::handle tensor, std::initializer_list<py::ssize_t> shape, Floats& floats);

// Makes a tensor whose numbers are not set, with the memory of the CPU.
Floats new_floats(const std::vector<std::int64_t>& shape);
// Makes a tensor like a contiguous one, which takes half the time.
Floats new_floats_like(const Floats& other);

// The x of a call and its sizes. A step has x [B, I] or [I] and states without an axis for the
// layers and directions; other calls have x [T, B, I], or [B, T, I] if batch_first.
struct TensorInput {
  Floats x;
  bool step, batch_first;
  std::int64_t T, B, x_t, x_b;

  // Returns false if x does not fit the net.
  bool read(const BoundRecurrent& net, py::handle tensor);
  // Reads a state or its gradient, of `size` floats a row.
  bool read_state(const BoundRecurrent& net, py::handle tensor, std::int64_t size,
                  Floats& state) const;
  bool read_output(const BoundRecurrent& net, py::handle tensor, Floats& output) const;
  std::vector<std::int64_t> state_shape(const BoundRecurrent& net, std::int64_t size) const;
  std::vector<std::int64_t> output_shape(const BoundRecurrent& net) const;
  // Return the strides of the output's time and rows.
  std::int64_t output_t(const BoundRecurrent& net) const;
  std::int64_t output_b(const BoundRecurrent& net) const;
  SequenceArgs args(const Floats& h, const Floats& c) const;
};

}  // namespace treadle

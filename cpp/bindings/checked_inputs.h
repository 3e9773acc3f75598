// This header checks the arrays of a call of a recurrent net.
#pragma once

#include <pybind11/pybind11.h>

#include <array>
#include <cstdint>
#include <vector>

#include "bindings/bound_recurrent.h"

namespace treadle {

// The arrays that decide which steps there are (lengths, mask, resets) are copied, since another
// Python thread must not change them while the engine runs without the GIL. The other arrays are
// only referred to, and kept alive.
struct CheckedInputs {
  SequenceArgs args{};
  bool batch_first;
  std::int64_t shape[2];  // the first two axes of x: T and B, or B and T if batch_first

  std::vector<std::int64_t> lengths;
  std::vector<std::uint8_t> mask, resets;
  std::array<py::object, 8> owners;  // of the arrays
};

// Reads the attributes of `inputs`, which is a SequenceInputs of treadle._inputs.sequence. Throws
// ValueError or TypeError for an array that does not fit the net.
CheckedInputs check_inputs(const BoundRecurrent& net, const py::object& inputs);

}  // namespace treadle

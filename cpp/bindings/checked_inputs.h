// What a run of a recurrent net is given, checked.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <vector>

#include "bindings/bound_recurrent.h"

namespace treadle {

// With its own copies of what decides which steps there are: another Python thread must not change
// it meanwhile.
struct CheckedInputs {
  RunArgs args{};
  std::vector<std::int64_t> lengths;
  std::vector<std::uint8_t> mask, resets;
  std::int64_t shape[2];  // of x but for the last axis
};

CheckedInputs check_inputs(const BoundRecurrent& net, const py::object& x, const py::object& h0,
                           const py::object& c0, const py::object& lengths, const py::object& mask,
                           const py::object& resets, const py::object& reset_h,
                           const py::object& reset_c, bool batch_first);

}  // namespace treadle

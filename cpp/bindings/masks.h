// This header checks masks of attention and the array for its probabilities.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <initializer_list>
#include <string>

#include "bindings/arrays.h"
#include "engine/attention/attention.h"

namespace treadle {

struct Mask {
  HeadView<const std::uint8_t> view{};  // strides in bytes
  bool adds = false;
};

// Checks a mask [B, N, S, K] of bool or float32, its last axis contiguous, or None. Errors call the
// argument `name`.
Mask check_mask(const std::string& function, const char* name, const py::object& mask,
                std::initializer_list<Axis> axes);

// Fills an array with zeros, in pieces between which signals are polled. Returns false if a signal
// handler raised.
bool clear(float* data, std::int64_t floats, Interrupt& interrupt);

}  // namespace treadle

// Masks of attention, and the probabilities that it is asked for.
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

// A mask [B, N, S, K] of bool or float32, its last axis contiguous, or None; `name` is
// the argument's.
Mask check_mask(const std::string& function, const char* name, const py::object& mask,
                std::initializer_list<Axis> axes);

// Fills an array with zeros, in pieces between which a signal is seen; false when it was.
bool clear(float* data, std::int64_t floats, Interrupt& interrupt);

}  // namespace treadle

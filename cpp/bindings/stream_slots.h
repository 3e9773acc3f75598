// This header has the slots of a pool of streams as Python holds them.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bindings/gil.h"
#include "engine/recurrent/stream_slots.h"

namespace treadle {

namespace py = pybind11;

// The slots and the name that errors begin with.
struct BoundSlots {
  std::string function;
  std::shared_ptr<StreamSlots> slots;
};

// Reads ids, int64 [N], as a copy, since another thread may change the array during a call.
std::vector<std::int64_t> check_ids(const std::string& function, const py::handle& ids);

// Calls native(interrupt) without the GIL, as interruptible does. An id that the slots refuse
// becomes a ValueError in the name of the function.
template <class Native>
void with_streams(const std::string& function, Native&& native) {
  try {
    interruptible(native);
  } catch (const std::invalid_argument& refused) {
    throw py::value_error(function + ": " + refused.what());
  }
}

void register_stream_slots(py::module_& m);

}  // namespace treadle

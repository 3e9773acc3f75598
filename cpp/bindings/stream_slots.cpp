// The Python classes StreamSlots and HeldStreams: the places of a pool's streams, and their states.
#include "bindings/stream_slots.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "bindings/arrays.h"
#include "bindings/construct.h"

namespace treadle {
namespace {

using Object = py::object;

BoundSlots make_slots(std::string f, std::int64_t capacity, std::int64_t width) {
  if (capacity < 1 || capacity > StreamSlots::kMostSlots) {
    throw py::value_error(f + ": capacity is " + std::to_string(capacity) + ", expected 1 to " +
                          std::to_string(StreamSlots::kMostSlots));
  }
  if (width < 0) throw py::value_error(f + ": a state has a negative size");
  checked_product(f, {capacity, width, 4});
  auto slots = std::make_shared<StreamSlots>(capacity, width);
  return {std::move(f), std::move(slots)};
}

const float* check_state(const BoundSlots& bound, const Object& state) {
  return optional_array<float>(bound.function, "state", state, {{"W", bound.slots->width()}});
}

std::int64_t open(const BoundSlots& bound, const Object& state) {
  return bound.slots->open(check_state(bound, state));
}

bool close(const BoundSlots& bound, std::int64_t id) {
  bool closed = false;
  interruptible(
      [&](Interrupt& interrupt) { closed = bound.slots->close(id, interrupt.patience()); });
  return closed;
}

std::int64_t evict(const BoundSlots& bound, double seconds, std::int64_t most) {
  std::int64_t count = 0;
  interruptible([&](Interrupt&) { count = bound.slots->evict(seconds, most); });
  return count;
}

py::dict statistics(const BoundSlots& bound) {
  const StreamSlots::Statistics now = bound.slots->statistics();
  py::dict result;
  result["capacity"] = bound.slots->capacity();
  result["open"] = now.open;
  result["opened"] = now.opened;
  result["closed"] = now.closed;
  result["evicted"] = now.evicted;
  result["calls"] = now.calls;
  result["rows"] = now.rows;
  result["frames"] = now.frames;
  result["state_bytes"] = bound.slots->width() * static_cast<std::int64_t>(sizeof(float));
  return result;
}

// Some streams, held for a call that Python makes. Its own lock is held by whoever reads or
// releases them, for a moment in which nobody calls Python.
class HeldStreams {
 public:
  HeldStreams(const BoundSlots& bound, const Object& ids)
      : slots_(bound.slots), function_(bound.function) {
    const std::vector<std::int64_t> numbers = check_ids(function_, ids);
    count_ = static_cast<std::int64_t>(numbers.size());
    with_streams(function_, [&](Interrupt& interrupt) {
      held_.emplace(*slots_, numbers.data(), count_, interrupt.patience());
    });
  }

  py::array_t<float> get() const {
    py::array_t<float> states = new_array(function_, {count_, slots_->width()});
    const std::size_t bytes = static_cast<std::size_t>(slots_->width()) * sizeof(float);
    float* to = states.mutable_data();
    const ReentrantGuard::Hold hold(guard_);
    const StreamSlots::Held& streams = held();
    for (std::int64_t i = 0; bytes && i < count_; ++i) {
      std::memcpy(to + i * slots_->width(), streams.state(i), bytes);
    }
    return states;
  }

  void set(const Object& states, std::int64_t frames) {
    const auto from = check_array<float>(
        function_, "states", states, {{"N", count_}, {"W", slots_->width()}}, Layout::contiguous);
    const std::size_t bytes = static_cast<std::size_t>(slots_->width()) * sizeof(float);
    const ReentrantGuard::Hold hold(guard_);
    const StreamSlots::Held& streams = held();
    for (std::int64_t i = 0; bytes && i < count_; ++i) {
      std::memcpy(streams.state(i), from.data + i * slots_->width(), bytes);
    }
    if (frames >= 0) slots_->count_call(count_, frames);
  }

  void release() {
    const ReentrantGuard::Hold hold(guard_);
    held_.reset();
  }

 private:
  const StreamSlots::Held& held() const {
    if (!held_) throw py::value_error(function_ + ": the streams have been released");
    return *held_;
  }

  std::shared_ptr<StreamSlots> slots_;
  std::string function_;
  std::int64_t count_ = 0;
  std::optional<StreamSlots::Held> held_;
  mutable ReentrantGuard guard_;
};

}  // namespace

std::vector<std::int64_t> check_ids(const std::string& function, const py::handle& ids) {
  const auto list =
      check_array<std::int64_t>(function, "ids", ids, {{"N", kAny}}, Layout::contiguous);
  return {list.data, list.data + list.shape[0]};
}

[[gnu::cold]] void register_stream_slots(py::module_& m) {
  py::class_<BoundSlots>(m, "StreamSlots", py::is_final(), constructed_by_new())
      .def(py::init(&make_slots), py::arg("function"), py::arg("capacity"), py::arg("width"))
      .def("open", &open, py::arg("state") = py::none())
      .def("close", &close, py::arg("id"))
      .def("evict", &evict, py::arg("seconds"), py::arg("most"))
      .def(
          "is_open",
          [](const BoundSlots& bound, std::int64_t id) { return bound.slots->is_open(id); },
          py::arg("id"))
      .def(
          "idle_seconds",
          [](const BoundSlots& bound, std::int64_t id) { return bound.slots->idle_seconds(id); },
          py::arg("id"))
      .def("statistics", &statistics);
  py::class_<HeldStreams>(m, "HeldStreams", py::is_final(), constructed_by_new())
      .def(py::init<const BoundSlots&, const Object&>(), py::arg("slots"), py::arg("ids"))
      .def("get", &HeldStreams::get)
      .def("set", &HeldStreams::set, py::arg("states"), py::arg("frames") = -1)
      .def("release", &HeldStreams::release);
}

}  // namespace treadle

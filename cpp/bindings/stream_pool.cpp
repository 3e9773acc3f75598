// The Python class StreamPool checks its arguments and calls engine/recurrent/stream_pool.
#include "engine/recurrent/stream_pool.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "bindings/construct.h"
#include "bindings/recurrent.h"
#include "bindings/stream_slots.h"

namespace treadle {
namespace {

using Object = py::object;

class BoundPool {
 public:
  BoundPool(const BoundRecurrent& net, const BoundSlots& slots, Object to_float32)
      : function_(slots.function), to_float32_(std::move(to_float32)) {
    if (net.engine->direction() != Direction::forward) {
      throw py::value_error(function_ + ": a layer that reads backwards cannot stream");
    }
    const std::int64_t width = StreamPool::state_width(*net.engine);
    if (slots.slots->width() != width) {
      throw py::value_error(function_ + ": the slots have states of " +
                            std::to_string(slots.slots->width()) + " floats, expected " +
                            std::to_string(width));
    }
    pool_ = std::make_unique<StreamPool>(net.engine, slots.slots);
  }

  // x [N, I] -> y [N, S]; x [N, T, I] -> y [N, T, S]; with lengths [N] x [M, I] -> y [M, S].
  Object step(const Object& ids, const Object& x, const Object& lengths) {
    const std::vector<std::int64_t> numbers = check_ids(function_, ids);
    const auto N = static_cast<std::int64_t>(numbers.size());
    const Object in = as_float32(x);
    if (!lengths.is_none()) return ragged(numbers, in, lengths);
    if (py::isinstance<py::array>(in) && py::reinterpret_borrow<py::array>(in).ndim() == 3) {
      const auto from =
          check_array<float>(function_, "frames", in, {{"N", N}, {"T", kAny}, {"I", inputs()}},
                             Layout::last_contiguous);
      const std::int64_t T = from.shape[1];
      py::array_t<float> y = new_array(function_, {N, T, outputs()});
      run(numbers, {T, nullptr, from.data, from.strides[1], from.strides[0], y.mutable_data()});
      return std::move(y);
    }
    const auto from = check_array<float>(function_, "frames", in, {{"N", N}, {"I", inputs()}},
                                         Layout::last_contiguous);
    py::array_t<float> y = new_array(function_, {N, outputs()});
    run(numbers, {1, nullptr, from.data, 0, from.strides[0], y.mutable_data()});
    return std::move(y);
  }

  // x [I] -> y [S]; x [T, I] -> y [T, S].
  Object push(std::int64_t id, const Object& x) {
    const Object in = as_float32(x);
    if (py::isinstance<py::array>(in) && py::reinterpret_borrow<py::array>(in).ndim() == 2) {
      const auto from = check_array<float>(function_, "frame", in, {{"T", kAny}, {"I", inputs()}},
                                           Layout::last_contiguous);
      const std::int64_t T = from.shape[0];
      py::array_t<float> y = new_array(function_, {T, outputs()});
      run({id}, {T, nullptr, from.data, from.strides[0], 0, y.mutable_data()});
      return std::move(y);
    }
    const auto from =
        check_array<float>(function_, "frame", in, {{"I", inputs()}}, Layout::last_contiguous);
    py::array_t<float> y = new_array(function_, {outputs()});
    run({id}, {1, nullptr, from.data, 0, 0, y.mutable_data()});
    return std::move(y);
  }

 private:
  std::int64_t inputs() const { return pool_->net().cell(0).shape().input_size; }
  std::int64_t outputs() const { return pool_->net().cell(0).shape().state_size(); }

  // Python's converter makes a float32 array of frames that are none.
  Object as_float32(const Object& x) const {
    return has_float32_rows(x) ? x : to_float32_(function_, "frames", x);
  }

  Object ragged(const std::vector<std::int64_t>& ids, const Object& x, const Object& lengths) {
    const auto N = static_cast<std::int64_t>(ids.size());
    const auto given =
        check_array<std::int64_t>(function_, "lengths", lengths, {{"N", N}}, Layout::contiguous);
    const std::vector<std::int64_t> own(given.data, given.data + N);
    const auto from = check_array<float>(function_, "frames", x, {{"M", kAny}, {"I", inputs()}},
                                         Layout::last_contiguous);
    std::int64_t left = from.shape[0], longest = 0;
    for (const std::int64_t length : own) {
      if (length < 0 || length > left) {
        throw py::value_error(function_ + ": lengths has the entry " + std::to_string(length) +
                              ", expected 0 or more, and together the " +
                              std::to_string(from.shape[0]) + " frames");
      }
      left -= length;
      longest = std::max(longest, length);
    }
    if (left != 0) {
      throw py::value_error(function_ + ": lengths leave " + std::to_string(left) + " of the " +
                            std::to_string(from.shape[0]) + " frames to nobody");
    }
    py::array_t<float> y = new_array(function_, {from.shape[0], outputs()});
    run(ids, {longest, own.data(), from.data, from.strides[0], 0, y.mutable_data()});
    return std::move(y);
  }

  void run(const std::vector<std::int64_t>& ids, const StreamPool::Frames& frames) {
    with_streams(function_, [&](Interrupt& interrupt) {
      pool_->step(ids.data(), static_cast<std::int64_t>(ids.size()), frames, interrupt);
    });
  }

  std::string function_;
  std::unique_ptr<StreamPool> pool_;
  Object to_float32_;
};

}  // namespace

[[gnu::cold]] void register_stream_pool(py::module_& m, py::class_<BoundRecurrent>& recurrent) {
  py::class_<BoundPool>(m, "StreamPool", py::is_final(), constructed_by_new())
      .def("step", &BoundPool::step, py::arg("ids"), py::arg("frames"),
           py::arg("lengths") = py::none())
      .def("push", &BoundPool::push, py::arg("id"), py::arg("frame"));
  recurrent.def(
      "pool",
      [](const BoundRecurrent& net, const BoundSlots& slots, py::function to_float32) {
        return std::make_unique<BoundPool>(net, slots, std::move(to_float32));
      },
      py::arg("slots"), py::kw_only(), py::arg("to_float32"));
}

}  // namespace treadle

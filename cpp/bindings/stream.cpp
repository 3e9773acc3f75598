// The Python class Stream checks its arguments and calls engine/recurrent/stream.
#include "engine/recurrent/stream.h"

#include <algorithm>
#include <memory>
#include <optional>

#include "bindings/construct.h"
#include "bindings/gil.h"
#include "bindings/recurrent.h"

namespace treadle {
namespace {

using Object = py::object;

// A stream and the name that errors begin with.
class BoundStream {
 public:
  BoundStream(const BoundRecurrent& net, std::int64_t batch, Object to_float32)
      : function_(net.function + ".stream"),
        stream_(make(net, batch)),
        to_float32_(std::move(to_float32)) {}

  Object step(const Object& x, const Object& out) {
    const std::string& f = function_;
    const Object in = as_float32(x);
    const Axis B{"B", stream_->batch()}, I{"I", shape().input_size};
    const View<const float> from = check_array<float>(f, "x", in, {B, I}, Layout::last_contiguous);
    const std::int64_t S = shape().state_size();
    Object result = out;
    if (out.is_none()) {
      result = new_array(f, {stream_->batch(), S});
    }
    const View<float> to = check_output(f, "out", result, {B, {shape().proj_size ? "P" : "H", S}});
    if (!out.is_none()) check_apart(from, stream_->batch(), to, stream_->batch() * S);
    run(1, from.data, 0, from.strides[0], to.data, 0, S);
    return result;
  }

  Object run_chunk(const Object& x) {
    const std::string& f = function_;
    const Object in = as_float32(x);
    const std::int64_t B = stream_->batch(), S = shape().state_size();
    const View<const float> from = check_array<float>(
        f, "x", in, {{"T", kAny}, {"B", B}, {"I", shape().input_size}}, Layout::last_contiguous);
    py::array_t<float> y = new_array(f, {from.shape[0], B, S});
    run(from.shape[0], from.data, from.strides[0], from.strides[1], y.mutable_data(), B * S, S);
    return std::move(y);
  }

  void reset(const Object& rows, const Object& h, const Object& c) {
    const std::int64_t B = stream_->batch();
    std::vector<std::uint8_t> chosen;
    if (!rows.is_none()) {
      chosen.assign(static_cast<std::size_t>(B), 0);
      if (py::isinstance<py::array_t<bool>>(rows)) {
        // The flags are read as bytes, since a view of other memory may hold more than 0 and 1.
        const auto* flags = reinterpret_cast<const std::uint8_t*>(
            optional_array<bool>(function_, "rows", rows, {{"B", B}}));
        chosen.assign(flags, flags + B);
      } else {
        const auto list =
            check_array<std::int64_t>(function_, "rows", rows, {{"N", kAny}}, Layout::contiguous);
        for (std::int64_t i = 0; i < list.shape[0]; ++i) {
          const std::int64_t row = list.data[i];
          if (row < 0 || row >= B) {
            throw py::value_error(function_ + ": rows has the entry " + std::to_string(row) +
                                  ", expected 0 to B - 1 with B = " + std::to_string(B));
          }
          chosen[row] = 1;
        }
      }
    }
    set(rows.is_none() ? nullptr : chosen.data(), h, c);
  }

  void set_state(const Object& h, const Object& c) {
    if (h.is_none() || (stream_->has_c() && c.is_none())) {
      throw py::value_error(function_ + ": state is None, expected arrays");
    }
    set(nullptr, h, c);
  }

  py::tuple get_state() {
    const std::int64_t L = stream_->net().layers(), B = stream_->batch();
    py::array_t<float> h = new_array(function_, {L, B, shape().state_size()});
    std::optional<py::array_t<float>> c;
    if (stream_->has_c()) c = new_array(function_, {L, B, shape().hidden_size});
    float *h_data = h.mutable_data(), *c_data = c ? c->mutable_data() : nullptr;
    interruptible([&](Interrupt& interrupt) { stream_->get(h_data, c_data, interrupt); });
    return py::make_tuple(std::move(h), c ? py::object(*c) : py::none());
  }

 private:
  static std::unique_ptr<Stream> make(const BoundRecurrent& net, std::int64_t batch) {
    const std::string f = net.function + ".stream";
    if (batch < 1) {
      throw py::value_error(f + ": batch_size is " + std::to_string(batch) +
                            ", expected at least 1");
    }
    if (net.engine->direction() != Direction::forward) {
      throw py::value_error(f + ": a layer that reads backwards cannot stream");
    }
    const std::int64_t widest = std::max(net.shape().hidden_size, net.shape().state_size());
    checked_product(f, {net.engine->layers(), batch, widest, 8});
    std::unique_ptr<Stream> stream;
    interruptible([&](Interrupt&) { stream = std::make_unique<Stream>(net.engine, batch); });
    return stream;
  }

  const CellShape& shape() const { return stream_->net().cell(0).shape(); }

  // Python's converter makes a float32 array of x; it is not called if x is such an array already.
  Object as_float32(const Object& x) const {
    return has_float32_rows(x) ? x : to_float32_(function_, "x", x);
  }

  void check_apart(const View<const float>& x, std::int64_t rows, const View<float>& out,
                   std::int64_t floats) const {
    const float* first = x.data;
    const float* last = x.data;  // of the rows, wherever the strides lead
    if (rows > 0) {
      const float* end = x.data + (rows - 1) * x.strides[0];
      first = std::min(first, end);
      last = std::max(last, end);
    }
    if (out.data < last + x.shape[1] && first < out.data + floats) {
      throw py::value_error(function_ + ": out overlaps x, expected separate memory");
    }
  }

  void run(std::int64_t T, const float* x, std::int64_t x_t, std::int64_t x_b, float* y,
           std::int64_t y_t, std::int64_t y_b) {
    interruptible(
        [&](Interrupt& interrupt) { stream_->run(T, x, x_t, x_b, y, y_t, y_b, interrupt); });
  }

  void set(const std::uint8_t* rows, const Object& h, const Object& c) {
    const Axis L{"L", stream_->net().layers()}, B{"B", stream_->batch()};
    const float* h_data = optional_array<float>(
        function_, "h", h, {L, B, {shape().proj_size ? "P" : "H", shape().state_size()}});
    const float* c_data =
        optional_array<float>(function_, "c", c, {L, B, {"H", shape().hidden_size}});
    if (c_data && !stream_->has_c()) {
      throw py::value_error(function_ + ": c is given, expected None for a layer without one");
    }
    interruptible([&](Interrupt& interrupt) { stream_->set(rows, h_data, c_data, interrupt); });
  }

  std::string function_;
  std::unique_ptr<Stream> stream_;
  Object to_float32_;
};

}  // namespace

[[gnu::cold]] void register_stream(py::module_& m, py::class_<BoundRecurrent>& recurrent) {
  py::class_<BoundStream>(m, "Stream", py::is_final(), constructed_by_new())
      .def("step", &BoundStream::step, py::arg("x"), py::arg("out") = py::none())
      .def("run", &BoundStream::run_chunk, py::arg("x"))
      .def("reset", &BoundStream::reset, py::arg("rows") = py::none(), py::arg("h") = py::none(),
           py::arg("c") = py::none())
      .def("get_state", &BoundStream::get_state)
      .def("set_state", &BoundStream::set_state, py::arg("h"), py::arg("c"));
  recurrent.def(
      "stream",
      [](const BoundRecurrent& net, std::int64_t batch, py::function to_float32) {
        return std::make_unique<BoundStream>(net, batch, std::move(to_float32));
      },
      py::arg("batch_size"), py::kw_only(), py::arg("to_float32"));
}

}  // namespace treadle

// Recurrent and Stream: argument checks around the engine.
#include "engine/recurrent.h"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <optional>

#include "bindings/activation.h"
#include "bindings/arrays.h"
#include "bindings/construct.h"
#include "bindings/gil.h"
#include "engine/stream.h"
#include "runtime/isa.h"

namespace weft {
namespace {

using Object = py::object;

CellOptions parse_options(const std::string& function, const py::dict& options) {
  const py::dict activations = options["activations"];
  const auto get = [&](const char* key) {
    return activations.contains(key) ? parse_activation(function, activations[key])
                                     : Activation{Function::linear, 0, 0};
  };
  return {get("f"),
          get("g"),
          get("h"),
          py::cast<float>(options["clip"]),
          py::cast<bool>(options["input_forget"]),
          nullptr};
}

Mode parse_mode(const std::string& function, const std::string& mode) {
  if (mode == "rnn") return Mode::rnn;
  if (mode == "lstm") return Mode::lstm;
  if (mode == "gru") return Mode::gru;
  throw py::value_error(function + ": mode is '" + mode + "', expected rnn, lstm or gru");
}

Direction parse_direction(const std::string& function, const std::string& direction) {
  if (direction == "forward") return Direction::forward;
  if (direction == "reverse") return Direction::reverse;
  if (direction == "bidirectional") return Direction::bidirectional;
  throw py::value_error(function + ": direction is '" + direction +
                        "', expected forward, reverse or bidirectional");
}

// The engine's net and the name that errors begin with.
struct Net {
  std::string function;
  std::shared_ptr<const Recurrent> engine;

  const CellShape& shape() const { return engine->cell(0).shape(); }
  bool lstm() const { return shape().mode == Mode::lstm; }
};

Net make_net(const std::string& function, const std::string& mode_name, std::int64_t input_size,
             std::int64_t hidden_size, std::int64_t proj_size, std::int64_t num_layers,
             const std::string& direction_name, const std::vector<py::tuple>& weights,
             const py::dict& options) {
  const Direction direction = parse_direction(function, direction_name);
  const std::int64_t D = direction == Direction::bidirectional ? 2 : 1;
  CellShape shape{parse_mode(function, mode_name), input_size, hidden_size, proj_size,
                  py::cast<bool>(options["reset_after"])};
  const auto positive = [&](const char* name, std::int64_t value, std::int64_t least) {
    // Sizes below 2^31: products of two, times the gates, stay within 64 bits.
    if (value < least || value > INT32_MAX) {
      throw py::value_error(function + ": " + name + " is " + std::to_string(value) +
                            ", expected " + std::to_string(least) + " to 2**31 - 1");
    }
  };
  positive("input_size", input_size, 1);
  positive("hidden_size", hidden_size, 1);
  positive("proj_size", proj_size, 0);
  positive("num_layers", num_layers, 1);
  if (proj_size && shape.mode != Mode::lstm) {
    throw py::value_error(function + ": proj_size is " + std::to_string(proj_size) +
                          ", expected 0 where the mode is not lstm");
  }
  if (static_cast<std::int64_t>(weights.size()) != num_layers * D) {
    throw py::value_error(function + ": weights has " + std::to_string(weights.size()) +
                          " entries, expected " + std::to_string(num_layers * D));
  }
  const CellOptions cell_options = parse_options(function, options);
  const std::int64_t S = shape.state_size(), H = hidden_size;
  const std::int64_t G = gate_count(shape.mode);
  std::vector<Cell> cells;
  for (std::int64_t i = 0; i < num_layers * D; ++i) {
    const py::tuple& w = weights[i];
    if (w.size() != 6) {
      throw py::value_error(function + ": weights has an entry of " + std::to_string(w.size()) +
                            " arrays, expected 6");
    }
    shape.input_size = i < D ? input_size : D * S;
    const Axis gates{"G*H", G * H};
    CellWeights cw{};
    cw.weight_ih = check_array<float>(function, "weight_ih", w[0], {gates, {"I", shape.input_size}},
                                      Layout::contiguous)
                       .data;
    cw.weight_hh = check_array<float>(function, "weight_hh", w[1],
                                      {gates, {proj_size ? "P" : "H", S}}, Layout::contiguous)
                       .data;
    cw.bias_ih = optional_array<float>(function, "bias_ih", w[2], {gates});
    cw.bias_hh = optional_array<float>(function, "bias_hh", w[3], {gates});
    if (proj_size) {
      cw.weight_hr =
          check_array<float>(function, "weight_hr", w[4], {{"P", S}, {"H", H}}, Layout::contiguous)
              .data;
    }
    if (shape.mode == Mode::lstm) {
      cw.peepholes = optional_array<float>(function, "peepholes", w[5], {{"3*H", 3 * H}});
    }
    const WithoutGil native;
    cells.emplace_back(kernels(), shape, cw, cell_options);
  }
  return {function, std::make_shared<const Recurrent>(direction, std::move(cells))};
}

void check_lengths(const std::string& function, const std::int64_t* lengths, std::int64_t B,
                   std::int64_t T) {
  for (std::int64_t b = 0; b < B; ++b) {
    if (lengths[b] < 0 || lengths[b] > T) {
      throw py::value_error(function + ": lengths[" + std::to_string(b) + "] is " +
                            std::to_string(lengths[b]) +
                            ", expected 0 to T = " + std::to_string(T));
    }
  }
}

py::tuple run(const Net& net, const Object& x, const Object& h0, const Object& c0,
              const Object& lengths, const Object& mask, const Object& resets,
              const Object& reset_h, const Object& reset_c, bool batch_first) {
  const std::string& f = net.function;
  const CellShape& shape = net.shape();
  const Axis input{"I", shape.input_size};
  const View<const float> in = check_array<float>(
      f, "x", x, {{batch_first ? "B" : "T", kAny}, {batch_first ? "T" : "B", kAny}, input},
      Layout::last_contiguous);
  const int t = batch_first ? 1 : 0, b = batch_first ? 0 : 1;
  RunArgs args{};
  args.T = in.shape[t];
  args.B = in.shape[b];
  args.x = in.data;
  args.x_t = in.strides[t];
  args.x_b = in.strides[b];
  const std::int64_t states = net.engine->layers() * net.engine->directions();
  const std::int64_t S = shape.state_size(), H = shape.hidden_size, O = net.engine->output_size();
  const Axis LD{"D*L", states}, B{"B", args.B}, T{"T", args.T};
  const Axis h_size{shape.proj_size ? "P" : "H", S}, c_size{"H", H};
  args.h_0 = optional_array<float>(f, "h_0", h0, {LD, B, h_size});
  args.c_0 = optional_array<float>(f, "c_0", c0, {LD, B, c_size});
  args.lengths = optional_array<std::int64_t>(f, "lengths", lengths, {B});
  args.mask = reinterpret_cast<const std::uint8_t*>(optional_array<bool>(f, "mask", mask, {B, T}));
  args.resets =
      reinterpret_cast<const std::uint8_t*>(optional_array<bool>(f, "resets", resets, {T, B}));
  args.reset_h = optional_array<float>(f, "reset_state", reset_h, {LD, B, h_size});
  args.reset_c = optional_array<float>(f, "reset_state", reset_c, {LD, B, c_size});
  if (!net.lstm() && (args.c_0 || args.reset_c)) {
    throw py::value_error(f + ": c_0 is given, expected None for a layer without a cell state");
  }
  if (args.lengths && args.mask) {
    throw py::value_error(f + ": lengths and mask are both given, expected one of them");
  }
  // A copy: another Python thread must not change them once they have been checked.
  std::vector<std::int64_t> own_lengths;
  if (args.lengths) {
    own_lengths.assign(args.lengths, args.lengths + args.B);
    own_lengths.resize(own_lengths.size() + 1);  // data() of no rows is not null either
    args.lengths = own_lengths.data();
    check_lengths(f, args.lengths, args.B, args.T);
  }
  checked_product(f, {args.T, args.B, std::max(O, net.engine->cell(0).input_sums())});

  py::array_t<float> y = new_array(f, {in.shape[0], in.shape[1], O});
  py::array_t<float> h_n = new_array(f, {states, args.B, S});
  std::optional<py::array_t<float>> c_n;
  if (net.lstm()) c_n = new_array(f, {states, args.B, H});
  args.y = y.mutable_data();
  args.y_t = batch_first ? O : args.B * O;
  args.y_b = batch_first ? args.T * O : O;
  args.h_n = h_n.mutable_data();
  args.c_n = c_n ? c_n->mutable_data() : nullptr;
  bool finished;
  {
    WithoutGil native;
    Interrupt interrupt(WithoutGil::poll, &native);
    net.engine->run(args, interrupt);
    finished = !interrupt.stopped();
  }
  if (!finished) throw py::error_already_set();
  return py::make_tuple(std::move(y), std::move(h_n), c_n ? py::object(*c_n) : py::none());
}

// A stream and the name that errors begin with.
class BoundStream {
 public:
  BoundStream(const Net& net, std::int64_t batch)
      : function_(net.function + ".stream"), stream_(make(net, batch)) {}

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
        // As bytes: a view of other memory may hold more than 0 and 1.
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
    {
      const WithoutGil native;
      stream_->get(h_data, c_data);
    }
    return py::make_tuple(std::move(h), c ? py::object(*c) : py::none());
  }

 private:
  static std::unique_ptr<Stream> make(const Net& net, std::int64_t batch) {
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
    return std::make_unique<Stream>(net.engine, batch);
  }

  const CellShape& shape() const { return stream_->net().cell(0).shape(); }

  // What is not yet a float32 array goes through Python's converter; an array costs nothing.
  Object as_float32(const Object& x) const {
    if (py::isinstance<py::array>(x)) {
      const py::array a = py::reinterpret_borrow<py::array>(x);
      const bool fits = a.dtype().num() == py::dtype::of<float>().num() &&
                        a.dtype().byteorder() != '>' && a.ndim() > 0 &&
                        (a.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_) &&
                        a.strides(a.ndim() - 1) == a.itemsize();
      if (fits) return x;
    }
    return py::module_::import("weft._arrays").attr("to_float32")(function_, "x", x);
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
    bool finished;
    {
      WithoutGil native;
      Interrupt interrupt(WithoutGil::poll, &native);
      finished = stream_->run(T, x, x_t, x_b, y, y_t, y_b, interrupt);
    }
    if (!finished) throw py::error_already_set();
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
    const WithoutGil native;
    stream_->set(rows, h_data, c_data);
  }

  std::string function_;
  std::unique_ptr<Stream> stream_;
};

}  // namespace

void register_recurrent(py::module_& m) {
  py::class_<BoundStream>(m, "Stream", py::is_final(), constructed_by_new())
      .def("step", &BoundStream::step, py::arg("x"), py::arg("out") = py::none())
      .def("run", &BoundStream::run_chunk, py::arg("x"))
      .def("reset", &BoundStream::reset, py::arg("rows") = py::none(), py::arg("h") = py::none(),
           py::arg("c") = py::none())
      .def("get_state", &BoundStream::get_state)
      .def("set_state", &BoundStream::set_state, py::arg("h"), py::arg("c"));
  py::class_<Net>(m, "Recurrent", py::is_final(), constructed_by_new())
      .def(py::init(&make_net), py::arg("function"), py::arg("mode"), py::arg("input_size"),
           py::arg("hidden_size"), py::arg("proj_size"), py::arg("num_layers"),
           py::arg("direction"), py::arg("weights"), py::arg("options"))
      .def("run", &run, py::arg("x"), py::arg("h0"), py::arg("c0"), py::arg("lengths"),
           py::arg("mask"), py::arg("resets"), py::arg("reset_h"), py::arg("reset_c"),
           py::arg("batch_first"))
      .def(
          "stream",
          [](const Net& net, std::int64_t batch) {
            return std::make_unique<BoundStream>(net, batch);
          },
          py::arg("batch_size"))
      .def_property_readonly("weight_bytes",
                             [](const Net& net) { return net.engine->weight_bytes(); });
}

}  // namespace weft

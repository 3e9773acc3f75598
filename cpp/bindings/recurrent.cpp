// Recurrent and Stream: argument checks around the engine.
#include "engine/recurrent.h"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>

#include "bindings/activation.h"
#include "bindings/arrays.h"
#include "bindings/construct.h"
#include "bindings/gil.h"
#include "engine/gradient.h"
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

// The arrays of one layer and direction: weight_ih, weight_hh, bias_ih, bias_hh, weight_hr, peepholes.
CellWeights check_weights(const std::string& function, const CellShape& shape, const py::tuple& w) {
  if (w.size() != 6) {
    throw py::value_error(function + ": weights has an entry of " + std::to_string(w.size()) +
                          " arrays, expected 6");
  }
  const std::int64_t S = shape.state_size(), H = shape.hidden_size;
  const Axis gates{"G*H", gate_count(shape.mode) * H};
  CellWeights cw{};
  cw.weight_ih = check_array<float>(function, "weight_ih", w[0], {gates, {"I", shape.input_size}},
                                    Layout::contiguous)
                     .data;
  cw.weight_hh = check_array<float>(function, "weight_hh", w[1],
                                    {gates, {shape.proj_size ? "P" : "H", S}}, Layout::contiguous)
                     .data;
  cw.bias_ih = optional_array<float>(function, "bias_ih", w[2], {gates});
  cw.bias_hh = optional_array<float>(function, "bias_hh", w[3], {gates});
  if (shape.proj_size) {
    cw.weight_hr =
        check_array<float>(function, "weight_hr", w[4], {{"P", S}, {"H", H}}, Layout::contiguous)
            .data;
  }
  if (shape.mode == Mode::lstm) {
    cw.peepholes = optional_array<float>(function, "peepholes", w[5], {{"3*H", 3 * H}});
  }
  return cw;
}

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
  const std::int64_t S = shape.state_size();
  std::vector<Cell> cells;
  for (std::int64_t i = 0; i < num_layers * D; ++i) {
    shape.input_size = i < D ? input_size : D * S;
    const CellWeights cw = check_weights(function, shape, weights[i]);
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

// What a run is given, checked; with its own copies of what decides which steps there are: another
// Python thread must not change it meanwhile.
struct Given {
  RunArgs args{};
  std::vector<std::int64_t> lengths;
  std::vector<std::uint8_t> mask, resets;
  std::int64_t shape[2];  // of x but for the last axis
};

Given check_given(const Net& net, const Object& x, const Object& h0, const Object& c0,
                  const Object& lengths, const Object& mask, const Object& resets,
                  const Object& reset_h, const Object& reset_c, bool batch_first) {
  const std::string& f = net.function;
  const CellShape& shape = net.shape();
  const Axis input{"I", shape.input_size};
  const View<const float> in = check_array<float>(
      f, "x", x, {{batch_first ? "B" : "T", kAny}, {batch_first ? "T" : "B", kAny}, input},
      Layout::last_contiguous);
  const int t = batch_first ? 1 : 0, b = batch_first ? 0 : 1;
  Given given;
  given.shape[0] = in.shape[0];
  given.shape[1] = in.shape[1];
  RunArgs& args = given.args;
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
  if (args.lengths) {
    given.lengths.assign(args.lengths, args.lengths + args.B);
    given.lengths.resize(given.lengths.size() + 1);  // data() of no rows is not null either
    args.lengths = given.lengths.data();
    check_lengths(f, args.lengths, args.B, args.T);
  }
  checked_product(f, {args.T, args.B, std::max(O, net.engine->cell(0).input_sums())});
  const auto copy = [&](std::vector<std::uint8_t>& own, const std::uint8_t*& flags) {
    if (!flags) return;
    own.assign(flags, flags + args.T * args.B);
    own.resize(own.size() + 1);
    flags = own.data();
  };
  copy(given.mask, args.mask);
  copy(given.resets, args.resets);
  return given;
}

// The floats that the steps of a direction save, for nets of one layer.
std::int64_t saved_size(const Net& net) {
  if (net.engine->layers() != 1) {
    throw py::value_error(net.function + ": num_layers is " + std::to_string(net.engine->layers()) +
                          ", expected 1 where the backward pass is to follow");
  }
  return net.engine->cell(0).saved_size();
}

py::tuple run(const Net& net, const Object& x, const Object& h0, const Object& c0,
              const Object& lengths, const Object& mask, const Object& resets,
              const Object& reset_h, const Object& reset_c, bool batch_first, bool save) {
  const std::string& f = net.function;
  Given given = check_given(net, x, h0, c0, lengths, mask, resets, reset_h, reset_c, batch_first);
  RunArgs& args = given.args;
  const std::int64_t O = net.engine->output_size(), D = net.engine->directions();
  const std::int64_t states = net.engine->layers() * D;
  py::array_t<float> y = new_array(f, {given.shape[0], given.shape[1], O});
  py::array_t<float> h_n = new_array(f, {states, args.B, net.shape().state_size()});
  std::optional<py::array_t<float>> c_n, saved;
  if (net.lstm()) c_n = new_array(f, {states, args.B, net.shape().hidden_size});
  if (save) saved = new_array(f, {D, args.T, args.B, saved_size(net)});
  args.y = y.mutable_data();
  args.y_t = batch_first ? O : args.B * O;
  args.y_b = batch_first ? args.T * O : O;
  args.h_n = h_n.mutable_data();
  args.c_n = c_n ? c_n->mutable_data() : nullptr;
  args.saved = saved && saved->size() ? saved->mutable_data() : nullptr;
  interruptible([&](Interrupt& interrupt) { net.engine->run(args, interrupt); });
  const auto object = [](std::optional<py::array_t<float>>& array) {
    return array ? py::object(std::move(*array)) : py::none();
  };
  py::tuple result = py::make_tuple(std::move(y), std::move(h_n), object(c_n));
  return save ? py::make_tuple(result[0], result[1], result[2], object(saved)) : result;
}

// (dx, [weight_ih, weight_hh, bias_ih, bias_hh, weight_hr, peepholes] of each direction, dh_0, dc_0,
// dreset_h, dreset_c): the gradients of what `run` was given, from those of its results. A dx that
// nobody wants costs a quarter of the products where I = H: None without `want_x`.
py::tuple backward(const Net& net, const std::vector<py::tuple>& weights, const Object& x,
                   const Object& y, const Object& h0, const Object& c0, const Object& lengths,
                   const Object& mask, const Object& resets, const Object& reset_h,
                   const Object& reset_c, bool batch_first, const Object& saved, const Object& dy,
                   const Object& dh_n, const Object& dc_n, bool want_x) {
  const std::string& f = net.function;
  const Given given =
      check_given(net, x, h0, c0, lengths, mask, resets, reset_h, reset_c, batch_first);
  const RunArgs& args = given.args;
  const CellShape& shape = net.shape();
  const std::int64_t T = args.T, B = args.B, I = shape.input_size, H = shape.hidden_size;
  const std::int64_t S = shape.state_size(), O = net.engine->output_size(), D = O / S;
  const std::int64_t size = saved_size(net);
  const Axis first{batch_first ? "B" : "T", given.shape[0]};
  const Axis second{batch_first ? "T" : "B", given.shape[1]}, outputs{"D*H", O};
  const Axis rows{"B", B}, directions{"D", D}, h_axis{shape.proj_size ? "P" : "H", S};
  const int t = batch_first ? 1 : 0, b = batch_first ? 0 : 1;
  BackPass pass{};
  pass.T = T;
  pass.B = B;
  pass.x = args.x;
  pass.x_t = args.x_t;
  pass.x_b = args.x_b;
  const auto out = check_array<float>(f, "y", y, {first, second, outputs}, Layout::last_contiguous);
  pass.y_t = out.strides[t];
  pass.y_b = out.strides[b];
  View<const float> d_out;
  if (!dy.is_none()) {
    d_out = check_array<float>(f, "dy", dy, {first, second, outputs}, Layout::last_contiguous);
    pass.dy_t = d_out.strides[t];
    pass.dy_b = d_out.strides[b];
  }
  const float* d_h = optional_array<float>(f, "dh_n", dh_n, {directions, rows, h_axis});
  const float* d_c = optional_array<float>(f, "dc_n", dc_n, {directions, rows, {"H", H}});
  if (d_c && !net.lstm()) {
    throw py::value_error(f + ": dc_n is given, expected None for a layer without a cell state");
  }
  const float* kept =
      optional_array<float>(f, "saved", saved, {directions, {"T", T}, rows, {"saved", size}});
  if (!kept) throw py::value_error(f + ": saved is None, expected what the forward pass saved");
  if (static_cast<std::int64_t>(weights.size()) != D) {
    throw py::value_error(f + ": weights has " + std::to_string(weights.size()) +
                          " entries, expected " + std::to_string(D));
  }
  checked_product(f, {T, B, 4 * H});
  pass.lengths = args.lengths;
  pass.mask = args.mask;
  pass.resets = args.resets;

  const auto zeros = [&](std::vector<std::int64_t> sizes) {
    py::array_t<float> array = new_array(f, std::move(sizes));
    std::memset(array.mutable_data(), 0, static_cast<std::size_t>(array.nbytes()));
    return array;
  };
  const auto wanted = [&](bool yes, std::vector<std::int64_t> sizes) {
    return yes ? py::object(zeros(std::move(sizes))) : py::none();
  };
  const auto data = [](const py::object& array) {
    return array.is_none() ? nullptr
                           : py::reinterpret_borrow<py::array_t<float>>(array).mutable_data();
  };
  const py::object dx =
      want_x ? py::object(new_array(f, {given.shape[0], given.shape[1], I})) : py::none();
  const py::object dh_0 = wanted(true, {D, B, S}), dc_0 = wanted(net.lstm(), {D, B, H});
  const py::object dreset_h = wanted(args.resets, {D, B, S});
  const py::object dreset_c = wanted(args.resets && net.lstm(), {D, B, H});
  pass.dx = data(dx);
  pass.dx_t = batch_first ? I : B * I;
  pass.dx_b = batch_first ? T * I : I;
  py::list gradients;
  for (std::int64_t d = 0; d < D; ++d) {
    const auto at = [&](const float* from, std::int64_t floats) {
      return from ? from + d * B * floats : nullptr;
    };
    const auto to = [&](const py::object& array, std::int64_t floats) {
      float* first_of = data(array);
      return first_of ? first_of + d * B * floats : nullptr;
    };
    const Cell& cell = net.engine->cell(d);
    const CellWeights w = check_weights(f, shape, weights[d]);
    const std::int64_t G = gate_count(shape.mode) * H;
    const py::object ih = wanted(true, {G, I}), hh = wanted(true, {G, S});
    const py::object bias_ih = wanted(w.bias_ih, {G}), bias_hh = wanted(w.bias_hh, {G});
    const py::object hr = wanted(w.weight_hr, {S, H}), peep = wanted(w.peepholes, {3 * H});
    pass.reverse = d == 1 || net.engine->direction() == Direction::reverse;
    pass.add = d == 1;
    pass.y = out.data + d * S;
    pass.dy = d_out.data ? d_out.data + d * S : nullptr;
    pass.saved = kept + d * T * B * size;
    pass.h_0 = at(args.h_0, S);
    pass.c_0 = at(args.c_0, H);
    pass.reset_h = at(args.reset_h, S);
    pass.reset_c = at(args.reset_c, H);
    pass.dh_n = at(d_h, S);
    pass.dc_n = at(d_c, H);
    pass.weight_ih = data(ih);
    pass.weight_hh = data(hh);
    pass.bias_ih = data(bias_ih);
    pass.bias_hh = data(bias_hh);
    pass.weight_hr = data(hr);
    pass.peepholes = data(peep);
    pass.dh_0 = to(dh_0, S);
    pass.dc_0 = to(dc_0, H);
    pass.dreset_h = to(dreset_h, S);
    pass.dreset_c = to(dreset_c, H);
    interruptible([&](Interrupt& interrupt) {
      if (pass.dx && !pass.add) {
        std::memset(pass.dx, 0, static_cast<std::size_t>(T * B * I) * sizeof(float));
      }
      Gradient(cell, w).run(pass, interrupt);
    });
    gradients.append(py::make_tuple(ih, hh, bias_ih, bias_hh, hr, peep));
  }
  return py::make_tuple(dx, std::move(gradients), dh_0, dc_0, dreset_h, dreset_c);
}

// Whether two lists of contiguous float32 arrays have the same shapes and bytes. Asked in every call of
// a module of weft.torch: no conversions.
bool same_bits(const py::list& a, const py::list& b) {
  if (a.size() != b.size()) return false;
  const int float32 = py::dtype::of<float>().num();
  const auto checked = [&](const py::handle& value) {
    if (!py::isinstance<py::array>(value)) throw py::type_error("same_bits: expected NumPy arrays");
    const auto array = py::reinterpret_borrow<py::array>(value);
    if (array.dtype().num() != float32 || !(array.flags() & py::array::c_style)) {
      throw py::type_error("same_bits: expected contiguous arrays of float32");
    }
    return array;
  };
  for (std::size_t i = 0; i < a.size(); ++i) {
    const py::array left = checked(a[i]), right = checked(b[i]);
    const py::ssize_t axes = left.ndim();
    if (axes != right.ndim() || !std::equal(left.shape(), left.shape() + axes, right.shape())) {
      return false;
    }
    const auto bytes = static_cast<std::size_t>(left.nbytes());
    if (bytes && std::memcmp(left.data(), right.data(), bytes) != 0) return false;
  }
  return true;
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
  m.def("same_bits", &same_bits, py::arg("a"), py::arg("b"));
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
           py::arg("batch_first"), py::arg("save") = false)
      .def("backward", &backward, py::arg("weights"), py::arg("x"), py::arg("y"), py::arg("h0"),
           py::arg("c0"), py::arg("lengths"), py::arg("mask"), py::arg("resets"),
           py::arg("reset_h"), py::arg("reset_c"), py::arg("batch_first"), py::arg("saved"),
           py::arg("dy"), py::arg("dh_n"), py::arg("dc_n"), py::arg("want_x") = true)
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

#include "bindings/checked_inputs.h"

#include <algorithm>

namespace treadle {
namespace {

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

}  // namespace

CheckedInputs check_inputs(const BoundRecurrent& net, const py::object& x, const py::object& h0,
                           const py::object& c0, const py::object& lengths, const py::object& mask,
                           const py::object& resets, const py::object& reset_h,
                           const py::object& reset_c, bool batch_first) {
  const std::string& f = net.function;
  const CellShape& shape = net.shape();
  const Axis input{"I", shape.input_size};
  const View<const float> in = check_array<float>(
      f, "x", x, {{batch_first ? "B" : "T", kAny}, {batch_first ? "T" : "B", kAny}, input},
      Layout::last_contiguous);
  const int t = batch_first ? 1 : 0, b = batch_first ? 0 : 1;
  CheckedInputs given;
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

}  // namespace treadle

#include "bindings/bound_recurrent.h"

#include <pybind11/stl.h>

#include <string>
#include <utility>

#include "bindings/activation.h"
#include "bindings/dtype.h"
#include "bindings/gil.h"
#include "bindings/named_values.h"
#include "runtime/isa.h"

namespace treadle {
namespace {

CellOptions take_options(const std::string& function, NamedValues& keywords) {
  const auto activations = keywords.require<py::dict>("activations");
  const auto get = [&](const char* key) {
    return activations.contains(key) ? parse_activation(function, activations[key])
                                     : Activation{ActivationFunction::linear, 0, 0};
  };
  return {get("f"),
          get("g"),
          get("h"),
          keywords.take<float>("clip", 0.0f),
          keywords.take<bool>("input_forget", false),
          nullptr};
}

Direction parse_direction(const std::string& function, const std::string& direction) {
  if (direction == "forward") return Direction::forward;
  if (direction == "reverse") return Direction::reverse;
  if (direction == "bidirectional") return Direction::bidirectional;
  throw py::value_error(function + ": direction is '" + direction +
                        "', expected forward, reverse or bidirectional");
}

std::string require_text(const std::string& function, const py::handle& value) {
  if (py::isinstance<py::str>(value)) return py::cast<std::string>(value);
  throw py::type_error(function + ": dtype is of type " + Py_TYPE(value.ptr())->tp_name +
                       ", expected a str or a list of them");
}

// Reads the dtype of all layers, or a list with one for each.
std::vector<Dtype> parse_dtypes(const std::string& function, const py::object& value,
                                std::int64_t num_layers) {
  if (!py::isinstance<py::list>(value)) {
    return std::vector<Dtype>(num_layers, parse_dtype(function, require_text(function, value)));
  }
  const py::tuple names(value);  // another thread may change the list
  if (static_cast<std::int64_t>(names.size()) != num_layers) {
    throw py::value_error(function + ": dtype has " + std::to_string(names.size()) +
                          " items, expected " + std::to_string(num_layers));
  }
  std::vector<Dtype> dtypes;
  for (const py::handle name : names) {
    dtypes.push_back(parse_dtype(function, require_text(function, name)));
  }
  return dtypes;
}

// Throws ValueError unless there are weights for each of so many layers and directions.
void check_count(const std::string& function, const std::vector<py::dict>& weights,
                 std::int64_t count) {
  if (static_cast<std::int64_t>(weights.size()) == count) return;
  throw py::value_error(function + ": weights has " + std::to_string(weights.size()) +
                        " entries, expected " + std::to_string(count));
}

}  // namespace

Mode parse_mode(const std::string& function, const std::string& mode) {
  if (mode == "rnn") return Mode::rnn;
  if (mode == "lstm") return Mode::lstm;
  if (mode == "gru") return Mode::gru;
  throw py::value_error(function + ": mode is '" + mode + "', expected rnn, lstm or gru");
}

CheckedWeights check_weights(const std::string& function, const CellShape& shape,
                             const py::dict& weights, Dtype dtype) {
  CheckedWeights checked{};
  NamedValues values(function, "weights", weights);
  for (std::size_t i = 0; i < checked.owners.size(); ++i) {
    checked.owners[i] = values.take(kWeightNames[i]);
  }
  values.finish();
  const auto& [weight_ih, weight_hh, bias_ih, bias_hh, weight_hr, peepholes] = checked.owners;
  const std::int64_t S = shape.state_size(), H = shape.hidden_size;
  const Axis gates{"G*H", gate_count(shape.mode) * H};
  CellWeights& arrays = checked.arrays;
  const auto matrix = [&](const char* name, const py::object& value, Axis rows, Axis columns) {
    return check_weight(function, name, value, dtype, rows, columns).matrix;
  };
  arrays.weight_ih = matrix("weight_ih", weight_ih, gates, {"I", shape.input_size});
  arrays.weight_hh = matrix("weight_hh", weight_hh, gates, {shape.proj_size ? "P" : "H", S});
  arrays.bias_ih = optional_array<float>(function, "bias_ih", bias_ih, {gates});
  arrays.bias_hh = optional_array<float>(function, "bias_hh", bias_hh, {gates});
  if (shape.proj_size) arrays.weight_hr = matrix("weight_hr", weight_hr, {"P", S}, {"H", H});
  if (shape.mode == Mode::lstm) {
    arrays.peepholes = optional_array<float>(function, "peepholes", peepholes, {{"3*H", 3 * H}});
  }
  return checked;
}

BoundRecurrent make_recurrent(const std::string& function, const std::vector<py::dict>& weights,
                              const py::kwargs& spec) {
  NamedValues keywords(function, "a recurrent net", spec);
  const auto size = [&](const char* name, std::int64_t value, std::int64_t least) {
    // Sizes are below 2^31, so that products of two, times the gates, fit in 64 bits.
    if (value < least || value > INT32_MAX) {
      throw py::value_error(function + ": " + name + " is " + std::to_string(value) +
                            ", expected " + std::to_string(least) + " to 2**31 - 1");
    }
    return value;
  };
  CellShape shape{};
  shape.mode = parse_mode(function, keywords.require<std::string>("mode"));
  const std::int64_t input_size =
      size("input_size", keywords.require<std::int64_t>("input_size"), 1);
  shape.hidden_size = size("hidden_size", keywords.require<std::int64_t>("hidden_size"), 1);
  shape.proj_size = size("proj_size", keywords.take<std::int64_t>("proj_size", 0), 0);
  shape.reset_after = keywords.take<bool>("reset_after", true);
  const std::int64_t num_layers =
      size("num_layers", keywords.take<std::int64_t>("num_layers", 1), 1);
  const Direction direction =
      parse_direction(function, keywords.take<std::string>("direction", "forward"));
  const CellOptions options = take_options(function, keywords);
  const bool packed = keywords.take<bool>("packed", true);
  const py::object dtype_names =
      spec.contains("dtype") ? keywords.take("dtype") : py::str("float32");
  keywords.finish();
  if (shape.proj_size && shape.mode != Mode::lstm) {
    throw py::value_error(function + ": proj_size is " + std::to_string(shape.proj_size) +
                          ", expected 0 where the mode is not lstm");
  }
  const std::int64_t D = direction == Direction::bidirectional ? 2 : 1;
  check_count(function, weights, num_layers * D);
  const std::vector<Dtype> dtypes = parse_dtypes(function, dtype_names, num_layers);
  std::vector<Cell> cells;
  py::list kept;
  for (std::int64_t i = 0; i < num_layers * D; ++i) {
    shape.input_size = i < D ? input_size : D * shape.state_size();
    const CheckedWeights checked = check_weights(function, shape, weights[i], dtypes[i / D]);
    if (!packed && (dtypes[i / D] != Dtype::float32 || checked.arrays.peepholes ||
                    (shape.mode == Mode::gru && !shape.reset_after))) {
      throw py::value_error(function +
                            ": packed is False, expected True for other dtypes than float32, "
                            "peepholes and a reset before the product");
    }
    interruptible([&](Interrupt&) {
      cells.emplace_back(kernels(), shape, checked.arrays, options, !packed);
    });
    if (!packed) kept.append(py::cast(checked.owners));
  }
  return {function, std::make_shared<const RecurrentStack>(direction, std::move(cells)),
          packed ? py::object() : std::move(kept)};
}

BoundRecurrent renewed(const BoundRecurrent& net, const std::vector<py::dict>& weights) {
  const RecurrentStack& old = *net.engine;
  if (net.weights) throw py::value_error(net.function + ": the net has not packed its weights");
  const std::int64_t count = old.layers() * old.directions();
  check_count(net.function, weights, count);
  std::vector<Cell> cells;
  for (std::int64_t i = 0; i < count; ++i) {
    const Cell& cell = old.cell(i);
    const CheckedWeights checked =
        check_weights(net.function, cell.shape(), weights[i], cell.dtype());
    CellOptions options = cell.options();
    options.peepholes = nullptr;  // the new cell has its own
    interruptible(
        [&](Interrupt&) { cells.emplace_back(kernels(), cell.shape(), checked.arrays, options); });
  }
  const auto engine = std::make_shared<RecurrentStack>(old.direction(), std::move(cells));
  engine->take_buffers(old);
  return {net.function, engine, {}};
}

std::int64_t BoundRecurrent::saved_size(bool recompute) const {
  if (engine->layers() != 1) {
    throw py::value_error(function + ": num_layers is " + std::to_string(engine->layers()) +
                          ", expected 1 where the backward pass is to follow");
  }
  return engine->cell(0).saved_size(recompute);
}

void BoundRecurrent::check_backward() const {
  if (engine->cell(0).dtype() != Dtype::float32) {
    throw py::value_error(function + ": the backward pass needs weights of float32");
  }
}

}  // namespace treadle

#include "bindings/bound_recurrent.h"

#include <algorithm>
#include <utility>

#include "bindings/activation.h"
#include "bindings/dtype.h"
#include "bindings/gil.h"
#include "runtime/isa.h"

namespace treadle {
namespace {

CellOptions parse_options(const std::string& function, const py::dict& options) {
  const py::dict activations = options["activations"];
  const auto get = [&](const char* key) {
    return activations.contains(key) ? parse_activation(function, activations[key])
                                     : Activation{ActivationFunction::linear, 0, 0};
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

}  // namespace

CellWeights check_weights(const std::string& function, const CellShape& shape, const py::tuple& w,
                          Dtype dtype) {
  if (w.size() != 6) {
    throw py::value_error(function + ": weights has an entry of " + std::to_string(w.size()) +
                          " arrays, expected 6");
  }
  const std::int64_t S = shape.state_size(), H = shape.hidden_size;
  const Axis gates{"G*H", gate_count(shape.mode) * H};
  CellWeights cw{};
  const auto matrix = [&](const char* name, int index, Axis rows, Axis columns) {
    return check_weight(function, name, w[index], dtype, rows, columns).matrix;
  };
  cw.weight_ih = matrix("weight_ih", 0, gates, {"I", shape.input_size});
  cw.weight_hh = matrix("weight_hh", 1, gates, {shape.proj_size ? "P" : "H", S});
  cw.bias_ih = optional_array<float>(function, "bias_ih", w[2], {gates});
  cw.bias_hh = optional_array<float>(function, "bias_hh", w[3], {gates});
  if (shape.proj_size) cw.weight_hr = matrix("weight_hr", 4, {"P", S}, {"H", H});
  if (shape.mode == Mode::lstm) {
    cw.peepholes = optional_array<float>(function, "peepholes", w[5], {{"3*H", 3 * H}});
  }
  return cw;
}

BoundRecurrent make_net(const std::string& function, const std::string& mode_name,
                        std::int64_t input_size, std::int64_t hidden_size, std::int64_t proj_size,
                        std::int64_t num_layers, const std::string& direction_name,
                        const std::vector<py::tuple>& weights, const py::dict& options) {
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
  const Dtype dtype = parse_dtype(function, py::cast<std::string>(options["dtype"]));
  const std::int64_t S = shape.state_size();
  std::vector<Cell> cells;
  for (std::int64_t i = 0; i < num_layers * D; ++i) {
    shape.input_size = i < D ? input_size : D * S;
    const CellWeights cw = check_weights(function, shape, weights[i], dtype);
    const WithoutGil native;
    cells.emplace_back(kernels(), shape, cw, cell_options);
  }
  return {function, std::make_shared<const RecurrentStack>(direction, std::move(cells))};
}

std::int64_t BoundRecurrent::saved_size(bool recompute) const {
  if (engine->layers() != 1) {
    throw py::value_error(function + ": num_layers is " + std::to_string(engine->layers()) +
                          ", expected 1 where the backward pass is to follow");
  }
  if (engine->cell(0).dtype() != Dtype::float32) {
    throw py::value_error(function + ": the backward pass needs weights of float32");
  }
  return engine->cell(0).saved_size(recompute);
}

}  // namespace treadle

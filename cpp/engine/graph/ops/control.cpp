// If, Loop and Scan: operators that run subprograms, and treadle.Require, which stops a run. The
// values that a subprogram reads from the graph around it are the last inputs of the node, and of
// the subprogram (treadle.graph.plan).
#include <algorithm>
#include <cstring>
#include <vector>

#include "engine/graph/ops/activation.h"
#include "engine/graph/ops/families.h"
#include "engine/graph/program.h"

namespace treadle::graph {
namespace {

// Values that a call owns: their blocks are released with it.
class Owned {
 public:
  explicit Owned(Workspace& workspace) : workspace_(workspace) {}
  ~Owned() { clear(); }
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;

  std::vector<Tensor> values;

  void clear() {
    for (Tensor& value : values) {
      if (value.block) workspace_.release(value.block);
    }
    values.clear();
  }

 private:
  Workspace& workspace_;
};

// Runs a subprogram; `outputs` owns what it returns.
void run_program(Call& call, const Program& program, const std::vector<Tensor>& inputs,
                 Owned& outputs) {
  if (static_cast<int>(inputs.size()) != program.inputs()) {
    refuse("a subgraph takes " + std::to_string(program.inputs()) + " inputs, " +
           std::to_string(inputs.size()) + " are given");
  }
  outputs.clear();
  outputs.values.resize(program.outputs());
  Execution execution{call.execution().workspace, call.execution().interrupt,
                      call.execution().depth + 1};
  program.run(execution, inputs.data(), outputs.values.data());
}

// A value that shares memory with nobody who may free it earlier: it can be handed to others.
Tensor shared(Call& call, const Tensor& value) {
  if (value.block) call.execution().workspace.share(value.block);
  return value;
}

// Returns the only element of a condition.
bool condition(const Tensor& value) {
  if (value.type != Type::boolean || value.count() != 1) {
    refuse("a condition has dtype " + std::string(name_of(value.type)) + " and shape " +
           value.shape.text() + ", expected one bool");
  }
  return *value.as<std::uint8_t>() != 0;
}

// The inputs [first, end) of a call. A missing one is refused.
std::vector<Tensor> inputs_from(const Call& call, int first, int end) {
  std::vector<Tensor> values;
  for (int i = first; i < end; ++i) values.push_back(call.input(i));
  return values;
}

int captures_of(const NodeDescription& node) {
  const std::int64_t captures = node.integer("captures", 0);
  if (captures < 0 || captures > 4096) refuse("captures is " + std::to_string(captures));
  return static_cast<int>(captures);
}

std::unique_ptr<Operator> make_if(const NodeDescription& node) {
  const auto then_branch = node.native<Program>("then_branch");
  const auto else_branch = node.native<Program>("else_branch");
  for (const auto& branch : {then_branch, else_branch}) {
    if (branch->outputs() != node.outputs) refuse("a branch has another number of outputs");
  }
  return make_operator([then_branch, else_branch](Call& call) {
    const Program& branch = condition(call.input(0)) ? *then_branch : *else_branch;
    Owned results(call.execution().workspace);
    run_program(call, branch, inputs_from(call, 1, call.inputs()), results);
    for (int i = 0; i < call.outputs(); ++i) call.adopt(i, std::move(results.values[i]));
  });
}

// The values that a scan makes one after the other, joined along an axis.
class Stacked {
 public:
  Stacked(Call& call, int output, std::int64_t axis, bool reverse)
      : call_(call), output_(output), axis_(axis), reverse_(reverse) {}

  void add(const Tensor& value, Owned& keeper) {
    if (!parts_.empty() && (parts_[0].type != value.type || parts_[0].shape != value.shape)) {
      refuse("a scanned output changes its dtype or shape");
    }
    parts_.push_back(shared(call_, value));
    keeper.values.push_back(parts_.back());
  }

  // Makes the output. Without a step its shape is not known but for the axis: it is [0].
  void finish() {
    if (parts_.empty()) {
      call_.output(output_, Type::float32, {0});
      return;
    }
    const Tensor& one = parts_[0];
    const int axis = checked_axis(axis_, one.shape.rank() + 1);
    const auto steps = static_cast<std::int64_t>(parts_.size());
    Tensor& all = call_.output(output_, one.type, one.shape.inserted(axis, steps));
    const std::int64_t outer = one.shape.count(0, axis);
    const std::int64_t bytes = one.shape.count(axis, one.shape.rank()) * size_of(one.type);
    if (bytes == 0) return;
    for (std::int64_t s = 0; s < steps; ++s) {
      const std::int64_t place = reverse_ ? steps - 1 - s : s;
      for (std::int64_t o = 0; o < outer; ++o) {
        std::memcpy(all.data + (o * steps + place) * bytes, parts_[s].data + o * bytes,
                    static_cast<std::size_t>(bytes));
      }
    }
  }

 private:
  Call& call_;
  int output_;
  std::int64_t axis_;
  bool reverse_;
  std::vector<Tensor> parts_;
};

// Loop: inputs M?, cond?, the carried values, the captures; the body takes the number of the step,
// the condition and the carried values, and returns a condition, carried values and scanned ones.
std::unique_ptr<Operator> make_loop(const NodeDescription& node) {
  const auto body = node.native<Program>("body");
  const int captures = captures_of(node), outputs = node.outputs;
  const int inputs = static_cast<int>(node.constants.size());
  const int carried = inputs - 2 - captures, scanned = outputs - carried;
  if (carried < 0 || scanned < 0 || body->inputs() != carried + 2 + captures ||
      body->outputs() != 1 + outputs) {
    refuse("the body does not fit the node");
  }
  return make_operator([body, captures, carried, scanned](Call& call) {
    Workspace& workspace = call.execution().workspace;
    const std::int64_t most = call.has(0) ? call.integer(0) : INT64_MAX;
    std::uint8_t going = call.has(1) ? condition(call.input(1)) : 1;
    const std::vector<Tensor> captured = inputs_from(call, call.inputs() - captures, call.inputs());
    Owned state(workspace), results(workspace), kept(workspace);
    for (int i = 0; i < carried; ++i) {
      state.values.push_back(shared(call, call.input(2 + i)));
    }
    std::vector<Stacked> stacked;
    for (int i = 0; i < scanned; ++i) stacked.emplace_back(call, carried + i, 0, false);
    std::vector<Tensor> in;
    for (std::int64_t step = 0; step < most && going; ++step) {
      Tensor number{Type::int64, Shape(), reinterpret_cast<char*>(&step), nullptr};
      Tensor flag{Type::boolean, Shape(), reinterpret_cast<char*>(&going), nullptr};
      in = {number, flag};
      in.insert(in.end(), state.values.begin(), state.values.end());
      in.insert(in.end(), captured.begin(), captured.end());
      run_program(call, *body, in, results);
      // The body may return the number or the flag itself, whose memory ends with this step.
      for (Tensor& value : results.values) {
        if (value.data != number.data && value.data != flag.data) continue;
        Block* block = workspace.take(value.bytes());
        std::memcpy(block->data, value.data, static_cast<std::size_t>(value.bytes()));
        value.data = block->data;
        value.block = block;
      }
      going = condition(results.values[0]);
      state.clear();
      for (int i = 0; i < carried; ++i) {
        state.values.push_back(shared(call, results.values[1 + i]));
      }
      for (int i = 0; i < scanned; ++i) stacked[i].add(results.values[1 + carried + i], kept);
      call.interrupt().progress(1000);
      stop_if_interrupted(call);
    }
    for (int i = 0; i < carried; ++i) call.adopt(i, std::move(state.values[i]));
    for (Stacked& one : stacked) one.finish();
  });
}

// Copies entry `i` along an axis of a value, without that axis.
Tensor entry(const Tensor& value, int axis, std::int64_t i, char* to) {
  const std::int64_t outer = value.shape.count(0, axis), size = value.shape[axis];
  const std::int64_t bytes = value.shape.count(axis + 1, value.shape.rank()) * size_of(value.type);
  for (std::int64_t o = 0; o < outer && bytes; ++o) {
    std::memcpy(to + o * bytes, value.data + (o * size + i) * bytes,
                static_cast<std::size_t>(bytes));
  }
  return Tensor{value.type, value.shape.without(axis), to, nullptr};
}

// Scan: inputs are the states, the scanned inputs and the captures.
std::unique_ptr<Operator> make_scan(const NodeDescription& node) {
  const auto body = node.native<Program>("body");
  const int captures = captures_of(node);
  const int inputs = static_cast<int>(node.constants.size());
  const std::int64_t scanned_inputs = node.integer("num_scan_inputs");
  if (scanned_inputs < 1 || scanned_inputs > inputs - captures) {
    refuse("num_scan_inputs is " + std::to_string(scanned_inputs));
  }
  const int scans = static_cast<int>(scanned_inputs), states = inputs - captures - scans;
  const int outputs = node.outputs - states;
  if (outputs < 0 || body->inputs() != inputs || body->outputs() != node.outputs) {
    refuse("the body does not fit the node");
  }
  const auto list = [&](const char* name, int count) {
    std::vector<std::int64_t> values = node.integers(name, std::vector<std::int64_t>(count));
    if (static_cast<int>(values.size()) != count) {
      refuse(std::string(name) + " has " + std::to_string(values.size()) + " numbers, expected " +
             std::to_string(count));
    }
    return values;
  };
  const auto in_axes = list("scan_input_axes", scans),
             in_back = list("scan_input_directions", scans);
  const auto out_axes = list("scan_output_axes", outputs),
             out_back = list("scan_output_directions", outputs);
  return make_operator([=](Call& call) {
    Workspace& workspace = call.execution().workspace;
    Owned state(workspace), results(workspace), kept(workspace);
    for (int i = 0; i < states; ++i) state.values.push_back(shared(call, call.input(i)));
    std::vector<int> axes;
    std::int64_t steps = 0;
    for (int i = 0; i < scans; ++i) {
      const Tensor& value = call.input(states + i);
      axes.push_back(checked_axis(in_axes[i], value.shape.rank()));
      const std::int64_t size = value.shape[axes[i]];
      if (i > 0 && size != steps) refuse("the scanned inputs have different lengths");
      steps = size;
    }
    const std::vector<Tensor> captured = inputs_from(call, call.inputs() - captures, call.inputs());
    std::vector<Stacked> stacked;
    for (int i = 0; i < outputs; ++i) {
      stacked.emplace_back(call, states + i, out_axes[i], out_back[i] != 0);
    }
    for (std::int64_t step = 0; step < steps; ++step) {
      Owned entries(workspace);  // of this step; the body may return them
      std::vector<Tensor> in(state.values);
      for (int i = 0; i < scans; ++i) {
        const Tensor& value = call.input(states + i);
        Block* block = workspace.take(value.bytes() / std::max<std::int64_t>(steps, 1));
        Tensor one = entry(value, axes[i], in_back[i] ? steps - 1 - step : step, block->data);
        one.block = block;
        entries.values.push_back(one);
        in.push_back(one);
      }
      in.insert(in.end(), captured.begin(), captured.end());
      run_program(call, *body, in, results);
      state.clear();
      for (int i = 0; i < states; ++i) state.values.push_back(shared(call, results.values[i]));
      for (int i = 0; i < outputs; ++i) stacked[i].add(results.values[states + i], kept);
      stop_if_interrupted(call);
    }
    for (int i = 0; i < states; ++i) call.adopt(i, std::move(state.values[i]));
    for (Stacked& one : stacked) one.finish();
  });
}

// treadle.Require hands its input on where a condition holds, and refuses the run otherwise.
class Require : public Operator {
 public:
  explicit Require(std::string message) : message_(std::move(message)) {}

  void run(Call& call) const override {
    if (!condition(call.input(1))) refuse(message_);
    call.share(0, 0, call.input(0).shape);
  }

 private:
  std::string message_;
};

std::unique_ptr<Operator> make_require(const NodeDescription& node) {
  return std::make_unique<Require>(node.text("message", "a condition does not hold"));
}

}  // namespace

void list_control(OperatorTable& table) {
  table["If"] = make_if;
  table["Loop"] = make_loop;
  table["Scan"] = make_scan;
  table["treadle.Require"] = make_require;
}

}  // namespace treadle::graph

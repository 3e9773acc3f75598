#include "engine/graph/program.h"

#include <chrono>
#include <stdexcept>
#include <utility>

#include "runtime/flush_to_zero.h"

namespace treadle::graph {
namespace {

constexpr std::size_t kMostOperands = 4096;  // of a node

// A Frame has the values of one call. They are released whatever happens.
class Frame {
 public:
  Frame(Workspace& workspace, int slots) : workspace_(workspace), values_(slots) {}
  ~Frame() {
    for (Tensor& value : values_) release(value);
  }
  Frame(const Frame&) = delete;
  Frame& operator=(const Frame&) = delete;

  Tensor& operator[](int slot) { return values_[slot]; }
  void release(Tensor& value) {
    if (value.block) workspace_.release(value.block);
    value.block = nullptr;
    value.data = nullptr;
  }

 private:
  Workspace& workspace_;
  std::vector<Tensor> values_;
};

}  // namespace

Program::Program(int inputs, int slots, std::vector<int> outputs, std::vector<Tensor> constants,
                 Buffer memory, std::vector<ProgramNode> nodes)
    : inputs_(inputs),
      slots_(slots),
      outputs_(std::move(outputs)),
      constants_(std::move(constants)),
      memory_(std::move(memory)),
      nodes_(std::move(nodes)) {
  if (inputs < 0 || slots < inputs) refuse("a plan has fewer slots than inputs");
  // A slot may be read while it holds a value: from the node that writes it to the last that reads
  // it. What the plan says is checked here, once, and trusted by `run`.
  std::vector<bool> holds(slots);
  for (int i = 0; i < inputs; ++i) holds[i] = true;
  const auto constant_count = static_cast<int>(constants_.size());
  const auto readable = [&](int place) {
    return place >= 0 ? place < slots && holds[place] : kFirstConstant - place < constant_count;
  };
  for (ProgramNode& node : nodes_) {
    if (node.inputs.size() > kMostOperands || node.outputs.size() > kMostOperands) {
      refuse("a node has more than 4096 inputs or outputs");
    }
    for (int place : node.inputs) {
      if (place != kNone && !readable(place)) refuse("a plan reads a slot that holds no value");
    }
    for (int place : node.outputs) {
      if (place == kNone) continue;
      if (place < 0 || place >= slots || holds[place])
        refuse("a plan writes a slot that is in use");
      holds[place] = true;
    }
    node.dying = 0;
    for (int place : node.last) {
      if (place < 0 || place >= slots || !holds[place]) refuse("a plan frees an empty slot");
      holds[place] = false;
      int uses = 0, which = 0;
      for (std::size_t i = 0; i < node.inputs.size(); ++i) {
        if (node.inputs[i] == place) {
          ++uses;
          which = static_cast<int>(i);
        }
      }
      if (uses == 1 && which < 32) node.dying |= 1u << which;
    }
  }
  for (int place : outputs_) {
    if (place == kNone || !readable(place)) refuse("a plan returns a slot that holds no value");
  }
}

std::unique_ptr<Workspace> Program::take_workspace() const {
  if (Workspace* spare = spare_.exchange(nullptr)) return std::unique_ptr<Workspace>(spare);
  return std::make_unique<Workspace>();
}

void Program::give_back(std::unique_ptr<Workspace> workspace) const {
  workspace->trim();
  Workspace* none = nullptr;
  if (spare_.compare_exchange_strong(none, workspace.get())) workspace.release();
}

void Program::run(Execution& execution, const Tensor* inputs, Tensor* outputs,
                  double* seconds) const {
  if (execution.depth >= kMaxDepth) refuse("subgraphs are nested too deep");
  const ControlWord flush(control_word() | kFlushBits);
  Workspace& workspace = execution.workspace;
  Frame frame(workspace, slots_);
  for (int i = 0; i < inputs_; ++i) {
    frame[i] = inputs[i];
    if (inputs[i].block) workspace.share(inputs[i].block);
  }
  const auto at = [&](int place) -> Tensor* {
    if (place == kNone) return nullptr;
    return place >= 0 ? &frame[place] : const_cast<Tensor*>(&constants_[kFirstConstant - place]);
  };
  std::vector<const Tensor*> in;
  std::vector<Tensor*> out;
  for (std::size_t n = 0; n < nodes_.size(); ++n) {
    const ProgramNode& node = nodes_[n];
    in.clear();
    out.clear();
    for (int place : node.inputs) in.push_back(at(place));
    for (int place : node.outputs) {
      out.push_back(at(place));
      if (out.back()) *out.back() = Tensor{};
    }
    const auto begin =
        seconds ? std::chrono::steady_clock::now() : std::chrono::steady_clock::time_point();
    try {
      Call call(execution, in.data(), static_cast<int>(in.size()), out.data(),
                static_cast<int>(out.size()), node.dying);
      node.run->run(call);
      for (const Tensor* value : out) {
        if (value && !value->data && value->count()) refuse("an output is not computed");
      }
    } catch (const std::invalid_argument& error) {
      throw std::invalid_argument("node " + node.name + " (" + node.op + "): " + error.what());
    }
    if (seconds) {
      const std::chrono::duration<double> time = std::chrono::steady_clock::now() - begin;
      seconds[n] += time.count();
    }
    for (int place : node.last) frame.release(frame[place]);
    if (execution.interrupt.stopped()) throw Interrupted{};
  }
  for (std::size_t i = 0; i < outputs_.size(); ++i) {
    outputs[i] = *at(outputs_[i]);
    if (outputs[i].block) workspace.share(outputs[i].block);
  }
}

}  // namespace treadle::graph

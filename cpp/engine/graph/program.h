// A Program is a whole graph in the order in which it runs. It never changes, and any number of
// threads may run it at the same time, each with a Workspace of its own.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/graph/operator.h"
#include "engine/graph/workspace.h"
#include "runtime/buffer.h"

namespace treadle::graph {

// A node finds an input and leaves an output in a place: a slot of the program's values (0, 1,
// ...), no value (kNone), or a constant (kFirstConstant, kFirstConstant - 1, ...).
constexpr int kNone = -1, kFirstConstant = -2;

struct ProgramNode {
  std::string op, name;  // the name is for messages
  std::shared_ptr<const Operator> run;
  std::vector<int> inputs, outputs;
  std::vector<int> last;  // the slots whose values nobody needs after this node
  std::uint32_t dying;    // bit i: no node needs input i afterwards
};

class Program {
 public:
  // The slots [0, inputs) are the inputs. `outputs` are slots or constants. Throws
  // std::invalid_argument for a plan that reads what is not there.
  Program(int inputs, int slots, std::vector<int> outputs, std::vector<Tensor> constants,
          Buffer memory, std::vector<ProgramNode> nodes);
  ~Program() { delete spare_.load(); }

  int inputs() const { return inputs_; }
  int outputs() const { return static_cast<int>(outputs_.size()); }
  const std::vector<ProgramNode>& nodes() const { return nodes_; }
  std::int64_t constant_bytes() const { return memory_.size() * 4; }

  // Takes a workspace that the program keeps from call to call, or makes one; and gives it back.
  std::unique_ptr<Workspace> take_workspace() const;
  void give_back(std::unique_ptr<Workspace> workspace) const;

  // Runs the nodes. The outputs share blocks of the workspace, or the memory of inputs and
  // constants; the caller releases them. Errors name the node. `seconds`, if not null, has a number
  // for each node, to which its time is added. Throws std::invalid_argument, std::bad_alloc and
  // Interrupted.
  void run(Execution& execution, const Tensor* inputs, Tensor* outputs,
           double* seconds = nullptr) const;

 private:
  int inputs_, slots_;
  std::vector<int> outputs_;
  std::vector<Tensor> constants_;
  Buffer memory_;  // of the constants
  std::vector<ProgramNode> nodes_;
  // The workspace of the last call, or null while a call uses it: other calls then make new ones.
  mutable std::atomic<Workspace*> spare_{nullptr};
};

// Calls of subprograms may be nested so deep.
constexpr int kMaxDepth = 16;

}  // namespace treadle::graph

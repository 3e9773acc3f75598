// A Call is what an operator sees of a program while it runs.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

#include "engine/graph/tensor.h"
#include "engine/graph/workspace.h"
#include "engine/schedule/parallel_for.h"
#include "engine/schedule/team.h"

namespace treadle::graph {

// Execution is what the operators of one running program share.
struct Execution {
  Workspace& workspace;
  Interrupt& interrupt;
  int depth = 0;  // of subprograms
};

class Call {
 public:
  // `inputs` and `outputs` have null for what is absent or not wanted. Bit i of `dying` is set
  // where no other node needs input i.
  Call(Execution& execution, const Tensor* const* inputs, int input_count, Tensor* const* outputs,
       int output_count, std::uint32_t dying)
      : execution_(execution),
        inputs_(inputs),
        outputs_(outputs),
        input_count_(input_count),
        output_count_(output_count),
        dying_(dying) {}
  ~Call() {
    for (Block* block : scratch_) execution_.workspace.release(block);
  }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  int inputs() const { return input_count_; }
  int outputs() const { return output_count_; }
  bool has(int i) const { return i < input_count_ && inputs_[i]; }
  bool wants(int i) const { return i < output_count_ && outputs_[i]; }

  // Returns input i. Throws std::invalid_argument where it is absent, or of another type or rank.
  const Tensor& input(int i) const {
    if (!has(i)) missing(i);
    return *inputs_[i];
  }
  const Tensor& input(int i, Type type) const {
    const Tensor& value = input(i);
    if (value.type != type) wrong_type(i, type);
    return value;
  }
  const Tensor& input(int i, Type type, int rank) const {
    const Tensor& value = input(i, type);
    if (value.shape.rank() != rank) wrong_rank(i, rank);
    return value;
  }

  // Makes output i, uninitialised, and returns it. One that nobody wants is scratch.
  Tensor& output(int i, Type type, const Shape& shape);
  // Tells whether the memory of input j may become an output's: nobody else needs it.
  bool dies(int j) const {
    return j < 32 && (dying_ >> j & 1) && has(j) && inputs_[j]->block &&
           inputs_[j]->block->users == 1;
  }
  // Makes output i, of input j's type, in the memory of input j where nobody else needs that, and
  // of new memory otherwise: for operators that read an element before they write it.
  Tensor& output_over(int i, int j, const Shape& shape);
  // Makes output i a view of input j, with another shape of as many elements.
  void share(int i, int j, const Shape& shape);
  // Makes output i a view of those elements of input j that follow the first `skipped`.
  void view(int i, int j, std::int64_t skipped, const Shape& shape);
  // Makes output i the value of a subprogram's output, whose memory passes over to it.
  void adopt(int i, Tensor&& value);

  // Returns memory on a cache line for the time of this call.
  char* scratch(std::int64_t bytes);
  float* scratch_floats(std::int64_t count) {
    return reinterpret_cast<float*>(scratch(checked_bytes(count, sizeof(float))));
  }

  // Calls task(i) once for every i < tasks, on several threads where that pays. A task takes `work`
  // multiply-adds, or nanoseconds times 50. Tasks must not throw. Throws Interrupted when the
  // caller no longer wants a result.
  void parallel_for(std::int64_t tasks, double work, const Task& task);
  // Calls task(i) once for every i < tasks, in order. A task may throw.
  void serial_for(std::int64_t tasks, double work, const Task& task);
  // Runs phases(member) on a team of threads for `work` multiply-adds.
  template <class Phases>
  void run_team(double work, Phases&& phases) {
    Team team(work, execution_.interrupt);
    team.run(phases);
    if (execution_.interrupt.stopped()) throw Interrupted{};
  }

  Execution& execution() { return execution_; }
  Interrupt& interrupt() { return execution_.interrupt; }

  // Returns input i, of any integer type, as at most `most` int64, which are read once: the memory
  // may be the caller's. Throws std::invalid_argument for another type or for more axes than one.
  std::vector<std::int64_t> integers(int i, std::int64_t most = 1 << 20) const;
  // Returns the only element of input i as an int64 or a double. Throws std::invalid_argument.
  std::int64_t integer(int i) const;
  double number(int i) const;

 private:
  [[noreturn]] void missing(int i) const;
  [[noreturn]] void wrong_type(int i, Type type) const;
  [[noreturn]] void wrong_rank(int i, int rank) const;
  static std::int64_t checked_bytes(std::int64_t count, std::int64_t size);

  static constexpr double kShareWork = 5e5;

  Execution& execution_;
  const Tensor* const* inputs_;
  Tensor* const* outputs_;
  int input_count_, output_count_;
  std::uint32_t dying_;
  std::vector<Block*> scratch_;
  Tensor unwanted_;
};

}  // namespace treadle::graph

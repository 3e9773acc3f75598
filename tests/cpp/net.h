// Random recurrent nets and their definition: one row, one step, one sum at a time, in double.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/recurrent/stack.h"

namespace treadle {

struct NetShape {
  Mode mode = Mode::lstm;
  std::int64_t I = 5, H = 7, P = 0, layers = 1;
  Direction direction = Direction::forward;
  bool reset_after = true, input_forget = false, peepholes = false, bias = true;
  float clip = 0;
  Activation f{ActivationFunction::sigmoid, 0, 0}, g{ActivationFunction::tanh, 0, 0},
      h{ActivationFunction::tanh, 0, 0};

  std::int64_t gates() const { return gate_count(mode); }
  std::int64_t directions() const { return direction == Direction::bidirectional ? 2 : 1; }
  std::int64_t state_size() const { return P ? P : H; }
};

// The inputs of a net. A vector is empty where the input is absent.
struct Sequence {
  std::int64_t T = 1, B = 1;
  std::vector<float> x;                    // [T, B, I]
  std::vector<float> h_0, c_0;             // [L*D, B, ...]
  std::vector<std::int64_t> lengths;       // [B]
  std::vector<std::uint8_t> mask, resets;  // [B, T], [T, B]
  std::vector<float> reset_h, reset_c;     // as h_0, c_0
};

// The outputs of a net.
template <class Number>
struct Outputs {
  std::vector<Number> y;         // [T, B, D * state_size]
  std::vector<Number> h_n, c_n;  // [L*D, B, ...]
};

class Net {
 public:
  explicit Net(const NetShape& shape, unsigned seed = 1);

  const NetShape& shape() const { return shape_; }
  std::shared_ptr<const RecurrentStack> pack(const KernelTable& table) const;
  Outputs<double> definition(const Sequence& sequence) const;

  // Random inputs and states for T steps of B rows; the rest is for the test to add.
  Sequence sequence(std::int64_t T, std::int64_t B, unsigned seed = 1) const;

 private:
  struct Weights {
    std::vector<float> ih, hh, bias_ih, bias_hh, hr, peepholes;
  };
  void step(const Weights& w, std::int64_t inputs, const double* x, double* h, double* c) const;
  double sum(const std::vector<float>& weights, std::int64_t row, std::int64_t inputs,
             const double* x) const;

  NetShape shape_;
  std::vector<Weights> cells_;  // layer by layer, in each forward then reverse
};

// RecurrentStack::run on arrays of exactly the right size, each next to a page that nobody may
// touch.
Outputs<float> run(const RecurrentStack& net, const NetShape& shape, const Sequence& sequence);
// Does as `run`, on ordinary arrays, for callers in many threads: mapping pages makes them wait.
Outputs<float> run_plain(const RecurrentStack& net, const NetShape& shape,
                         const Sequence& sequence);

// The largest difference of any number of the two.
double largest_error(const Outputs<float>& actual, const Outputs<double>& expected);

bool same_bits(const Outputs<float>& a, const Outputs<float>& b);

}  // namespace treadle

#include "engine/recurrent/backward_weights.h"

#include <utility>
#include <vector>

namespace treadle {
namespace {

// Weights are read anew for so many rows of a product, if they are not packed.
constexpr std::int64_t kRowsAtOnce = 4;
// To pack weights takes about as long as to read them so many times, in one product of all rows or
// in one product a step. The latter reads them alike if they are packed, but for some overhead.
constexpr std::int64_t kProductReads = 3, kStepReads = 16;

std::int64_t reads(std::int64_t rows) { return (rows + kRowsAtOnce - 1) / kRowsAtOnce; }

// Returns the rows of matrices [k, outputs], one matrix behind the other.
std::vector<const float*> rows_of(std::int64_t outputs, const std::vector<Operand>& operands) {
  std::vector<const float*> rows;
  for (const Operand& operand : operands) {
    for (std::int64_t k = 0; k < operand.k; ++k) {
      rows.push_back(operand.weights.floats() + k * outputs);
    }
  }
  return rows;
}

}  // namespace

BackwardWeights::BackwardWeights(const Cell& cell, const CellWeights& w, const SequenceArgs& call) {
  const KernelTable& table = cell.table();
  const CellShape& shape = cell.shape();
  const std::int64_t I = shape.input_size, H = shape.hidden_size, S = shape.state_size();
  const bool few_rows = reads(call.T * call.B) <= kProductReads;
  const bool few_steps = call.T * reads(call.B) <= kStepReads;
  const auto transposed = [&](bool few, std::int64_t outputs,
                              const std::vector<Operand>& operands) {
    if (few) return Linear::unpacked(table, outputs, rows_of(outputs, operands));
    return Linear(table, outputs, PackedWeights::transposed(outputs, operands, table.lanes));
  };
  switch (shape.mode) {
    case Mode::rnn:
    case Mode::lstm:
      width = gate_count(shape.mode) * H;
      state_offset = 0;
      input = transposed(few_rows, I, {{w.weight_ih, width}});
      state = transposed(few_steps, S, {{w.weight_hh, width}});
      if (shape.proj_size) projection = transposed(few_steps, H, {{w.weight_hr, S}});
      break;
    case Mode::gru:
      // n, r, z, and the state part of n where it has its own gradient.
      width = (shape.reset_after ? 4 : 3) * H;
      state_offset = H;
      input =
          transposed(few_rows, I, {{w.weight_ih.floats() + 2 * H * I, H}, {w.weight_ih, 2 * H}});
      state = transposed(few_steps, S, {{w.weight_hh, width - H}});
      if (!shape.reset_after)
        reset = transposed(few_steps, H, {{w.weight_hh.floats() + 2 * H * S, H}});
      break;
  }
}

}  // namespace treadle

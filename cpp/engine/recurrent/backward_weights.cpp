#include "engine/recurrent/backward_weights.h"

namespace treadle {

BackwardWeights::BackwardWeights(const Cell& cell, const CellWeights& w) {
  const KernelTable& table = cell.table();
  const CellShape& shape = cell.shape();
  const std::int64_t I = shape.input_size, H = shape.hidden_size, S = shape.state_size();
  const auto transposed = [&](std::int64_t outputs, const std::vector<Operand>& operands) {
    return Linear(table, outputs, PackedWeights::transposed(outputs, operands, table.lanes));
  };
  switch (shape.mode) {
    case Mode::rnn:
    case Mode::lstm:
      width = gate_count(shape.mode) * H;
      state_offset = 0;
      input = transposed(I, {{w.weight_ih, width}});
      state = transposed(S, {{w.weight_hh, width}});
      if (shape.proj_size) projection = transposed(H, {{w.weight_hr, S}});
      break;
    case Mode::gru:
      // n, r, z, and the state part of n where it has its own gradient.
      width = (shape.reset_after ? 4 : 3) * H;
      state_offset = H;
      input = transposed(I, {{w.weight_ih.floats() + 2 * H * I, H}, {w.weight_ih, 2 * H}});
      state = transposed(S, {{w.weight_hh, width - H}});
      if (!shape.reset_after) reset = transposed(H, {{w.weight_hh.floats() + 2 * H * S, H}});
      break;
  }
}

}  // namespace treadle

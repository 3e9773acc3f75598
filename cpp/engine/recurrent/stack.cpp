#include "engine/recurrent/stack.h"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace treadle {
namespace {

constexpr std::int64_t kKeep = 4 << 20;  // larger buffers, in bytes, are not kept

}  // namespace

std::int64_t RunBuffers::bytes() const {
  std::int64_t floats = layers[0].size() + layers[1].size();
  for (const Workspace& w : workspaces) floats += w.floats();
  return floats * static_cast<std::int64_t>(sizeof(float));
}

void RunBuffers::release_large() {
  for (Buffer& layer : layers) {
    if (layer.size() * static_cast<std::int64_t>(sizeof(float)) > kKeep) layer = Buffer();
  }
}

RecurrentStack::RecurrentStack(Direction direction, std::vector<Cell> cells)
    : direction_(direction), cells_(std::move(cells)) {}

std::int64_t RecurrentStack::weight_bytes() const {
  std::int64_t bytes = 0;
  for (const Cell& cell : cells_) bytes += cell.weight_bytes();
  return bytes;
}

void RecurrentStack::run(const RunArgs& args, Interrupt& interrupt) const {
  std::unique_ptr<RunBuffers> buffers(spare_.exchange(nullptr, std::memory_order_acquire));
  if (!buffers) buffers = std::make_unique<RunBuffers>();
  run(args, *buffers, interrupt);
  if (buffers->bytes() <= kKeep) {
    buffers.reset(spare_.exchange(buffers.release(), std::memory_order_acq_rel));
  }
}

void RecurrentStack::run(const RunArgs& args, RunBuffers& buffers, Interrupt& interrupt) const {
  const CellShape& shape = cells_[0].shape();
  const std::int64_t S = shape.state_size(), D = directions();
  const std::int64_t state = args.in.B * S, cell_state = args.in.B * shape.hidden_size;
  if (args.c_n && args.c_n != args.in.c_0) {
    constexpr std::int64_t kPiece = 1 << 18;  // floats between two looks at the interrupt
    const std::int64_t floats = static_cast<std::int64_t>(cells_.size()) * cell_state;
    for (std::int64_t i = 0; i < floats && !interrupt.stopped(); i += kPiece) {
      const std::int64_t n = std::min(kPiece, floats - i);
      if (args.in.c_0) {
        std::copy_n(args.in.c_0 + i, n, args.c_n + i);
      } else {
        std::fill_n(args.c_n + i, n, 0.0f);
      }
      interrupt.progress(static_cast<double>(n));
    }
    if (interrupt.stopped()) return;
  }
  std::vector<std::int64_t> order;
  if (args.in.lengths) {
    order.resize(args.in.B);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
      return args.in.lengths[a] > args.in.lengths[b];
    });
  }
  Pass pass{};
  SequenceArgs in = args.in;  // the input of the present layer
  pass.order = order.empty() ? nullptr : order.data();
  for (std::int64_t layer = 0; layer < layers(); ++layer) {
    if (layer == layers() - 1) {
      pass.y = args.y;
      pass.y_t = args.y_t;
      pass.y_b = args.y_b;
    } else {
      Buffer& between = buffers.layers[layer % 2];
      const std::int64_t floats = args.in.steps() * D * S;
      if (between.size() < floats) between = Buffer::uninitialized(floats);
      pass.y = between.data();
      pass.y_t = (args.in.first_step ? 1 : args.in.B) * D * S;
      pass.y_b = D * S;
    }
    Pass passes[2];
    for (std::int64_t d = 0; d < D; ++d) {
      const std::int64_t i = layer * D + d;
      passes[d] = pass;
      passes[d].cell = &cells_[i];
      passes[d].reverse = d == 1 || direction_ == Direction::reverse;
      passes[d].in = in.states_of(i, S, shape.hidden_size);
      passes[d].y = pass.y + d * S;
      passes[d].h_n = args.h_n + i * state;
      passes[d].c = args.c_n ? args.c_n + i * cell_state : nullptr;
      const std::int64_t size = cells_[i].saved_size(args.recompute);
      passes[d].saved = args.saved ? args.saved + d * args.in.T * args.in.B * size : nullptr;
      passes[d].recompute = args.recompute;
    }
    const int count = static_cast<int>(D);
    const Demand need = demand(passes, count);
    Team team(need.threads, need.microseconds, interrupt);
    run_passes(passes, count, buffers.workspaces, team, interrupt);
    if (interrupt.stopped()) return;
    in.x = pass.y;
    in.x_t = pass.y_t;
    in.x_b = pass.y_b;
  }
}

}  // namespace treadle

#include "engine/recurrent/stream_pool.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace treadle {
namespace {

constexpr std::int64_t kKeep = 4 << 20;  // larger buffers, in bytes, are not kept

// Copies [layers, width], at `offset` floats of each state, into [layers, rows, width] or back.
template <class Copy>
void for_each_part(const StreamSlots::Held& held, float* batch, std::int64_t layers,
                   std::int64_t width, std::int64_t offset, Copy copy) {
  const std::int64_t rows = held.size();
  const std::size_t bytes = static_cast<std::size_t>(width) * sizeof(float);
  for (std::int64_t row = 0; row < rows; ++row) {
    float* state = held.state(row) + offset;
    for (std::int64_t layer = 0; layer < layers; ++layer) {
      copy(state + layer * width, batch + (layer * rows + row) * width, bytes);
    }
  }
}

void gather(const float* state, float* batch, std::size_t bytes) {
  std::memcpy(batch, state, bytes);
}
void scatter(float* state, const float* batch, std::size_t bytes) {
  std::memcpy(state, batch, bytes);
}

void grow(Buffer& buffer, std::int64_t floats) {
  if (buffer.size() < floats) buffer = Buffer::uninitialized(floats);
}

}  // namespace

StreamPool::StreamPool(std::shared_ptr<const RecurrentStack> net,
                       std::shared_ptr<StreamSlots> slots)
    : net_(std::move(net)), slots_(std::move(slots)) {}

std::int64_t StreamPool::state_width(const RecurrentStack& net) {
  const CellShape& shape = net.cell(0).shape();
  return net.layers() * (shape.state_size() + (shape.mode == Mode::lstm ? shape.hidden_size : 0));
}

std::int64_t StreamPool::Buffers::bytes() const {
  return run.bytes() + (h.size() + c.size()) * static_cast<std::int64_t>(sizeof(float));
}

bool StreamPool::step(const std::int64_t* ids, std::int64_t count, const Frames& frames,
                      Interrupt& interrupt) {
  const StreamSlots::Held held(*slots_, ids, count, interrupt.patience());
  if (!held) return false;
  std::unique_ptr<Buffers> buffers(spare_.exchange(nullptr, std::memory_order_acquire));
  if (!buffers) buffers = std::make_unique<Buffers>();
  if (count > 0 && frames.T > 0) run(held, frames, *buffers, interrupt);
  if (interrupt.stopped()) return false;
  std::int64_t total = frames.T * count;
  if (frames.lengths) {
    total = 0;
    for (std::int64_t i = 0; i < count; ++i) total += frames.lengths[i];
  }
  slots_->count_call(count, total);
  if (buffers->bytes() <= kKeep) {
    buffers.reset(spare_.exchange(buffers.release(), std::memory_order_acq_rel));
  }
  return true;
}

void StreamPool::run(const StreamSlots::Held& held, const Frames& frames, Buffers& buffers,
                     Interrupt& interrupt) const {
  const CellShape& shape = net_->cell(0).shape();
  const std::int64_t L = net_->layers(), S = shape.state_size(), H = shape.hidden_size;
  const std::int64_t rows = held.size();
  const bool lstm = shape.mode == Mode::lstm;
  grow(buffers.h, L * rows * S);
  for_each_part(held, buffers.h.data(), L, S, 0, gather);
  if (lstm) {
    grow(buffers.c, L * rows * H);
    for_each_part(held, buffers.c.data(), L, H, L * S, gather);
  }
  RunArgs args{};
  args.in.T = frames.T;
  args.in.B = rows;
  args.in.x = frames.x;
  args.in.x_t = frames.x_t;
  args.in.x_b = frames.x_b;
  args.y = frames.y;
  args.y_t = S;
  args.y_b = frames.T * S;
  if (frames.lengths) {
    buffers.first_step.resize(static_cast<std::size_t>(rows));
    std::int64_t first = 0;
    for (std::int64_t i = 0; i < rows; ++i) {
      buffers.first_step[i] = first;
      first += frames.lengths[i];
    }
    args.in.lengths = frames.lengths;
    args.in.first_step = buffers.first_step.data();
  }
  // The copies of the states are updated in place, and become the states when the run has
  // succeeded.
  args.in.h_0 = args.h_n = buffers.h.data();
  args.in.c_0 = args.c_n = lstm ? buffers.c.data() : nullptr;
  net_->run(args, buffers.run, interrupt);
  buffers.run.release_large();
  if (interrupt.stopped()) return;
  for_each_part(held, buffers.h.data(), L, S, 0, scatter);
  if (lstm) for_each_part(held, buffers.c.data(), L, H, L * S, scatter);
}

}  // namespace treadle

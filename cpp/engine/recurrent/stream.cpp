#include "engine/recurrent/stream.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace treadle {
namespace {

constexpr std::int64_t kPieceFloats = 1 << 18;  // copied between two looks at the interrupt
// A change of so many floats is made in the state itself, since nobody waits long for it. Larger
// ones are made in a copy, which becomes the state when it is complete.
constexpr std::int64_t kAtOnce = 1 << 20;

// Sets to[layer, row, :] = from[layer, row, :], or zero, for the chosen rows.
void set_rows(float* to, const float* from, std::int64_t layers, std::int64_t batch,
              std::int64_t width, const std::uint8_t* rows, Interrupt& interrupt) {
  const std::size_t bytes = static_cast<std::size_t>(width) * sizeof(float);
  for (std::int64_t i = 0; i < layers * batch && !interrupt.stopped(); ++i) {
    if (rows && !rows[i % batch]) continue;
    if (from) {
      std::memcpy(to + i * width, from + i * width, bytes);
    } else {
      std::memset(to + i * width, 0, bytes);
    }
    interrupt.progress(static_cast<double>(width));
  }
}

Buffer zeros(std::int64_t floats) {
  Buffer buffer = Buffer::uninitialized(floats);
  for (std::int64_t i = 0; i < floats; i += kPieceFloats) {
    const std::int64_t n = std::min(kPieceFloats, floats - i);
    std::memset(buffer.data() + i, 0, static_cast<std::size_t>(n) * sizeof(float));
    throw_if_stopped(static_cast<double>(n));
  }
  return buffer;
}

void copy(float* to, const float* from, std::int64_t floats, Interrupt& interrupt) {
  for (std::int64_t i = 0; i < floats && !interrupt.stopped(); i += kPieceFloats) {
    const std::int64_t n = std::min(kPieceFloats, floats - i);
    std::memcpy(to + i, from + i, static_cast<std::size_t>(n) * sizeof(float));
    interrupt.progress(static_cast<double>(n));
  }
}

}  // namespace

Stream::Stream(std::shared_ptr<const RecurrentStack> net, std::int64_t batch)
    : net_(std::move(net)), batch_(batch) {
  const std::int64_t h = h_size(), c = c_size();
  h_ = zeros(h);
  c_ = zeros(c);
  next_h_ = Buffer::uninitialized(h);  // written before they are read
  next_c_ = Buffer::uninitialized(c);
}

bool Stream::run(std::int64_t T, const float* x, std::int64_t x_t, std::int64_t x_b, float* y,
                 std::int64_t y_t, std::int64_t y_b, Interrupt& interrupt) {
  const ReentrantGuard::Hold hold(guard_, interrupt.patience());
  if (!hold) return false;
  RunArgs args{};
  args.in.T = T;
  args.in.B = batch_;
  args.in.x = x;
  args.in.x_t = x_t;
  args.in.x_b = x_b;
  args.y = y;
  args.y_t = y_t;
  args.y_b = y_b;
  args.in.h_0 = h_.data();
  args.h_n = next_h_.data();
  args.in.c_0 = c_.data();
  args.c_n = next_c_.data();
  net_->run(args, buffers_, interrupt);
  buffers_.release_large();
  if (interrupt.stopped()) return false;
  std::swap(h_, next_h_);
  std::swap(c_, next_c_);
  return true;
}

void Stream::set(const std::uint8_t* rows, const float* h, const float* c, Interrupt& interrupt) {
  const ReentrantGuard::Hold hold(guard_, interrupt.patience());
  if (!hold) return;
  const std::int64_t L = net_->layers(), H = hidden_size();
  const std::int64_t chosen = rows ? std::count(rows, rows + batch_, true) : batch_;
  if (chosen * L * (state_size() + H) <= kAtOnce) {
    Interrupt never(nullptr);
    set_rows(h_.data(), h, L, batch_, state_size(), rows, never);
    if (has_c()) set_rows(c_.data(), c, L, batch_, H, rows, never);
    return;
  }
  copy(next_h_.data(), h_.data(), h_.size(), interrupt);
  copy(next_c_.data(), c_.data(), c_.size(), interrupt);
  set_rows(next_h_.data(), h, L, batch_, state_size(), rows, interrupt);
  if (has_c()) set_rows(next_c_.data(), c, L, batch_, H, rows, interrupt);
  if (interrupt.stopped()) return;
  std::swap(h_, next_h_);
  std::swap(c_, next_c_);
}

void Stream::get(float* h, float* c, Interrupt& interrupt) {
  const ReentrantGuard::Hold hold(guard_, interrupt.patience());
  if (!hold) return;
  copy(h, h_.data(), h_.size(), interrupt);
  copy(c, c_.data(), c_.size(), interrupt);
}

}  // namespace treadle

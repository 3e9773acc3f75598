#include "engine/stream.h"

#include <cstring>

namespace weft {
namespace {

// to[layer, row, :] = from[layer, row, :], or zero, for the chosen rows.
void set_rows(float* to, const float* from, std::int64_t layers, std::int64_t batch,
              std::int64_t width, const std::uint8_t* rows) {
  const std::size_t bytes = static_cast<std::size_t>(width) * sizeof(float);
  for (std::int64_t i = 0; i < layers * batch; ++i) {
    if (rows && !rows[i % batch]) continue;
    if (from) {
      std::memcpy(to + i * width, from + i * width, bytes);
    } else {
      std::memset(to + i * width, 0, bytes);
    }
  }
}

void copy(float* to, const float* from, std::int64_t floats) {
  if (floats) std::memcpy(to, from, static_cast<std::size_t>(floats) * sizeof(float));
}

}  // namespace

Stream::Stream(std::shared_ptr<const Recurrent> net, std::int64_t batch)
    : net_(std::move(net)), batch_(batch) {
  h_ = Buffer(h_size());
  if (net_->cell(0).shape().mode == Mode::lstm)
    c_ = Buffer(net_->layers() * batch_ * hidden_size());
  backup_ = Buffer(h_.size() + c_.size());
}

bool Stream::run(std::int64_t T, const float* x, std::int64_t x_t, std::int64_t x_b, float* y,
                 std::int64_t y_t, std::int64_t y_b, Interrupt& interrupt) {
  std::lock_guard<std::mutex> lock(mutex_);
  RunArgs args{};
  args.T = T;
  args.B = batch_;
  args.x = x;
  args.x_t = x_t;
  args.x_b = x_b;
  args.y = y;
  args.y_t = y_t;
  args.y_b = y_b;
  args.h_0 = args.h_n = h_.data();
  args.c_0 = args.c_n = c_.size() ? c_.data() : nullptr;
  copy(backup_.data(), h_.data(), h_.size());
  copy(backup_.data() + h_.size(), c_.data(), c_.size());
  net_->run(args, buffers_, interrupt);
  if (!interrupt.stopped()) return true;
  copy(h_.data(), backup_.data(), h_.size());
  copy(c_.data(), backup_.data() + h_.size(), c_.size());
  return false;
}

void Stream::set(const std::uint8_t* rows, const float* h, const float* c) {
  std::lock_guard<std::mutex> lock(mutex_);
  set_rows(h_.data(), h, net_->layers(), batch_, state_size(), rows);
  if (has_c()) set_rows(c_.data(), c, net_->layers(), batch_, hidden_size(), rows);
}

void Stream::get(float* h, float* c) {
  std::lock_guard<std::mutex> lock(mutex_);
  copy(h, h_.data(), h_.size());
  copy(c, c_.data(), c_.size());
}

}  // namespace weft

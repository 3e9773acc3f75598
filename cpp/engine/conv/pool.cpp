#include "engine/conv/pool.h"

#include <algorithm>

#include "engine/conv/conv_shape.h"
#include "engine/conv/task_slots.h"
#include "engine/schedule/task_size.h"
#include "engine/schedule/team.h"
#include "runtime/buffer.h"

namespace treadle {
namespace {

// Reading a number takes a kernel as long as so many multiply-adds.
constexpr double kReadWork = 4;

// Returns the windows along an axis of `size` pixels.
std::vector<PoolWindow> windows_of(const PoolAxis& axis, PoolKind kind, std::int64_t size) {
  std::vector<PoolWindow> windows(static_cast<std::size_t>(axis.outputs(size)));
  std::int64_t at = -axis.before;
  for (PoolWindow& window : windows) {
    // The taps [begin, end) meet pixels of x, and those before `padded` meet its padding, too.
    const std::int64_t begin = at >= 0 ? 0 : std::min(axis.taps, ceil_div(-at, axis.dilation));
    const std::int64_t room = size - at, padded_room = size + axis.after - at;
    const std::int64_t end =
        room <= 0 ? begin : std::max(begin, std::min(axis.taps, ceil_div(room, axis.dilation)));
    const std::int64_t padded =
        padded_room <= 0 ? 0 : std::min(axis.taps, ceil_div(padded_room, axis.dilation));
    window.first = begin < end ? at + begin * axis.dilation : 0;
    window.count = end - begin;
    window.share = static_cast<float>(kind == PoolKind::average_with_pad ? padded : window.count);
    at += axis.stride;
  }
  return windows;
}

std::vector<PoolWindow> adaptive_windows(std::int64_t size, std::int64_t outputs) {
  std::vector<PoolWindow> windows(static_cast<std::size_t>(outputs));
  for (std::int64_t i = 0; i < outputs; ++i) {
    // i n / outputs without the product, which might overflow.
    const auto cut = [&](std::int64_t k) {
      return size / outputs * k + size % outputs * k / outputs;
    };
    const std::int64_t rest = size % outputs * (i + 1) % outputs;
    const std::int64_t first = cut(i), end = cut(i + 1) + (rest != 0);
    windows[static_cast<std::size_t>(i)] = {first, end - first, static_cast<float>(end - first)};
  }
  return windows;
}

std::int64_t most_pixels(const std::vector<PoolWindow>& windows) {
  std::int64_t most = 0;
  for (const PoolWindow& window : windows) most = std::max(most, window.count);
  return most;
}

}  // namespace

std::int64_t PoolAxis::outputs(std::int64_t size) const {
  // With `ceil`, a last window of which a part is missing counts, even if it is the only one.
  const std::int64_t room =
      size + before + after - dilation * (taps - 1) - 1 + (ceil ? stride - 1 : 0);
  if (room < 0) return 0;
  std::int64_t count = room / stride + 1;
  // A last window that begins in the padding behind x does not count.
  if (ceil && (count - 1) * stride >= size + before) --count;
  return count;
}

Pool Pool::regular(const KernelTable& table, PoolKind kind, const PoolAxis& vertical,
                   const PoolAxis& horizontal, std::int64_t height, std::int64_t width,
                   std::int64_t divisor) {
  Pool pool(table, kind, height, width);
  pool.row_dilation_ = vertical.dilation;
  pool.column_dilation_ = horizontal.dilation;
  pool.rows_ = windows_of(vertical, kind, height);
  pool.columns_ = windows_of(horizontal, kind, width);
  if (divisor > 0) {
    for (PoolWindow& window : pool.rows_) window.share = 1;
    for (PoolWindow& window : pool.columns_) window.share = static_cast<float>(divisor);
  }
  pool.most_ = most_pixels(pool.rows_) * most_pixels(pool.columns_);
  return pool;
}

Pool Pool::adaptive(const KernelTable& table, PoolKind kind, std::int64_t height,
                    std::int64_t width, std::int64_t out_height, std::int64_t out_width) {
  Pool pool(table, kind, height, width);
  pool.rows_ = adaptive_windows(height, out_height);
  pool.columns_ = adaptive_windows(width, out_width);
  pool.most_ = most_pixels(pool.rows_) * most_pixels(pool.columns_);
  return pool;
}

void Pool::run(std::int64_t batch, std::int64_t channels, const float* x, float* y,
               const ParallelFor& parallel_for) const {
  const std::int64_t width = out_width(), rows = batch * out_height();
  if (rows == 0 || width == 0 || channels == 0) return;
  const auto make = [&](std::int64_t row) {
    const PoolWindow& window = rows_[static_cast<std::size_t>(row % out_height())];
    PoolArgs a{};
    a.channels = channels;
    a.outputs = width;
    a.x = x + (row / out_height() * height_ + window.first) * width_ * channels;
    a.rows = width_ == 0 ? 0 : window.count;  // rows without a pixel may have no address
    a.row_stride = row_dilation_ * width_ * channels;
    a.dilation = column_dilation_;
    a.windows = columns_.data();
    a.row_share = window.share;
    a.out = y + row * width * channels;
    kind_ == PoolKind::max ? table_->max_pool_row(a) : table_->average_pool_row(a);
  };
  for_each_row(rows, work(channels) / static_cast<double>(out_height()), parallel_for, make);
}

double Pool::work(std::int64_t channels) const {
  return kReadWork * static_cast<double>(most_) * static_cast<double>(out_height()) *
         static_cast<double>(out_width()) * static_cast<double>(channels);
}

void pool_planes(const KernelTable& table, const Pool& pool, std::int64_t batch,
                 std::int64_t channels, const float* x, float* y, Interrupt& interrupt) {
  const std::int64_t in = pool.pixels(), out = pool.out_height() * pool.out_width();
  if (batch == 0 || channels == 0 || out == 0) return;
  OwnTeams teams(interrupt);
  if (channels == 1) {
    pool.run(batch, 1, x, y, ParallelFor(teams));
    return;
  }
  const std::int64_t width = std::min<std::int64_t>(channels, table.lanes);
  const std::int64_t blocks = ceil_div(channels, width), tasks = batch * blocks;
  // The planes are read and written once more each way.
  const double work = pool.work(width) + 4 * static_cast<double>((in + out) * width);
  const int threads = Team::threads_for(work * static_cast<double>(tasks));
  const Buffer memory = Buffer::uninitialized(TaskSlots::floats(threads, (in + out) * width));
  const TaskSlots slots(const_cast<float*>(memory.data()), threads, (in + out) * width);
  teams.parallel_for(tasks, work, [&](std::int64_t task) {
    const TaskSlots::Slot slot(slots);
    const std::int64_t c = task % blocks * width, count = std::min(width, channels - c);
    const std::int64_t plane = task / blocks * channels + c;
    float *turned = slot.data(), *pooled = turned + in * count;
    table.transpose({count, in, x + plane * in, in, turned, count});
    Alone alone;
    pool.run(1, count, turned, pooled, ParallelFor(alone));
    table.transpose({out, count, pooled, count, y + plane * out, out});
  });
}

void pool_rows(const KernelTable& table, PoolKind kind, std::int64_t rows, std::int64_t pixels,
               const float* x, float* y, const ParallelFor& parallel_for) {
  const std::int64_t lanes = table.lanes, whole = pixels / lanes;
  const auto make = [&](std::int64_t row) {
    const float* from = x + row * pixels;
    if (kind != PoolKind::max) {
      const double count = static_cast<double>(std::max<std::int64_t>(pixels, 1));
      y[row] = static_cast<float>(table.row_sum(from, pixels, 0, false) / count);
      return;
    }
    // As pixels of `lanes` channels, then the largest of those, and what is left.
    float most[kMostLanes];
    const PoolWindow all{0, whole, 1}, tail{whole * lanes, pixels - whole * lanes, 1};
    const PoolWindow inside{0, lanes, 1};
    table.max_pool_row({lanes, 1, from, 1, 0, 1, &all, 1, most});
    float last[2];
    table.max_pool_row({1, 1, most, 1, 0, 1, &inside, 1, last});
    table.max_pool_row({1, 1, from, 1, 0, 1, &tail, 1, last + 1});
    const PoolWindow both{0, 2, 1};
    table.max_pool_row({1, 1, last, 1, 0, 1, &both, 1, y + row});
  };
  for_each_row(rows, kReadWork * static_cast<double>(pixels), parallel_for, make);
}

void pool_all(const KernelTable& table, PoolKind kind, std::int64_t batch, std::int64_t pixels,
              std::int64_t channels, const float* x, float* y, const ParallelFor& parallel_for) {
  const PoolWindow all{0, pixels, static_cast<float>(pixels)};
  const auto make = [&](std::int64_t b) {
    const float* from = x + b * pixels * channels;
    float* to = y + b * channels;
    if (kind == PoolKind::max) {
      table.max_pool_row({channels, 1, from, 1, 0, 1, &all, 1, to});
      return;
    }
    table.column_sums({pixels, channels, from, channels, nullptr, to});
    if (pixels == 0) return;  // an average of nothing is 0
    const float count = static_cast<float>(pixels);
    table.binary({BinaryFunction::divide, 1, channels, {to, 0, 1}, {&count, 0, 0}, to});
  };
  for_each_row(batch, kReadWork * static_cast<double>(pixels) * static_cast<double>(channels),
               parallel_for, make);
}

}  // namespace treadle

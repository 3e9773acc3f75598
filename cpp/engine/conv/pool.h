// Pools over images with channels last, in one or two dimensions: the largest number or the average
// of a window, for each channel. NaN in a window is its maximum, as in PyTorch.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/schedule/interrupt.h"
#include "engine/schedule/parallel_for.h"
#include "kernels/table.h"

namespace treadle {

// PoolAxis describes the windows along one axis.
struct PoolAxis {
  std::int64_t taps = 1, stride = 1, dilation = 1;
  std::int64_t before = 0, after = 0;  // the padding: -infinity of a maximum, zeros of an average
  bool ceil = false;  // a last window that begins inside of x or its padding before counts, too

  // Returns the number of windows for so many pixels, as PyTorch does, or 0 where there is none.
  std::int64_t outputs(std::int64_t size) const;
};

enum class PoolKind {
  max,
  average,          // divides by the pixels of x in the window
  average_with_pad  // divides by the pixels of x and of its padding
};

// A Pool knows the windows of all rows and columns of images of one size.
class Pool {
 public:
  // Windows that lie at regular distances. `divisor` > 0 is the number that an average divides by,
  // whatever its window has.
  static Pool regular(const KernelTable& table, PoolKind kind, const PoolAxis& vertical,
                      const PoolAxis& horizontal, std::int64_t height, std::int64_t width,
                      std::int64_t divisor = 0);
  // So many outputs whose windows together cover all of x, as PyTorch's adaptive pools cut it:
  // output i sees the pixels from floor(i n / outputs) up to ceil((i + 1) n / outputs).
  static Pool adaptive(const KernelTable& table, PoolKind kind, std::int64_t height,
                       std::int64_t width, std::int64_t out_height, std::int64_t out_width);

  std::int64_t out_height() const { return static_cast<std::int64_t>(rows_.size()); }
  std::int64_t out_width() const { return static_cast<std::int64_t>(columns_.size()); }
  std::int64_t pixels() const { return height_ * width_; }  // of an image of x
  // Returns the multiply-adds of an image, about.
  double work(std::int64_t channels) const;

  // Computes y [B, H', W', C] of x [B, H, W, C], both contiguous.
  void run(std::int64_t batch, std::int64_t channels, const float* x, float* y,
           const ParallelFor& parallel_for) const;

 private:
  Pool(const KernelTable& table, PoolKind kind, std::int64_t height, std::int64_t width)
      : table_(&table), kind_(kind), height_(height), width_(width) {}

  const KernelTable* table_;
  PoolKind kind_;
  std::int64_t height_, width_;
  std::int64_t row_dilation_ = 1, column_dilation_ = 1;
  std::vector<PoolWindow> rows_, columns_;
  std::int64_t most_ = 1;  // pixels of the largest window
};

// Computes y [B, C, H', W'] of x [B, C, H, W] on the pool's threads: the planes of as many channels
// as a vector has are turned, pooled and turned back at a time.
void pool_planes(const KernelTable& table, const Pool& pool, std::int64_t batch,
                 std::int64_t channels, const float* x, float* y, Interrupt& interrupt);

// y[r] = the largest number, or the average, of x[r, :], for x [R, P].
void pool_rows(const KernelTable& table, PoolKind kind, std::int64_t rows, std::int64_t pixels,
               const float* x, float* y, const ParallelFor& parallel_for);

// y[b, c] = the largest number, or the average, of x[b, :, c], for x [B, P, C]. The sums of an
// average are cut at fixed numbers of pixels.
void pool_all(const KernelTable& table, PoolKind kind, std::int64_t batch, std::int64_t pixels,
              std::int64_t channels, const float* x, float* y, const ParallelFor& parallel_for);

}  // namespace treadle

// Conv is a cross-correlation in one or two dimensions with weights that are packed once:
//
//     y[b, i, j, d] = f(bias[d] + sum_{p, q, c} w[d, p, q, c] x[b, i', j', c'])
//                     + residual[b, i, j, d]
//
// or, with residual_first, f of all of it. Here i' = stride i + dilation p - before, likewise j',
// and c' is channel c of the group of d; x is zero outside. Channels are the last axis in memory.
// It is the product of kernels/linear.h over row pointers: one for each tap and output, so that no
// window is copied. Padding is a pointer to zeros.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "engine/conv/conv_shape.h"
#include "engine/conv/task_slots.h"
#include "engine/product/packed_weights.h"
#include "engine/schedule/team.h"

namespace treadle {

// ConvTarget says where outputs lie that are not contiguous: how many there are, and the floats
// from one image, row or column to the next. A pixel's channels are contiguous.
struct ConvTarget {
  std::int64_t rows, columns;
  std::int64_t image_stride, row_stride, column_stride;
};

// ConvCall says what a convolution reads and writes. All arrays are contiguous.
struct ConvCall {
  std::int64_t batch, height, width;
  const float* x;                   // [B, H, W, C]
  float* y;                         // [B, H', W', D], or [B, D, H', W'] with channels_first
  const Activation* f = nullptr;    // null applies none
  const float* residual = nullptr;  // [B, H', W', D], or null; it may be y. Not with channels_first
  bool residual_first = false;
  bool channels_first = false;
  // Other outputs than H' and W', or null. It lives as long as `plan`, and y is never turned.
  const ConvTarget* target = nullptr;
};

class Conv {
 public:
  // A Job is a call that has been cut into tasks.
  struct Job;

  // Packs a weight in the form of its dtype: float32 and bfloat16 as the matrix [D, kh kw C/g];
  // int8 as [D kh kw, C/g] where `taps_are_rows`, else as [D, kh kw C/g]: the rows, in blocks of
  // kSumBlock, have scales. The bias [D] may be null.
  Conv(const KernelTable& table, const ConvShape& shape, const StoredMatrix& weight,
       const float* bias, bool taps_are_rows);
  Conv(const KernelTable& table, const ConvShape& shape, const StoredMatrix& weight,
       const float* bias)
      : Conv(table, shape, weight, bias, taps_are_rows(shape)) {}

  // Tells whether each tap of an int8 weight has scales of its own, if nobody says otherwise.
  static bool taps_are_rows(const ConvShape& shape) { return shape.group_inputs() >= kFewChannels; }

  const ConvShape& shape() const { return shape_; }
  Dtype dtype() const { return dtype_; }
  const char* isa() const { return table_->of(dtype_).isa; }  // the level of the product
  std::int64_t weight_bytes() const;
  // Return what a group multiplies by, in the order of the taps and then of the channels, and adds,
  // or null.
  const PackedWeights& weights(std::int64_t group) const { return groups_[group].packed; }
  const float* bias(std::int64_t group) const { return groups_[group].bias.data(); }
  // Returns how many terms of an output are summed by themselves before they are added, or 0 where
  // this differs from one to the next, or there are none.
  std::int64_t block_terms() const;
  const KernelTable& table() const { return *table_; }
  // Return H' and W' of a call, or 0 where the taps reach over more than x.
  std::int64_t height(const ConvCall& call) const { return shape_.vertical.outputs(call.height); }
  std::int64_t width(const ConvCall& call) const { return shape_.horizontal.outputs(call.width); }
  static constexpr bool kTurnsResults = true;  // it computes calls with channels_first
  // Returns the multiply-adds of a call.
  double work(const ConvCall& call) const;

  // Cuts a call into tasks for up to so many threads; Team::threads_for(work(call)) are of use. The
  // caller gives the job `scratch_floats` floats of memory, on a cache line, before it runs. The
  // caller has checked that H' and W' are not 0 and that all sizes of x and y fit in 62 bits.
  Job plan(const ConvCall& call, int threads) const;

  // Runs a job in one phase or, in low precision, in two for each part of the batch.
  // parallel_for(tasks, work, task) calls task(i) for every i < tasks, on up to the planned number
  // of threads, and returns false when the computation is to end; so does `run`. A task takes
  // `work` multiply-adds. All threads of a team may call `run` together.
  template <class ParallelFor>
  bool run(ParallelFor&& parallel_for, const Job& job) const;

  // These are the phases of `run` for the images from `image` on, of which a job has job.images at
  // a time; `encode_images` does nothing unless `encodes_pixels`.
  bool encodes_pixels() const { return dtype_ != Dtype::float32 && rows_ != Rows::gathered; }
  template <class ParallelFor>
  bool encode_images(ParallelFor&& parallel_for, const Job& job, std::int64_t image) const;
  template <class ParallelFor>
  bool multiply_images(ParallelFor&& parallel_for, const Job& job, std::int64_t image) const;

 private:
  // Says where the rows of the product lie.
  enum class Rows {
    windows,  // a row of the kernel is contiguous in x: a tap is kw C numbers
    pixels,   // a tap is the channels of a pixel
    gathered  // windows are copied, and encoded in low precision: few channels
  };
  // A Slice is a part of the sums of a panel, whose weights stay in the cache for a block of rows.
  struct Slice {
    std::int64_t tap, taps;  // of the product
    std::int64_t offset, k;  // the words of a tap before it, and its numbers of each tap
    std::int64_t depth;      // the words of the panel before it
  };
  struct Group {
    PackedWeights packed;
    Buffer bias;
  };
  // A Block is some outputs that follow each other, of one group, with memory of its own.
  struct Block {
    std::int64_t group;
    std::int64_t first, count;  // outputs of the batch
    float* tile;                // [count] of a panel
    Word* windows;              // copied ones
    const Word** rows;          // [taps][count]
    float** out;                // [count]
    float** sums;               // [count]: the rows of the tile
    const float** residual;     // [count]
  };
  // A Run is some outputs of a block, from `first` on, that read x through the same taps: those
  // before `tap` and from `tap_end` on are rows of the kernel above or below x.
  struct Run {
    std::int64_t first, count;
    std::int64_t tap, tap_end;  // of the product
  };
  static constexpr std::int64_t kFewChannels = 16;
  static constexpr std::int64_t kEncodedNumbers = 1 << 14;  // that a task encodes, about

  static Rows rows_of(const ConvShape& shape, Dtype dtype, bool taps_are_rows);
  void cut_slices();
  std::int64_t slot_floats(const Job& job, Block* block, float* memory) const;

  // The images [image, image + images) are those of a phase.
  std::int64_t encode_tasks(const Job& job, std::int64_t images) const;
  void encode(const Job& job, std::int64_t image, std::int64_t images, std::int64_t task) const;
  std::int64_t tasks(const Job& job, std::int64_t images) const;
  void multiply(const Job& job, std::int64_t image, std::int64_t images, std::int64_t task) const;
  // Each of these lists the rows of a block.
  template <class Place>
  void for_each_row(const Job& job, const Block& block, Place&& place) const;
  template <class Place>
  void for_each_window(const Job& job, const Block& block, Place&& place) const;
  void list_windows(const Job& job, std::int64_t image, const Block& block) const;
  void list_pixels(const Job& job, std::int64_t image, const Block& block) const;
  void gather(const Job& job, const Block& block) const;
  Run run_from(const Job& job, const Block& block, std::int64_t first) const;
  void multiply_run(const Job& job, const Block& block, const Run& run, LinearArgs a) const;
  void turn_panel(const Job& job, const Block& block, const LinearArgs& a) const;

  ConvShape shape_;
  const KernelTable* table_;
  Dtype dtype_;
  Rows rows_;
  std::int64_t taps_;           // of the product
  std::int64_t k_, tap_words_;  // numbers and words of a tap
  std::int64_t tap_block_;      // of LinearArgs
  // Words of a pixel, as the rows of the product read them: of all groups, and of one.
  std::int64_t pixel_words_, group_words_;
  std::vector<Slice> slices_;
  std::vector<Group> groups_;
  Buffer zeros_;  // what padding reads
};

struct Conv::Job {
  ConvCall call;
  std::int64_t scratch_floats;
  std::int64_t images;  // images of a phase

  // Gives the job its memory.
  void use(float* scratch) {
    encoded = scratch;
    slots = TaskSlots(scratch + encoded_floats, threads, slot_size);
  }

 private:
  friend class Conv;
  friend class ConvTranspose;
  ConvTarget target;
  double work;                 // multiply-adds of the call
  std::int64_t height, width;  // H' and W'
  std::int64_t block_rows;     // outputs of a block
  std::int64_t parts;          // parts of the panels
  std::int64_t copies;         // windows that a block copies at most
  std::int64_t threads, slot_size, encoded_floats;
  float* encoded;
  TaskSlots slots;
};

template <class ParallelFor>
bool Conv::run(ParallelFor&& parallel_for, const Job& job) const {
  if (job.height == 0 || job.width == 0 || shape_.outputs == 0) return true;
  for (std::int64_t image = 0; image < job.call.batch; image += job.images) {
    if (!encode_images(parallel_for, job, image)) return false;
    if (!multiply_images(parallel_for, job, image)) return false;
  }
  return true;
}

template <class ParallelFor>
bool Conv::encode_images(ParallelFor&& parallel_for, const Job& job, std::int64_t image) const {
  if (!encodes_pixels()) return true;
  const std::int64_t images = std::min(job.images, job.call.batch - image);
  const auto task = [&](std::int64_t i) { encode(job, image, images, i); };
  return parallel_for(encode_tasks(job, images), kEncodedNumbers, task);
}

template <class ParallelFor>
bool Conv::multiply_images(ParallelFor&& parallel_for, const Job& job, std::int64_t image) const {
  const std::int64_t images = std::min(job.images, job.call.batch - image);
  const std::int64_t count = tasks(job, images);
  const double part = job.work / job.call.batch * images / count;
  const auto task = [&](std::int64_t i) { multiply(job, image, images, i); };
  return parallel_for(count, part, task);
}

// Computes a call on the pool's threads.
void convolve(const Conv& conv, const ConvCall& call, Interrupt& interrupt);

}  // namespace treadle

// ConvTranspose is the transpose of a convolution, in one or two dimensions, channels last:
//
//     y[b, i, j, d] = f(bias[d] + sum_{p, q, c} w[d, p, q, c] x[b, i', j', c'])
//
// over the taps p for which i + before - dilation p is stride i' for an i' within x, likewise q and
// j'. This is the scatter-add of products, gathered: outputs whose places leave the same remainder
// by the stride read x through the same taps. They are an ordinary convolution of stride 1, whose
// outputs lie a stride apart. Each output belongs to one of these convolutions, and nothing is
// added up between threads. In low precision they read the same encoded pixels.
//
// Where a pixel of x alone makes `stride` outputs that follow each other in a row (as many taps as
// the stride, without padding), these are the channels of one output, and one convolution makes
// them: there are fewer rows to go through, and fewer vectors that are not full.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/conv/conv.h"

namespace treadle {

// ConvTransposeShape has in `vertical` and `horizontal` the axes of the convolution that is
// transposed; `after` is that which its outputs do not reach.
struct ConvTransposeShape : ConvShape {
  // Returns the number of outputs for `size` inputs along an axis, which may be negative.
  static std::int64_t outputs_of(const ConvAxis& axis, std::int64_t size) {
    return (size - 1) * axis.stride + axis.span() - axis.before - axis.after;
  }
};

class ConvTranspose {
 public:
  struct Job;

  // Packs a weight in the form of its dtype, [D kh kw, C/g]: in int8 each of these rows, in blocks
  // of kSumBlock, has scales, however few its channels are. The bias [D] may be null.
  ConvTranspose(const KernelTable& table, const ConvTransposeShape& shape,
                const StoredMatrix& weight, const float* bias);

  // Returns the same, which shares its weights, with other zeros behind the outputs of each axis.
  ConvTranspose with_after(std::int64_t vertical, std::int64_t horizontal) const {
    ConvTranspose other = *this;
    other.shape_.vertical.after = vertical;
    other.shape_.horizontal.after = horizontal;
    return other;
  }

  const ConvTransposeShape& shape() const { return shape_; }
  const KernelTable& table() const { return *table_; }
  const char* isa() const { return table_->of(dtype_).isa; }  // the level of the products
  std::int64_t weight_bytes() const;
  // Return H' and W' of a call with an image of at least one pixel; they may be negative.
  std::int64_t height(const ConvCall& call) const {
    return ConvTransposeShape::outputs_of(shape_.vertical, call.height);
  }
  std::int64_t width(const ConvCall& call) const {
    return ConvTransposeShape::outputs_of(shape_.horizontal, call.width);
  }
  double work(const ConvCall& call) const;

  // These are those of Conv, with the same contract. A call has channels last and no residual.
  static constexpr bool kTurnsResults = false;
  Job plan(const ConvCall& call, int threads) const;
  template <class ParallelFor>
  bool run(ParallelFor&& parallel_for, const Job& job) const;

 private:
  // The outputs that leave one remainder, or a row's of all remainders, and their convolution.
  struct Part {
    std::int64_t row, column;  // the first output
    std::int64_t down, right;  // outputs from one to the next
    Conv conv;
  };
  using Parts = std::shared_ptr<const std::vector<Part>>;

  // Returns the convolutions of all outputs; `joined` makes the outputs of a pixel at once.
  Parts parts_for(const StoredMatrix& weight, const float* bias, bool joined) const;
  // Returns those that make a call: no output of a joined one lies beyond the end of a row.
  const std::vector<Part>& parts(const ConvCall& call) const;
  // Returns the call of one part.
  ConvCall call_of(const Part& part, const ConvCall& call, ConvTarget& target) const;

  ConvTransposeShape shape_;
  const KernelTable* table_;
  Dtype dtype_;
  // joined_ is null where a pixel's outputs do not follow each other. Where they do, both are kept:
  // with_after may cut a pixel's outputs, which needs the single ones.
  Parts single_, joined_;
};

struct ConvTranspose::Job {
  std::int64_t scratch_floats = 0;

  // Gives the job its memory. The parts run one after another and share it.
  void use(float* scratch) {
    for (Conv::Job& job : jobs) job.use(scratch);
  }

 private:
  friend class ConvTranspose;
  std::vector<const Conv*> convs;
  std::vector<Conv::Job> jobs;
};

template <class ParallelFor>
bool ConvTranspose::run(ParallelFor&& parallel_for, const Job& job) const {
  const std::size_t count = job.jobs.size();
  std::size_t first = 0;
  for (; first < count && !job.convs[first]->encodes_pixels(); ++first) {
    if (!job.convs[first]->run(parallel_for, job.jobs[first])) return false;
  }
  if (first == count) return true;
  // The others read the same pixels, which the first of them encodes.
  const Conv::Job& all = job.jobs[first];
  for (std::int64_t image = 0; image < all.call.batch; image += all.images) {
    if (!job.convs[first]->encode_images(parallel_for, all, image)) return false;
    for (std::size_t i = first; i < count; ++i) {
      if (!job.convs[i]->multiply_images(parallel_for, job.jobs[i], image)) return false;
    }
  }
  return true;
}

// Computes a call on the pool's threads.
void convolve(const ConvTranspose& conv, const ConvCall& call, Interrupt& interrupt);

}  // namespace treadle

// Depthwise is a convolution whose groups have one channel each, in one or two dimensions:
//
//     y[b, i, j, d] = f(bias[d] + sum_{p, q} w[d, p, q] x[b, i', j', d / m]) + residual[b, i, j, d]
//
// where i' = stride i + dilation p - before, likewise j', m = D / C, and x is zero outside. It is
// no product: a vector holds channels, and each has its own taps (kernels/depthwise.h). Weights
// are float32 in every dtype of the layer.
#pragma once

#include <cstdint>

#include "engine/conv/conv.h"
#include "engine/conv/conv_shape.h"
#include "engine/schedule/parallel_for.h"
#include "kernels/table.h"
#include "runtime/buffer.h"

namespace treadle {

class Depthwise {
 public:
  // Tells whether a convolution is depthwise.
  static bool is(const ConvShape& shape) { return shape.groups == shape.inputs; }

  // Packs a weight [D, kh, kw]; the bias [D] may be null.
  Depthwise(const KernelTable& table, const ConvShape& shape, const float* weight,
            const float* bias);

  const ConvShape& shape() const { return shape_; }
  const char* isa() const { return table_->isa; }
  std::int64_t weight_bytes() const {
    return weights_.size() * static_cast<std::int64_t>(sizeof(float));
  }
  const KernelTable& table() const { return *table_; }
  // Return H' and W' of a call, or 0 where the taps reach over more than x.
  std::int64_t height(const ConvCall& call) const { return shape_.vertical.outputs(call.height); }
  std::int64_t width(const ConvCall& call) const { return shape_.horizontal.outputs(call.width); }
  // Returns the multiply-adds of a call.
  double work(const ConvCall& call) const;
  // Returns the floats of memory that a call needs beside its arrays.
  std::int64_t scratch_floats(const ConvCall& call) const;

  // Computes y. H' and W' are those of the shape's axes; the sizes of x, y and the scratch fit in
  // 62 bits. The scratch is on a cache line.
  void run(const ConvCall& call, float* scratch, const ParallelFor& parallel_for) const;

 private:
  // Make rows of the B H' rows of y: [begin, end), and the channels [c, c + channels) of one.
  void make_rows(const ConvCall& call, const float* x, std::int64_t begin, std::int64_t end,
                 float* y) const;
  void make_row(const ConvCall& call, const float* x, std::int64_t row, std::int64_t c,
                std::int64_t channels, float* y) const;
  // Makes copies of x whose pixels have each channel m times.
  void repeat_channels(const ConvCall& call, float* repeated,
                       const ParallelFor& parallel_for) const;

  ConvShape shape_;
  const KernelTable* table_;
  std::int64_t weight_stride_;
  Buffer weights_, bias_;  // [kh, kw, weight_stride], [weight_stride]
};

}  // namespace treadle

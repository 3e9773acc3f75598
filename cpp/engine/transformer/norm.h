// Norm is a norm of rows with its weights: a layer norm, or one by the root mean square.
#pragma once

#include <algorithm>
#include <cstdint>

#include "engine/product/rows.h"
#include "engine/transformer/block_shape.h"
#include "runtime/buffer.h"

namespace treadle {

// Returns a copy of `size` floats, or an empty buffer for null.
inline Buffer copied(const float* from, std::int64_t size) {
  Buffer buffer = Buffer::uninitialized(from ? size : 0);
  if (from) std::copy_n(from, size, buffer.data());
  return buffer;
}

class Norm {
 public:
  Norm() = default;
  // The weight and the bias [size] may be null.
  Norm(const KernelTable& table, const NormWeights& weights, NormKind kind, float eps,
       std::int64_t size)
      : kernel_(kind == NormKind::rms ? table.rms_norm : table.layer_norm),
        weight_(copied(weights.weight, size)),
        bias_(copied(weights.bias, size)),
        eps_(eps),
        size_(size) {}

  RowKernel kernel() const { return kernel_; }
  // Returns the arguments of the kernel for rows that follow each other.
  RowArgs args(std::int64_t rows, const float* from, float* to) const {
    RowArgs a{};
    a.rows = rows;
    a.size = a.x_stride = a.out_stride = size_;
    a.x = from;
    a.out = to;
    a.weight = weight_.data();
    a.bias = bias_.data();
    a.eps = eps_;
    return a;
  }

 private:
  RowKernel kernel_ = nullptr;
  Buffer weight_, bias_;  // empty where there is none
  float eps_ = 0;
  std::int64_t size_ = 0;
};

}  // namespace treadle

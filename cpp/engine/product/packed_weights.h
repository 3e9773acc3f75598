// PackedWeights holds weights in the panels that the kernels read (kernels/table.h has the layout).
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/table.h"
#include "runtime/buffer.h"

namespace treadle {

// A StoredMatrix is a row-major matrix [outputs, k] of weights in the form in which its dtype is
// stored (python/treadle/_storage/formats.py). Packing changes the order of its numbers and nothing
// else.
struct StoredMatrix {
  Dtype dtype = Dtype::float32;
  const void* data = nullptr;     // float; the bits of a bfloat16; or int8
  const float* scales = nullptr;  // int8: [outputs, blocks of kSumBlock of k]

  StoredMatrix() = default;
  StoredMatrix(const float* from) : data(from) {}  // NOLINT: the usual case
  StoredMatrix(Dtype type, const void* from, const float* by)
      : dtype(type), data(from), scales(by) {}

  explicit operator bool() const { return data != nullptr; }
  // The matrix must be float32, as all matrices are from which gradients are computed.
  const float* floats() const { return static_cast<const float*>(data); }
};

// An Operand is the matrix that one part of a product's rows is multiplied by: W of [x; h] or R.
// All operands of a product have the same dtype. Where an operand has no weights, only the layout
// is made: the sums of a product with weights that are not packed have it, too.
struct Operand {
  StoredMatrix weights;
  std::int64_t k;
  std::int64_t row_stride = k;                // numbers from one row of `weights` to the next
  std::int64_t scale_stride = sum_blocks(k);  // scales from one row to the next
};

class PackedWeights {
 public:
  PackedWeights() = default;

  // Packs the outputs in their order, into panels of `kPlainVectors` vectors.
  static PackedWeights plain(std::int64_t outputs, const std::vector<Operand>& operands, int lanes);

  // Packs matrices [k, outputs] of float32, which are transposes of the matrices that `plain`
  // takes, in the same way.
  static PackedWeights transposed(std::int64_t outputs, const std::vector<Operand>& operands,
                                  int lanes);

  // Groups the outputs by unit: a panel has, for `lanes` units, one vector per entry of `gates`;
  // gate g of unit u is row g * units + u of every operand. With `share`, up to half a vector of
  // units left over at the end puts several gates into one vector: H = 50 or 100 is not rounded up.
  static PackedWeights gated(std::int64_t units, std::vector<int> gates,
                             const std::vector<Operand>& operands, int lanes, bool share);

  // Returns the number of vectors of a panel.
  int vectors_of(std::int64_t panel) const;

  // Writes the weights of one output, [K] floats, as they were rounded. The weights were packed by
  // `plain` from one operand.
  void read(std::int64_t output, std::int64_t K, float* to) const;

  // Returns a vector with one float per output, a bias, in the layout of the sums.
  Buffer pack_vector(const float* values) const;

  // Returns the number of the output that each of the sums is, in their layout; -1 for padding.
  std::vector<std::int64_t> outputs() const;

  Dtype dtype() const { return dtype_; }
  const Word* weights() const { return weights_.data(); }
  std::int64_t bytes() const { return weights_.size() * static_cast<std::int64_t>(sizeof(float)); }
  std::int64_t panel_stride() const { return panel_stride_; }
  std::int64_t depth() const { return depth_; }  // words along k in a panel
  std::int64_t panels() const { return panels_; }
  int vectors() const { return vectors_; }
  // Returns how many vectors the gates of the last panel share, or 0.
  int shared_vectors() const { return shared_vectors_; }
  std::int64_t sums() const { return total_vectors_ * lanes_; }  // floats of one row of sums

  static constexpr int kPlainVectors = 4;

 private:
  void shape_plain(std::int64_t outputs, const std::vector<Operand>& operands, int lanes);
  void allocate(const std::vector<Operand>& operands);
  void pack(const std::vector<Operand>& operands);
  // Both pack the numbers [begin, begin + count) along k of an operand, for one panel, into
  // `block`.
  void pack_floats(const Operand& operand, std::int64_t panel, std::int64_t begin,
                   std::int64_t count, float* block) const;
  void pack_low_precision(const Operand& operand, std::int64_t panel, std::int64_t begin,
                          std::int64_t count, Word* block) const;
  // Returns the output that a lane of a vector of a panel computes, or -1 for padding.
  std::int64_t output(std::int64_t panel, int vector, int lane) const;

  Dtype dtype_ = Dtype::float32;
  Buffer weights_;
  std::vector<int> gates_;  // empty for `plain` and `transposed`
  std::int64_t outputs_ = 0, panels_ = 0, total_vectors_ = 0, depth_ = 0, panel_stride_ = 0;
  int vectors_ = 0, lanes_ = 0;
  int shared_vectors_ = 0;  // vectors of the last panel if gates share them, else 0
};

}  // namespace treadle

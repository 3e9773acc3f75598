// IntegerProduct multiplies matrices of small integers exactly, with the kernels of float32.
//
// The numbers are integers of at most 255 in magnitude. Along k the matrix is cut where the sum of
// the magnitudes of a column could pass 2^24: within a piece float32 holds every partial sum
// exactly, in whatever order it is added, and the pieces are added as integers, which wrap.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/graph/strides.h"
#include "engine/product/linear.h"

namespace treadle::graph {

class IntegerProduct {
 public:
  IntegerProduct() = default;
  // Packs a matrix w [N, K] of integers.
  IntegerProduct(const KernelTable& table, std::int64_t N, std::int64_t K, const float* w);

  std::int64_t outputs() const { return N_; }
  std::int64_t inputs() const { return K_; }

  // Writes x [M, K] w^T to out [M, N]. x has integers of at most 255 in magnitude.
  void run(Call& call, std::int64_t M, const float* x, std::int32_t* out) const;

 private:
  std::int64_t N_ = 0, K_ = 0;
  std::vector<Linear> pieces_;
};

// The zero points of a matrix are the values of int8 or uint8 that stand for 0.
struct ZeroPoint {
  const Tensor* values = nullptr;  // one, or one for each row or column; null: all are 0
  float of(std::int64_t i) const;
};
// Returns the zero points that input i holds, of which there are one or `count`; absent ones are 0.
// Throws std::invalid_argument for others.
ZeroPoint zero_point(Call& call, int i, Type type, std::int64_t count);
// Returns those that a constant or an input holds, which may be null.
ZeroPoint zero_point(const Tensor* values, Type type, std::int64_t count);

// Returns element i of an int8 or uint8 tensor.
inline float integer_at(const Tensor& x, std::int64_t i) {
  return x.type == Type::int8 ? static_cast<float>(x.as<std::int8_t>()[i])
                              : static_cast<float>(x.as<std::uint8_t>()[i]);
}

// Throws std::invalid_argument unless the tensor holds int8 or uint8.
void check_bytes(const Tensor& x, int i);

}  // namespace treadle::graph

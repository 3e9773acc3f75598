// A product with weights packed once: f(x W^T + b) + residual.
#pragma once

#include <cstdint>

#include "engine/product/encoded_rows.h"
#include "engine/product/packed_weights.h"
#include "engine/schedule/team.h"
#include "kernels/table.h"

namespace treadle {

// The rows of a product. Without `f`, a row of `residual` may be the row of `out`.
struct ProductRows {
  std::int64_t count;
  const float* const* x;
  float* const* out;
  const Activation* f;           // or null
  const float* const* residual;  // or null
  EncodedRows* encoded;          // room for x, shared by the team, where weights are not float32
};

class Linear {
 public:
  Linear() = default;
  // weight [N, K]; bias [N] or null.
  Linear(const KernelTable& table, std::int64_t N, std::int64_t K, const StoredMatrix& weight,
         const float* bias);

  // Packed already in float32, no bias.
  Linear(const KernelTable& table, std::int64_t N, PackedWeights packed);

  std::int64_t outputs() const { return N_; }
  const PackedWeights& packed() const { return packed_; }
  std::int64_t inputs() const { return K_; }
  Dtype dtype() const { return packed_.dtype(); }
  const char* isa() const { return table_->of(dtype()).isa; }  // the level of the product
  std::int64_t weight_bytes() const { return packed_.bytes(); }
  double work(std::int64_t rows) const { return static_cast<double>(rows) * N_ * K_; }

  // The arguments of the kernel but for rows and panels.
  LinearArgs args() const;

  // A phase of a team, or two where x is encoded first: the threads share out panels times blocks
  // of rows. `next` is the product that comes after this one, or null: its weights are fetched
  // ahead.
  bool run(Team::Member& member, const ProductRows& rows, const Linear* next = nullptr) const;

 private:
  const KernelTable* table_ = nullptr;
  std::int64_t N_ = 0, K_ = 0;
  PackedWeights packed_;
  Buffer bias_;
};

// x [M, K] with rows x_m floats apart, out [M, N] and residual [M, N] contiguous.
void product(const Linear& linear, std::int64_t M, const float* x, std::int64_t x_m,
             const Activation* f, const float* residual, float* out, Interrupt& interrupt);

}  // namespace treadle

// Linear is a product with weights that are packed once: out = f(x W^T + b) + residual.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/product/encoded_rows.h"
#include "engine/product/packed_weights.h"
#include "engine/schedule/team.h"
#include "kernels/table.h"

namespace treadle {

// ProductRows says where the rows of a product lie. Without `f`, a row of `residual` may be the row
// of `out`.
struct ProductRows {
  std::int64_t count;
  const float* const* x;
  float* const* out;
  const Activation* f;           // or null
  const float* const* residual;  // or null
  EncodedRows* encoded;          // the team's buffer for encoded x; unused for float32 weights
  // [rows] of N floats that f(..) is multiplied by, before the residual is added; or null.
  const float* const* factor = nullptr;
  bool is_encoded = false;  // the buffer holds x already, which the product before this one read
};

class Linear {
 public:
  Linear() = default;
  // Packs a weight [N, K]; the bias [N] may be null.
  Linear(const KernelTable& table, std::int64_t N, std::int64_t K, const StoredMatrix& weight,
         const float* bias);

  // Takes weights that are packed already, in float32. There is no bias.
  Linear(const KernelTable& table, std::int64_t N, PackedWeights packed);

  // Reads the weights where they lie: `rows` are those of W transposed, [K, N] in float32, and
  // outlive this object. There is no bias. The bits are those of packed weights.
  static Linear unpacked(const KernelTable& table, std::int64_t N, std::vector<const float*> rows);

  std::int64_t outputs() const { return N_; }
  const PackedWeights& packed() const { return packed_; }
  std::int64_t inputs() const { return K_; }
  Dtype dtype() const { return packed_.dtype(); }
  const char* isa() const { return table_->of(dtype()).isa; }  // the level of the product
  std::int64_t weight_bytes() const { return packed_.bytes(); }
  double work(std::int64_t rows) const { return static_cast<double>(rows) * N_ * K_; }

  // Returns the arguments of the kernel. The caller adds the rows and the panels.
  LinearArgs args() const;

  // Runs as a phase of a team, or as two where x is encoded first. A task is a panel and a block of
  // rows. `next` is the product that follows this one, or null: its weights are fetched ahead.
  // Returns false when the computation is to end.
  bool run(Team::Member& member, const ProductRows& rows, const Linear* next = nullptr) const;

 private:
  const KernelTable* table_ = nullptr;
  std::int64_t N_ = 0, K_ = 0;
  PackedWeights packed_;
  Buffer bias_;
  std::vector<const float*> rows_;  // of weights that are not packed
};

// Computes a whole product on the pool's threads. The rows of x [M, K] are x_m floats apart; out
// [M, N] and residual [M, N], which may be null, are contiguous.
void product(const Linear& linear, std::int64_t M, const float* x, std::int64_t x_m,
             const Activation* f, const float* residual, float* out, Interrupt& interrupt);

}  // namespace treadle

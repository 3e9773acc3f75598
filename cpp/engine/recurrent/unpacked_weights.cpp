#include "engine/recurrent/unpacked_weights.h"

#include <algorithm>

namespace treadle {
namespace {

// Returns the row of a matrix [outputs, k] that each of the sums is a product with. What padding
// becomes is never read, so any row serves.
std::vector<const float*> rows_of(const StoredMatrix& matrix, std::int64_t k,
                                  const std::vector<std::int64_t>& outputs) {
  std::vector<const float*> rows;
  rows.reserve(outputs.size());
  for (const std::int64_t n : outputs) {
    rows.push_back(matrix.floats() + std::max<std::int64_t>(n, 0) * k);
  }
  return rows;
}

}  // namespace

UnpackedWeights::UnpackedWeights(const KernelTable& table, const CellShape& shape,
                                 const CellWeights& weights, const PackedWeights& main,
                                 const PackedWeights& projection)
    : table_(&table),
      shape_(shape),
      bias_ih_(weights.bias_ih),
      bias_hh_(weights.bias_hh),
      lanes_(table.lanes),
      shared_vectors_(main.shared_vectors()),
      main_(main, table.lanes),
      projected_(projection, table.lanes),
      outputs_(main.outputs()),
      input_(rows_of(weights.weight_ih, shape.input_size, outputs_)),
      state_(rows_of(weights.weight_hh, shape.state_size(), outputs_)) {
  if (shape.proj_size) {
    project_ = rows_of(weights.weight_hr, shape.hidden_size, projection.outputs());
  }
}

std::int64_t UnpackedWeights::sums() const { return std::max(main_.sums, projected_.sums); }

void UnpackedWeights::input_part(std::int64_t rows, const float* const* x, float* const* sums,
                                 PanelShare part) const {
  const std::int64_t begin = main_.begin(part), end = main_.end(part);
  // The candidate of a GRU has b_hn in its state part.
  const std::int64_t both = shape_.mode == Mode::gru ? 2 * shape_.hidden_size : INT64_MAX;
  for (std::int64_t i = begin; i < end; ++i) {
    const std::int64_t n = outputs_[i];
    float bias = 0.0f;
    if (n >= 0 && bias_ih_) bias += bias_ih_[n];
    if (n >= 0 && n < both && bias_hh_) bias += bias_hh_[n];
    sums[0][i] = bias;
  }
  for (std::int64_t r = 1; r < rows; ++r)
    std::copy(sums[0] + begin, sums[0] + end, sums[r] + begin);
  table_->unpacked({rows, shape_.input_size, x, sums, input_.data(), begin, end});
}

void UnpackedWeights::state_part(std::int64_t rows, const float* const* h, float* const* sums,
                                 float* const* hidden, PanelShare part) const {
  const bool gru = shape_.mode == Mode::gru;
  const std::int64_t H = shape_.hidden_size;
  const std::int64_t first = part.begin(main_.panels) * lanes_;
  const std::int64_t last = part.end(main_.panels) * lanes_;
  for (std::int64_t r = 0; gru && r < rows; ++r) {
    for (std::int64_t unit = first; unit < last; ++unit) {
      hidden[r][unit] = bias_hh_ && unit < H ? bias_hh_[2 * H + unit] : 0.0f;
    }
    exchange_candidates(sums[r], hidden[r], part);
  }
  table_->unpacked(
      {rows, shape_.state_size(), h, sums, state_.data(), main_.begin(part), main_.end(part)});
  for (std::int64_t r = 0; gru && r < rows; ++r) exchange_candidates(sums[r], hidden[r], part);
}

void UnpackedWeights::exchange_candidates(float* sums, float* hidden, PanelShare part) const {
  for (std::int64_t panel = part.begin(main_.panels); panel < part.end(main_.panels); ++panel) {
    const bool shared = shared_vectors_ && panel == main_.panels - 1;
    const std::int64_t units = shared ? shared_vectors_ * lanes_ / kSharedGates : lanes_;
    float* const candidates = sums + panel * main_.width + 2 * units;
    std::swap_ranges(candidates, candidates + units, hidden + panel * lanes_);
  }
}

void UnpackedWeights::project(std::int64_t rows, const float* const* x, float* const* sums,
                              float* const* out, PanelShare part) const {
  const std::int64_t begin = projected_.begin(part), end = projected_.end(part);
  for (std::int64_t r = 0; r < rows; ++r) std::fill(sums[r] + begin, sums[r] + end, 0.0f);
  table_->unpacked({rows, shape_.hidden_size, x, sums, project_.data(), begin, end});
  for (std::int64_t r = 0; r < rows; ++r) {
    std::copy(sums[r] + begin, sums[r] + std::min(end, shape_.proj_size), out[r] + begin);
  }
}

}  // namespace treadle

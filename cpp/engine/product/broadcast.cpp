#include "engine/product/broadcast.h"

namespace treadle {
namespace {

constexpr std::int64_t kTaskElements = 16384;

}  // namespace

bool Broadcast::set(const std::int64_t* a_sizes, int a_rank, const std::int64_t* b_sizes,
                    int b_rank) {
  rank = std::max(a_rank, b_rank);
  if (rank > kMaxRank) return false;
  std::int64_t a_stride = 1, b_stride = 1;
  for (int k = 1; k <= rank; ++k) {  // from the last axis
    const std::int64_t a = k <= a_rank ? a_sizes[a_rank - k] : 1;
    const std::int64_t b = k <= b_rank ? b_sizes[b_rank - k] : 1;
    if (a != b && a != 1 && b != 1) return false;
    sizes[rank - k] = a == 1 ? b : a;
    a_strides[rank - k] = a == 1 ? 0 : a_stride;
    b_strides[rank - k] = b == 1 ? 0 : b_stride;
    a_stride *= a;
    b_stride *= b;
  }
  return true;
}

Broadcast Broadcast::joined() const {
  Broadcast result;
  int& n = result.rank;
  for (int k = 0; k < rank; ++k) {
    if (sizes[k] == 1) continue;
    const bool joins = n > 0 && result.a_strides[n - 1] == sizes[k] * a_strides[k] &&
                       result.b_strides[n - 1] == sizes[k] * b_strides[k];
    if (!joins) {
      result.sizes[n++] = sizes[k];
    } else {
      result.sizes[n - 1] *= sizes[k];
    }
    result.a_strides[n - 1] = a_strides[k];
    result.b_strides[n - 1] = b_strides[k];
  }
  if (n == 0) result.sizes[n++] = 1;
  return result;
}

BroadcastBlocks::BroadcastBlocks(const Broadcast& shape) {
  for (int k = 0; k < shape.rank; ++k) {
    if (shape.sizes[k] == 0) return;
  }
  axes_ = shape.joined();
  const int n = axes_.rank;
  columns_ = axes_.sizes[n - 1];
  rows_ = n > 1 ? axes_.sizes[n - 2] : 1;
  outer_ = 1;
  for (int k = 0; k + 2 < n; ++k) outer_ *= axes_.sizes[k];
  block_columns_ = columns_ < 2 * kTaskElements ? columns_ : kTaskElements;
  block_rows_ = std::clamp<std::int64_t>(kTaskElements / block_columns_, 1, rows_);
  group_ = std::max<std::int64_t>(1, kTaskElements / (block_rows_ * block_columns_));
  units_ = outer_ * ((rows_ + block_rows_ - 1) / block_rows_) *
           ((columns_ + block_columns_ - 1) / block_columns_);
}

BroadcastBlock BroadcastBlocks::block(std::int64_t unit) const {
  const int n = axes_.rank;
  const std::int64_t across = (columns_ + block_columns_ - 1) / block_columns_;
  const std::int64_t down = (rows_ + block_rows_ - 1) / block_rows_;
  const std::int64_t c = unit % across * block_columns_;
  const std::int64_t r = unit / across % down * block_rows_;
  std::int64_t index = unit / across / down;
  BroadcastBlock b{};
  b.out = (index * rows_ + r) * columns_ + c;
  b.rows = std::min(block_rows_, rows_ - r);
  b.columns = std::min(block_columns_, columns_ - c);
  b.a_step = static_cast<int>(axes_.a_strides[n - 1]);
  b.b_step = static_cast<int>(axes_.b_strides[n - 1]);
  if (n > 1) {
    b.a_row = axes_.a_strides[n - 2];
    b.b_row = axes_.b_strides[n - 2];
  }
  b.a = r * b.a_row + c * b.a_step;
  b.b = r * b.b_row + c * b.b_step;
  for (int k = n - 3; k >= 0; --k) {
    const std::int64_t i = index % axes_.sizes[k];
    index /= axes_.sizes[k];
    b.a += i * axes_.a_strides[k];
    b.b += i * axes_.b_strides[k];
  }
  return b;
}

}  // namespace treadle

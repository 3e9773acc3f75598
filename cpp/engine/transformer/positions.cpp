#include "engine/transformer/positions.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

namespace treadle {
namespace {

// A table grows by at least a half, so that a sequence that grows token by token costs no more than
// a few times its length.
std::int64_t larger(std::int64_t have, std::int64_t wanted) {
  return std::max(wanted, have + have / 2);
}

}  // namespace

bool Turns::grow(Table& table, std::int64_t positions, Interrupt& interrupt) const {
  constexpr double kWork = 64;  // multiply-adds that a cosine and a sine take
  if (positions <= table.positions) return true;
  const std::int64_t count = larger(table.positions, positions), H = half();
  Buffer numbers = Buffer::uninitialized(count * 2 * H);
  std::copy_n(table.numbers.data(), table.positions * 2 * H, numbers.data());
  for (std::int64_t p = table.positions; p < count; ++p) {
    float* const to = numbers.data() + p * 2 * H;
    for (std::int64_t i = 0; i < H; ++i) {
      const float angle = static_cast<float>(p) * frequencies_[i];
      to[i] = static_cast<float>(std::cos(static_cast<double>(angle))) * factor_;
      to[H + i] = static_cast<float>(std::sin(static_cast<double>(angle))) * factor_;
    }
    interrupt.progress(kWork * static_cast<double>(H));
    if (interrupt.stopped()) return false;
  }
  table.numbers = std::move(numbers);
  table.positions = count;
  return true;
}

Distances::Distances(std::int64_t heads, std::int64_t reach, const float* numbers)
    : heads_(heads), reach_(reach), numbers_(Buffer::uninitialized(heads * (2 * reach + 1))) {
  std::copy_n(numbers, numbers_.size(), numbers_.data());
}

void Distances::grow(Table& table, std::int64_t positions) const {
  if (positions <= table.positions) return;
  const std::int64_t count = larger(table.positions, positions), size = 2 * count - 1;
  Buffer numbers = Buffer::uninitialized(heads_ * size);
  for (std::int64_t n = 0; n < heads_; ++n) {
    const float* const from = numbers_.data() + n * (2 * reach_ + 1) + reach_;
    float* const to = numbers.data() + n * size + count - 1;
    for (std::int64_t d = 1 - count; d < count; ++d) to[d] = from[std::clamp(d, -reach_, reach_)];
  }
  table.numbers = std::move(numbers);
  table.positions = count;
}

}  // namespace treadle

#include "engine/graph/ops/integer_product.h"

#include <algorithm>
#include <cmath>

namespace treadle::graph {
namespace {

constexpr float kExact = 1 << 24, kMost = 255;

}  // namespace

IntegerProduct::IntegerProduct(const KernelTable& table, std::int64_t N, std::int64_t K,
                               const float* w)
    : N_(N), K_(K) {
  std::vector<float> sums(static_cast<std::size_t>(N));
  for (std::int64_t begin = 0, k = 0; begin < K; begin = k) {
    std::fill(sums.begin(), sums.end(), 0.0f);
    for (k = begin; k < K; ++k) {
      float largest = 0;
      for (std::int64_t n = 0; n < N; ++n) {
        largest = std::max(largest, sums[n] + std::fabs(w[n * K + k]));
      }
      if (largest * kMost > kExact && k > begin) break;
      for (std::int64_t n = 0; n < N; ++n) sums[n] += std::fabs(w[n * K + k]);
      throw_if_stopped(static_cast<double>(N));
    }
    std::vector<float> piece(static_cast<std::size_t>(N * (k - begin)));
    for (std::int64_t n = 0; n < N; ++n) {
      std::copy_n(w + n * K + begin, k - begin, piece.data() + n * (k - begin));
    }
    pieces_.emplace_back(table, N, k - begin, piece.data(), nullptr);
  }
}

void IntegerProduct::run(Call& call, std::int64_t M, const float* x, std::int32_t* out) const {
  const std::int64_t count = M * N_;
  if (count == 0) return;
  std::fill_n(out, count, 0);
  if (pieces_.empty()) return;
  float* sums = call.scratch_floats(count);
  std::int64_t begin = 0;
  for (const Linear& piece : pieces_) {
    product(piece, M, x + begin, K_, nullptr, nullptr, sums, call.interrupt());
    if (call.interrupt().stopped()) throw Interrupted{};
    begin += piece.inputs();
    constexpr std::int64_t kTask = 4096;
    call.parallel_for((count + kTask - 1) / kTask, kTask * 10, [&](std::int64_t task) {
      for (std::int64_t i = task * kTask, end = std::min(count, i + kTask); i < end; ++i) {
        const auto sum = static_cast<std::uint32_t>(static_cast<std::int32_t>(sums[i]));
        out[i] = static_cast<std::int32_t>(static_cast<std::uint32_t>(out[i]) + sum);
      }
    });
  }
}

float ZeroPoint::of(std::int64_t i) const {
  return values ? integer_at(*values, values->count() == 1 ? 0 : i) : 0.0f;
}

ZeroPoint zero_point(const Tensor* values, Type type, std::int64_t count) {
  if (!values) return {};
  if (values->type != type) {
    refuse(std::string("a zero point has dtype ") + name_of(values->type) + ", expected " +
           name_of(type));
  }
  if (values->count() != 1 && values->count() != count) {
    refuse("there are " + std::to_string(values->count()) + " zero points, expected 1 or " +
           std::to_string(count));
  }
  return {values};
}

ZeroPoint zero_point(Call& call, int i, Type type, std::int64_t count) {
  return zero_point(call.has(i) ? &call.input(i) : nullptr, type, count);
}

void check_bytes(const Tensor& x, int i) {
  if (x.type != Type::int8 && x.type != Type::uint8) {
    refuse("input " + std::to_string(i) + " has dtype " + name_of(x.type) +
           ", expected int8 or uint8");
  }
}

}  // namespace treadle::graph

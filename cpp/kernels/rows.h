// Functions of whole rows: layer norm, rms norm, softmax and its logarithm, turns.
#pragma once

#include "kernels/table.h"
#include "simd/math.h"

namespace treadle::TREADLE_ISA {
namespace {

// y = (x - mean) / sqrt(variance + eps) * weight + bias (Ba, Kiros and Hinton, arXiv:1607.06450).
// The variance is that of the differences, in a second pass: no cancellation.
void layer_norm(const RowArgs& a) {
  const std::int64_t N = a.size;
  const float n = static_cast<float>(N);
  for (std::int64_t row = 0; row < a.rows; ++row) {
    const float* x = a.x + row * a.x_stride;
    float* out = a.out + row * a.out_stride;
    Vec sum{};
    if (a.residual) {
      const float* residual = a.residual + row * a.residual_stride;
      for (std::int64_t i = 0; i < N; i += kLanes) {
        const Vec t = load_up_to(x + i, N - i) + load_up_to(residual + i, N - i);
        sum = sum + t;
        store_up_to(out + i, t, N - i);
      }
      x = out;
    } else {
      for (std::int64_t i = 0; i < N; i += kLanes) sum = sum + load_up_to(x + i, N - i);
    }
    const float mean = sum_lanes(sum) / n;
    Vec squares{};
    std::int64_t i = 0;
    for (; i + kLanes <= N; i += kLanes) {
      const Vec d = load(x + i) - broadcast(mean);
      squares = fma(d, d, squares);
    }
    if (i < N) {
      const Vec inside = load_partial(x + i, static_cast<int>(N - i));
      const Vec d =
          lane_numbers() < static_cast<std::uint32_t>(N - i) ? inside - broadcast(mean) : Vec{};
      squares = fma(d, d, squares);
    }
    const float scale = 1.0f / __builtin_sqrtf(sum_lanes(squares) / n + a.eps);
    for (i = 0; i < N; i += kLanes) {
      Vec y = (load_up_to(x + i, N - i) - broadcast(mean)) * broadcast(scale);
      if (a.weight) y = y * load_up_to(a.weight + i, N - i);
      if (a.bias) y = y + load_up_to(a.bias + i, N - i);
      store_up_to(out + i, y, N - i);
    }
  }
}

// y = x / sqrt(mean(x^2) + eps) * weight (Zhang and Sennrich, arXiv:1910.07467).
void rms_norm(const RowArgs& a) {
  const std::int64_t N = a.size;
  for (std::int64_t row = 0; row < a.rows; ++row) {
    const float* x = a.x + row * a.x_stride;
    float* out = a.out + row * a.out_stride;
    Vec squares{};
    for (std::int64_t i = 0; i < N; i += kLanes) {
      const Vec v = load_up_to(x + i, N - i);
      squares = fma(v, v, squares);
    }
    const float mean = sum_lanes(squares) / static_cast<float>(N);
    const Vec scale = broadcast(1.0f / __builtin_sqrtf(mean + a.eps));
    for (std::int64_t i = 0; i < N; i += kLanes) {
      Vec y = load_up_to(x + i, N - i) * scale;
      if (a.weight) y = y * load_up_to(a.weight + i, N - i);
      store_up_to(out + i, y, N - i);
    }
  }
}

// (x, y) becomes (x cos - y sin, y cos + x sin) for each pair of a head (Su et al.,
// arXiv:2104.09864).
void rotate(const RotateArgs& a) {
  const float *cosines = a.turns, *sines = a.turns + a.half;
  for (std::int64_t head = 0; head < a.heads; ++head) {
    float *x = a.x + head * a.stride, *y = x + a.half;
    for (std::int64_t i = 0; i < a.half; i += kLanes) {
      const std::int64_t left = a.half - i;
      const Vec c = load_up_to(cosines + i, left), s = load_up_to(sines + i, left);
      const Vec u = load_up_to(x + i, left), v = load_up_to(y + i, left);
      store_up_to(x + i, fma(-v, s, u * c), left);
      store_up_to(y + i, fma(u, s, v * c), left);
    }
  }
}

// Returns what softmax subtracts from the numbers of a row before it raises e to them: the largest,
// or zero if all are -infinity, since their difference is NaN.
float row_top(const float* x, std::int64_t N) {
  Vec most = broadcast(-__builtin_inff());
  std::int64_t i = 0;
  for (; i + kLanes <= N; i += kLanes) most = max(most, load(x + i));
  float top = max_lanes(most);
  for (; i < N; ++i) top = x[i] > top ? x[i] : top;
  return top == -__builtin_inff() ? 0.0f : top;
}

// Returns sum_i e^(x_i - top), and writes the terms to `out` unless it is null. The difference
// comes before the factor, which would take the largest numbers to infinity.
float row_sum(const float* x, std::int64_t N, float top, float* out) {
  Vec sum{};
  for (std::int64_t i = 0; i < N; i += kLanes) {
    Vec p = exp2_falling((load_up_to(x + i, N - i) - broadcast(top)) * broadcast(kLog2e));
    if (i + kLanes > N) p = lane_numbers() < static_cast<std::uint32_t>(N - i) ? p : Vec{};
    sum = sum + p;
    if (out) store_up_to(out + i, p, N - i);
  }
  return sum_lanes(sum);
}

// Computes softmax, e^(x - max) / sum.
void softmax(const RowArgs& a) {
  const std::int64_t N = a.size;
  for (std::int64_t row = 0; row < a.rows; ++row) {
    const float* x = a.x + row * a.x_stride;
    float* out = a.out + row * a.out_stride;
    const float total = row_sum(x, N, row_top(x, N), out);
    const Vec divisor = broadcast(total == 0.0f ? 1.0f : total);
    for (std::int64_t i = 0; i < N; i += kLanes) {
      store_up_to(out + i, load_up_to(out + i, N - i) / divisor, N - i);
    }
  }
}

// Computes the logarithm of softmax, x - max - log(sum); a row of -infinity keeps its numbers.
void log_softmax(const RowArgs& a) {
  const std::int64_t N = a.size;
  for (std::int64_t row = 0; row < a.rows; ++row) {
    const float* x = a.x + row * a.x_stride;
    float* out = a.out + row * a.out_stride;
    const float top = row_top(x, N), total = row_sum(x, N, top, nullptr);
    // The sum is at least one unless all numbers are -infinity.
    const Vec less = log(broadcast(total == 0.0f ? 1.0f : total));
    for (std::int64_t i = 0; i < N; i += kLanes) {
      store_up_to(out + i, load_up_to(x + i, N - i) - broadcast(top) - less, N - i);
    }
  }
}

}  // namespace
}  // namespace treadle::TREADLE_ISA

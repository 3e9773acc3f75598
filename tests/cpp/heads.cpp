#include "heads.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "guarded.h"
#include "values.h"

namespace treadle {
namespace {

constexpr double kUnit = 0x1p-24;  // of one rounding

template <class T>
const T* or_null(const std::vector<T>& values) {
  return values.empty() ? nullptr : values.data();
}

void set_mask(AttentionCall& call, const HeadsShape& s, const void* data) {
  const std::int64_t row = s.K * (s.mask == MaskKind::floats ? 4 : 1);
  call.mask = contiguous(static_cast<const std::uint8_t*>(data), s.N, s.S, row);
  call.mask_adds = s.mask == MaskKind::floats;
}

// One Philox4x32 block of 7 rounds, number by number.
std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> x, std::uint64_t seed) {
  std::uint32_t k0 = static_cast<std::uint32_t>(seed), k1 = static_cast<std::uint32_t>(seed >> 32);
  for (int round = 0; round < 7; ++round, k0 += 0x9E3779B9, k1 += 0xBB67AE85) {
    const std::uint64_t a = std::uint64_t{0xD2511F53} * x[0], b = std::uint64_t{0xCD9E8D57} * x[2];
    x = {static_cast<std::uint32_t>(b >> 32) ^ x[1] ^ k0, static_cast<std::uint32_t>(b),
         static_cast<std::uint32_t>(a >> 32) ^ x[3] ^ k1, static_cast<std::uint32_t>(a)};
  }
  return x;
}

// Returns the factor by which dropout multiplies an attention probability.
double kept(const Dropout& d, std::int64_t row, std::int64_t key) {
  if (d.threshold == 0) return 1;
  const std::uint64_t n = key / 64 * 16 + key % 16;
  const auto words =
      philox({static_cast<std::uint32_t>(n), static_cast<std::uint32_t>(n >> 32),
              static_cast<std::uint32_t>(row), static_cast<std::uint32_t>(row >> 32)},
             d.seed);
  return words[key % 64 / 16] >= d.threshold ? d.factor : 0;
}

}  // namespace

Heads::Heads(const HeadsShape& wanted, unsigned seed)
    : shape(wanted),
      q(random_floats(shape.B * shape.N * shape.S * shape.E, seed)),
      k(random_floats(shape.B * shape.kv_heads * shape.K * shape.E, seed + 1)),
      v(random_floats(shape.B * shape.kv_heads * shape.K * shape.F, seed + 2)) {
  const std::int64_t pairs = shape.B * shape.N * shape.S * shape.K;
  for (std::int64_t n = 0; shape.alibi && n < shape.N; ++n) {
    slopes.push_back(std::exp2(-static_cast<float>(n + 1)));
  }
  const std::vector<float> random = random_floats(pairs, seed + 3);
  if (shape.mask == MaskKind::bools) {
    for (const float x : random) mask_bools.push_back(x < -0.3f ? 0 : 1);
  } else if (shape.mask == MaskKind::floats) {
    for (const float x : random) {
      mask_floats.push_back(x < -0.6f ? -std::numeric_limits<float>::infinity() : 2 * x);
    }
  }
}

Expected Heads::definition() const {
  const HeadsShape& s = shape;
  Expected e;
  e.out.resize(s.B * s.N * s.S * s.F);
  e.probabilities.resize(s.B * s.N * s.S * s.K);
  e.bound.resize(s.B * s.N * s.S);
  for (std::int64_t at = 0; at < s.B * s.N * s.S; ++at) {
    const std::int64_t i = at % s.S, n = at / s.S % s.N, b = at / s.S / s.N;
    if (!s.query_lengths.empty() && i >= s.query_lengths[b]) continue;
    const std::int64_t keys = s.key_lengths.empty() ? s.K : s.key_lengths[b];
    const std::int64_t position = i + (s.query_offset.empty() ? 0 : s.query_offset[b]);
    const std::int64_t head = b * s.kv_heads + n / (s.N / s.kv_heads);
    std::vector<double> score(keys, -INFINITY);
    double most = -INFINITY, error = 0;  // of a score
    for (std::int64_t j = 0; j < keys; ++j) {
      if (s.causal && j > position) continue;
      if (s.left >= 0 && j < position - s.left) continue;
      if (s.right >= 0 && j > position + s.right) continue;
      if (!mask_bools.empty() && !mask_bools[at * s.K + j]) continue;
      double sum = 0, terms = 0;
      for (std::int64_t x = 0; x < s.E; ++x) {
        const double term = static_cast<double>(q[at * s.E + x]) * k[(head * s.K + j) * s.E + x];
        sum += term * s.scale;
        terms += std::fabs(term * s.scale);
      }
      if (s.softcap != 0) sum = s.softcap * std::tanh(sum / s.softcap);
      const double alibi = slopes.empty() ? 0 : -slopes[n] * std::fabs(double(position - j));
      const double added = mask_floats.empty() ? 0 : mask_floats[at * s.K + j];
      score[j] = sum + alibi + added;
      most = std::max(most, score[j]);
      if (std::isinf(score[j])) continue;
      // Roundings: two for each term of the product, tanh, and those of what is added, each of a
      // number that is no larger than all of them together.
      error = std::max(error, kUnit * ((2 * s.E + 4) * terms + 8 * std::fabs(sum) +
                                       4 * (std::fabs(alibi) + std::fabs(added))));
    }
    if (most == -INFINITY) continue;
    double total = 0;
    for (double& x : score) total += x = std::exp(x - most);
    for (std::int64_t j = 0; j < keys; ++j) {
      e.probabilities[at * s.K + j] = score[j] /= total;
      for (std::int64_t x = 0; x < s.F; ++x) {
        e.out[at * s.F + x] += score[j] * kept(s.dropout, at, j) * v[(head * s.K + j) * s.F + x];
      }
    }
    // A score errs twice, here and in the total; 2^x by some units, the sums by one for each key.
    e.bound[at] = 2.5 * error + kUnit * (2 * keys + 16);
    if (s.dropout.threshold) e.bound[at] *= s.dropout.factor;
  }
  return e;
}

AttentionCall Heads::call() const {
  AttentionCall c{};
  c.B = shape.B;
  c.N = shape.N;
  c.kv_heads = shape.kv_heads;
  c.S = shape.S;
  c.K = shape.K;
  c.E = shape.E;
  c.F = shape.F;
  c.q = contiguous(q.data(), c.N, c.S, c.E);
  c.k = contiguous(k.data(), c.kv_heads, c.K, c.E);
  c.v = contiguous(v.data(), c.kv_heads, c.K, c.F);
  if (shape.mask == MaskKind::bools) set_mask(c, shape, mask_bools.data());
  if (shape.mask == MaskKind::floats) set_mask(c, shape, mask_floats.data());
  c.query_lengths = or_null(shape.query_lengths);
  c.key_lengths = or_null(shape.key_lengths);
  c.query_offset = or_null(shape.query_offset);
  c.causal = shape.causal;
  c.left = shape.left;
  c.right = shape.right;
  c.scale = shape.scale;
  c.softcap = shape.softcap;
  c.dropout = shape.dropout;
  c.slopes = or_null(slopes);
  return c;
}

GuardedHeads::GuardedHeads(const Heads& heads)
    : call(heads.call()),
      q(heads.q),
      k(heads.k),
      v(heads.v),
      slopes(heads.slopes),
      mask_floats(heads.mask_floats),
      mask_bools(heads.mask_bools) {
  call.q.data = q.data();
  call.k.data = k.data();
  call.v.data = v.data();
  if (call.slopes) call.slopes = slopes.data();
  if (heads.shape.mask == MaskKind::bools) call.mask.data = mask_bools.data();
  if (heads.shape.mask == MaskKind::floats) {
    call.mask.data = reinterpret_cast<const std::uint8_t*>(mask_floats.data());
  }
}

HeadsResult run(const KernelTable& table, const Heads& heads, bool probabilities) {
  const HeadsShape& s = heads.shape;
  GuardedHeads given(heads);
  AttentionCall& c = given.call;
  Guarded<float> out(s.B * s.N * s.S * s.F), seen(probabilities ? s.B * s.N * s.S * s.K : 0);
  c.out = contiguous(out.data(), c.N, c.S, c.F);
  std::fill(out.begin(), out.end(), 9.0f);  // that all of it is written
  if (probabilities) c.probabilities = seen.data();
  Interrupt interrupt(nullptr);
  attend(table, c, interrupt);
  return {{out.begin(), out.end()}, {seen.begin(), seen.end()}};
}

std::vector<float> run(const KernelTable& table, AttentionCall call) {
  std::vector<float> out(call.B * call.N * call.S * call.F, 9.0f);
  call.out = contiguous(out.data(), call.N, call.S, call.F);
  Interrupt interrupt(nullptr);
  attend(table, call, interrupt);
  return out;
}

double largest_error(const HeadsResult& actual, const Heads& heads, const Expected& expected) {
  const HeadsShape& s = heads.shape;
  double worst = 0;
  const auto look = [&](double error, double bound) {
    if (error != 0)
      worst = std::max(worst, std::isnan(error) ? INFINITY : std::fabs(error) / bound);
  };
  for (std::int64_t at = 0; at < s.B * s.N * s.S; ++at) {
    for (std::int64_t x = 0; x < s.F; ++x) {
      const std::int64_t i = at * s.F + x;
      look(actual.out[i] - expected.out[i], expected.bound[at]);  // values are at most one
    }
    for (std::int64_t j = 0; j < s.K && !actual.probabilities.empty(); ++j) {
      const std::int64_t i = at * s.K + j;
      // Next to nothing is flushed to zero.
      look(actual.probabilities[i] - expected.probabilities[i],
           expected.bound[at] * expected.probabilities[i] + std::numeric_limits<float>::min());
    }
  }
  return worst;
}

}  // namespace treadle

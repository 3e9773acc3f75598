// The products of attention's backward pass where a query, its gradient or a key is not finite.
//
// What a key gets from a query that does not see it, and the other way round, is zero times that
// number. The products run as always, over groups of keys or queries that see the same of what is
// not finite, and zeros stand for what a group does not see. That gives the bits that any finite
// numbers give in their places.
#include <cmath>
#include <cstdint>

#include "engine/attention/backward.h"
#include "engine/attention/rows.h"

namespace treadle {
namespace {

constexpr float kZeros[kMostHeadSize] = {};

bool all_finite(const float* x, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    if (!std::isfinite(x[i])) return false;
  }
  return true;
}

// Tells whether a query does not see a key, of the w that the kernel wrote.
bool is_hidden(float w) { return w == 0 && std::signbit(w); }

// Calls use(begin, end) for each longest run of numbers below `count` that hide the same of `items`
// items, after hide(item, hidden) for each item that the run hides and the run before did not, or
// the other way round. At the end nothing is hidden.
template <int Most, class IsHidden, class Hide, class Use>
void for_each_run(std::int64_t count, std::int64_t items, IsHidden&& is_hidden, Hide&& hide,
                  Use&& use) {
  bool now[Most] = {};
  const auto changes = [&](std::int64_t at) {
    for (std::int64_t item = 0; item < items; ++item) {
      if (is_hidden(at, item) != now[item]) return true;
    }
    return false;
  };
  const auto set = [&](std::int64_t item, bool hidden) {
    if (hidden == now[item]) return;
    hide(item, hidden);
    now[item] = hidden;
  };
  for (std::int64_t begin = 0; begin < count;) {
    for (std::int64_t item = 0; item < items; ++item) set(item, is_hidden(begin, item));
    std::int64_t end = begin + 1;
    while (end < count && !changes(end)) ++end;
    use(begin, end);
    begin = end;
  }
  for (std::int64_t item = 0; item < items; ++item) set(item, false);
}

}  // namespace

void AttentionBackward::add_seen_key_grads(const Block& block, const Queries& queries) const {
  const AttentionCall& c = backward_.call;
  const float *q[AttentionRows::kMost], *dout[AttentionRows::kMost];
  std::int64_t wrong[AttentionRows::kMost], count = 0;  // the queries that are not finite
  for (std::int64_t r = 0; r < queries.count; ++r) {
    q[r] = queries.q[r];
    dout[r] = queries.dout[r];
    if (!all_finite(q[r], c.E) || !all_finite(dout[r], c.F)) wrong[count++] = r;
  }
  for_each_run<AttentionRows::kMost>(
      queries.keys, count,
      [&](std::int64_t key, std::int64_t i) { return is_hidden(queries.w[wrong[i]][key]); },
      [&](std::int64_t i, bool hidden) {
        const std::int64_t r = wrong[i];
        q[r] = hidden ? kZeros : queries.q[r];
        dout[r] = hidden ? kZeros : queries.dout[r];
      },
      [&](std::int64_t begin, std::int64_t end) {
        multiply_key_grads(block, queries, q, dout, begin, end);
      });
}

void AttentionBackward::add_seen_query_grads(const Block& block, const Queries& queries) const {
  const AttentionCall& c = backward_.call;
  std::int64_t wrong[kBackwardKeys], count = 0;  // the keys that are not finite
  for (std::int64_t key = 0; key < queries.keys; ++key) {
    if (!all_finite(block.k + key * c.k.s, c.E)) wrong[count++] = key;
  }
  for_each_run<kBackwardKeys>(
      queries.count, count,
      [&](std::int64_t r, std::int64_t i) { return is_hidden(queries.w[r][wrong[i]]); },
      [&](std::int64_t i, bool hidden) {
        const float* const from = hidden ? kZeros : block.k;
        const std::int64_t key = wrong[i], stride = hidden ? 0 : c.k.s;
        table_.of(Dtype::float32)
            .pack_values({from, block.size, c.E, stride, block.scratch.rows.data(), key, key + 1});
      },
      [&](std::int64_t begin, std::int64_t end) {
        multiply_query_grads(block, queries, begin, end);
      });
}

}  // namespace treadle

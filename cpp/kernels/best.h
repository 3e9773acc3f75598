// The k largest of a row, v[0] >= v[1] >= ..., and log(sum e^x): what a search reads of logits.
//
// The k best so far are kept in order. A block of numbers of which none exceeds the last of them is
// passed over after one comparison, and after a few blocks nearly all are.
#pragma once

#include "kernels/rows.h"

namespace treadle::TREADLE_ISA {
namespace {

// Puts x behind those of the `count` best that are not less; `values` and `ids` have room for one
// more.
TREADLE_INLINE void insert_best(float x, std::int64_t id, std::int64_t count, float* values,
                                std::int64_t* ids) {
  std::int64_t at = count;
  for (; at > 0 && values[at - 1] < x; --at) {
    values[at] = values[at - 1];
    ids[at] = ids[at - 1];
  }
  values[at] = x;
  ids[at] = id;
}

void best(const BestArgs& a) {
  constexpr float kLeast = -__builtin_inff();
  constexpr std::int64_t kBlock = 4 * kLanes;
  const auto number = [&](std::int64_t i) { return a.x[i] == a.x[i] ? a.x[i] : kLeast; };
  for (std::int64_t i = 0; i < a.k; ++i) insert_best(number(i), i, i, a.values, a.ids);
  const float* const last = a.values + a.k - 1;
  for (std::int64_t i = a.k; i < a.size;) {
    const std::int64_t end = i + kBlock < a.size ? i + kBlock : a.size;
    bool any = end - i < kBlock;
    if (!any) {
      Vec most = broadcast(kLeast);
#pragma GCC unroll 4
      for (int n = 0; n < 4; ++n) {
        const Vec v = load(a.x + i + n * kLanes);
        most = max(most, v == v ? v : broadcast(kLeast));
      }
      any = max_lanes(most) > *last;
    }
    for (; any && i < end; ++i) {
      if (number(i) > *last) insert_best(number(i), i, a.k - 1, a.values, a.ids);
    }
    i = end;
  }
  const float top = row_top(a.x, a.size);
  const float total = row_sum(a.x, a.size, top, nullptr);
  *a.lse = total == 0.0f ? kLeast : top + log(broadcast(total))[0];
}

}  // namespace
}  // namespace treadle::TREADLE_ISA

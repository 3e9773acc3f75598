// The backward pass of attention between its products: a key block's softmax and its gradient.
//
//     w = e^(score - lse)                    what the forward pass had, from the saved log-sum-exp
//     d(q k) = w (dp - dot) scale cap'       with dp = dout v and dot = out . dout
//
// With dropout, values were multiplied by w keep instead, keep being 0 or 1 / (1 - p): then so is
// dp, and dv takes w keep.
//
// (Dao et al., arXiv:2205.14135, appendix B.2.) The five products around it are those of linear.h
// and outer.h; a block of the two matrices stays in L2.
#pragma once

#include "kernels/dropout.h"
#include "kernels/scores.h"

namespace treadle::TREADLE_ISA {
namespace {

// Computes the slopes of the cap, 1 - tanh^2(scale s / softcap), for a row of products s = q k.
__attribute__((noinline)) void cap_slopes(const AttentionArgs& a, const float* s, float* slopes,
                                          std::int64_t end) {
  for (std::int64_t i = 0; i < end; i += kLanes) {
    const Vec y = tanh(load(s + i) * broadcast(a.scale) / broadcast(a.softcap));
    store(slopes + i, fma(-y, y, broadcast(1.0f)));
  }
}

void attention_backward(const AttentionBackwardArgs& b) {
  const AttentionArgs& a = b.call;
  const std::int64_t keys = a.last - a.first, end = (keys + kLanes - 1) / kLanes * kLanes;
  const bool changed = modifies_scores(a);
  const Vec scale = broadcast(changed ? 1.0f : a.scale);
  float slopes[kBackwardKeys], keep[kBackwardKeys];
  for (std::int64_t row = 0; row < a.rows; ++row) {
    float *s = b.scores[row], *d = b.d[row];
    if (a.softcap != 0) cap_slopes(a, s, slopes, end);
    if (changed) modify_scores(a, row, s, a.first, 0, end);
    const std::int64_t low = a.begin[row] - a.first, high = a.end[row] - a.first;
    mask_range(s, 0, end, low < 0 ? 0 : low, high < 0 ? 0 : high > keys ? keys : high);
    // A row that saw no key has only zero probabilities, whatever its scores are.
    const float lse = *b.lse[row] == kLowest ? -kLowest : *b.lse[row];
    const Vec from = broadcast(-lse), dot = broadcast(b.dot[row]);
    if (a.dropout) {
      for (std::int64_t i = 0; i < end; i += kLanes) store(keep + i, broadcast(1.0f));
      drop(a, row, keep, a.first, 0, end);
    }
    for (std::int64_t i = 0; i < end; i += kLanes) {
      const Vec score = load(s + i);
      const Vec w = exp2_falling(fma(score, scale, from) * broadcast(kLog2e));
      const Vec kept = a.dropout ? load(keep + i) : broadcast(1.0f);
      Vec grad = w * (load(d + i) * kept - dot) * broadcast(a.scale);
      if (a.softcap != 0) grad = grad * load(slopes + i);
      const Ints seen = score != broadcast(kLowest);
      store(s + i, seen ? w * kept : broadcast(-0.0f));
      store(d + i, seen ? grad : Vec{});
    }
  }
}

void row_dots(const DotArgs& a) {
  for (std::int64_t row = 0; row < a.rows; ++row) {
    const float *x = a.a[row], *y = a.b[row];
    Vec sum{};
    for (std::int64_t i = 0; i < a.size; i += kLanes) {
      sum = fma(load_up_to(x + i, a.size - i), load_up_to(y + i, a.size - i), sum);
    }
    a.out[row] = sum_lanes(sum);
  }
}

}  // namespace
}  // namespace treadle::TREADLE_ISA

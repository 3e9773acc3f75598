// The rows of one call of an attention kernel: some queries of a head, or of all heads of a group.
#pragma once

#include <algorithm>
#include <cstdint>

#include "engine/attention/attention.h"
#include "kernels/table.h"

namespace treadle {

// A range of keys. `seen_keys` returns those of `keys` keys that a query at a position sees, if no
// mask hides them.
struct Span {
  std::int64_t begin, end;
};
inline Span seen_keys(const AttentionCall& c, std::int64_t keys, std::int64_t position) {
  const auto clip = [&](std::int64_t key) {
    return std::min(keys, std::max<std::int64_t>(0, key));
  };
  Span s{c.left < 0 ? 0 : clip(position - c.left), keys};
  if (c.causal) s.end = clip(position + 1);
  if (c.right >= 0) s.end = std::min(s.end, clip(position + c.right + 1));
  s.end = std::max(s.begin, s.end);
  return s;
}

class AttentionRows {
 public:
  static constexpr std::int64_t kMost = 96;

  AttentionRows(const AttentionCall& call, std::int64_t b) : c_(call), b_(b), keys_(call.keys(b)) {}

  // Adds query i of head n.
  void add(std::int64_t n, std::int64_t i) {
    q_[count_] = c_.query_head(c_.q, b_, n) + i * c_.q.s;
    if (c_.out.data) out_[count_] = c_.query_head(c_.out, b_, n) + i * c_.out.s;
    const std::int64_t position = i + (c_.query_offset ? c_.query_offset[b_] : 0);
    const Span keys = seen_keys(c_, keys_, position);
    begin_[count_] = keys.begin;
    end_[count_] = keys.end;
    position_[count_] = position;
    if (c_.slopes) slope_[count_] = c_.slopes[n];
    if (c_.distances) {
      mask_[count_] = c_.distances + n * c_.distance_stride - position;
    } else if (c_.mask.data) {
      mask_[count_] = c_.mask.data + b_ * c_.mask.b + n * c_.mask.n + i * c_.mask.s;
    }
    const std::int64_t row = (b_ * c_.N + n) * c_.S + i;
    number_[count_] = row;
    if (c_.probabilities) probabilities_[count_] = c_.probabilities + row * c_.K;
    if (c_.lse) lse_[count_] = c_.lse + row;
    ++count_;
  }

  std::int64_t size() const { return count_; }
  const float* const* q() const { return q_; }
  float* const* out() const { return out_; }
  float* const* lse() const { return c_.lse ? lse_ : nullptr; }

  // Returns the range of keys that some row sees.
  Span keys() const {
    Span all{keys_, 0};
    for (std::int64_t r = 0; r < count_; ++r) {
      all = {std::min(all.begin, begin_[r]), std::max(all.end, end_[r])};
    }
    return all;
  }

  AttentionArgs args() const {
    AttentionArgs a{};
    a.rows = count_;
    a.q = q_;
    a.out = out_;
    a.begin = begin_;
    a.end = end_;
    a.position = c_.slopes ? position_ : nullptr;
    a.slope = c_.slopes ? slope_ : nullptr;
    a.mask = c_.mask.data || c_.distances ? mask_ : nullptr;
    a.mask_adds = c_.mask_adds || c_.distances;
    a.hidden_score = c_.hidden_score;
    a.scale = c_.scale;
    a.softcap = c_.softcap;
    a.dropout = c_.dropout.threshold ? &c_.dropout : nullptr;
    a.number = number_;
    a.key_size = c_.E;
    a.value_size = c_.F;
    a.keys = keys_;
    a.probabilities = c_.probabilities ? probabilities_ : nullptr;
    a.lse = lse();
    return a;
  }

 private:
  const AttentionCall& c_;
  const std::int64_t b_, keys_;
  std::int64_t count_ = 0;
  const float* q_[kMost];
  float* out_[kMost];
  std::int64_t begin_[kMost], end_[kMost], position_[kMost], number_[kMost];
  float slope_[kMost];
  const void* mask_[kMost];
  float* probabilities_[kMost];
  float* lse_[kMost];
};

}  // namespace treadle

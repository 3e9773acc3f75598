// engine/attention/backward: against differences of the forward pass, and the same bits whatever
// the threads. (Exact gradients: tests/functional/test_attention_backward.py.)
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "engine/attention/backward.h"
#include "heads.h"
#include "runtime/thread_pool.h"
#include "values.h"

namespace treadle {
namespace {

struct Grads {
  std::vector<float> q, k, v;
};

// The gradients of sum(out * dout); every array is guarded.
Grads grads(const KernelTable& table, const Heads& heads, const std::vector<float>& dout) {
  const HeadsShape& s = heads.shape;
  GuardedHeads given(heads);
  AttentionBackwardCall backward{given.call, {}, {}, {}, {}, {}};
  AttentionCall& c = backward.call;
  Guarded<float> out(dout), d(dout), lse(s.B * s.N * s.S);
  Guarded<float> dq(given.q.size()), dk(given.k.size()), dv(given.v.size());
  Interrupt interrupt(nullptr);
  c.lse = lse.data();
  c.out = contiguous(out.data(), c.N, c.S, c.F);
  attend(table, c, interrupt);
  c.out = {};
  backward.out = contiguous<const float>(out.data(), c.N, c.S, c.F);
  backward.dout = contiguous<const float>(d.data(), c.N, c.S, c.F);
  backward.dq = contiguous(dq.data(), c.N, c.S, c.E);
  backward.dk = contiguous(dk.data(), c.kv_heads, c.K, c.E);
  backward.dv = contiguous(dv.data(), c.kv_heads, c.K, c.F);
  for (Guarded<float>* to : {&dq, &dk, &dv}) std::fill(to->begin(), to->end(), 0.0f);
  attend_backward(table, backward, interrupt);
  return {{dq.begin(), dq.end()}, {dk.begin(), dk.end()}, {dv.begin(), dv.end()}};
}

std::vector<float> ones(const HeadsShape& s) {
  return std::vector<float>(s.B * s.N * s.S * s.F, 1.0f);
}

constexpr Dropout kDropout{~std::uint64_t{7}, 0x40000000, 4.0f / 3};

TEST_CASE("the number of threads, gradients") {
  const int before = num_threads();
  HeadsShape one, several;
  one.N = 1;  // cut by queries and by keys
  one.S = 420;
  one.K = 600;
  several.B = 2;
  several.N = 4;
  several.kv_heads = 2;
  several.S = 130;
  several.K = 90;
  HeadsShape dropping = several;
  dropping.dropout = kDropout;
  for (const HeadsShape& shape : {one, several, dropping}) {
    for_each_kind(shape, [](const KernelTable& table, const HeadsShape& own) {
      const Heads heads(own);
      set_num_threads(1);
      const Grads alone = grads(table, heads, ones(own));
      for (const int threads : {2, 3}) {
        set_num_threads(threads);
        const Grads shared = grads(table, heads, ones(own));
        CHECK(first_difference(shared.q, alone.q, alone.q.size()) == -1);
        CHECK(first_difference(shared.k, alone.k, alone.k.size()) == -1);
        CHECK(first_difference(shared.v, alone.v, alone.v.size()) == -1);
      }
    });
  }
  set_num_threads(before);
}

TEST_CASE("gradients are those of the forward pass") {
  HeadsShape shape;
  shape.B = 2;
  shape.N = 4;
  shape.kv_heads = 2;
  shape.S = 7;
  shape.K = 21;
  shape.E = 5;
  shape.F = 3;
  shape.query_lengths = {7, 4};
  shape.key_lengths = {21, 9};
  const auto test = [](const KernelTable& table, const HeadsShape& own) {
    Heads heads(own);
    std::vector<float> dout = ones(own);
    for (std::size_t i = 0; i < dout.size(); ++i) dout[i] = std::sin(static_cast<float>(i));
    const Grads found = grads(table, heads, dout);
    const auto loss = [&] {
      const Expected e = heads.definition();
      double sum = 0;
      for (std::size_t i = 0; i < dout.size(); ++i) sum += e.out[i] * dout[i];
      return sum;
    };
    const auto check = [&](std::vector<float>& values, const std::vector<float>& grad) {
      for (std::size_t i = 0; i < values.size(); i += 17) {
        const float value = values[i];
        // The definition is in double, its arguments are not: the step that they really make.
        const float above = value + 0x1p-10f, below = value - 0x1p-10f;
        values[i] = above;
        const double high = loss();
        values[i] = below;
        const double low = loss();
        values[i] = value;
        const double slope = (high - low) / (static_cast<double>(above) - below);
        CHECK(grad[i] == doctest::Approx(slope).epsilon(1e-4).scale(1.0));
      }
    };
    check(heads.q, found.q);
    check(heads.k, found.k);
    check(heads.v, found.v);
  };
  for_each_kind(shape, test);
  shape.dropout = kDropout;
  for_each_kind(shape, test);
}

}  // namespace
}  // namespace treadle

// engine/attention/attention: a query's result has the same bits whatever the threads, the batch
// and the queries beside it.
#include <doctest/doctest.h>

#include <cmath>

#include "heads.h"
#include "runtime/thread_pool.h"
#include "values.h"

namespace treadle {
namespace {

TEST_CASE("the number of threads") {
  const int before = num_threads();
  HeadsShape many, few;
  many.S = 420;  // parts of 192 queries
  many.K = 300;
  few.S = 2;  // 13 chunks of 256 keys for each of two groups
  few.B = 2;
  few.N = 8;
  few.kv_heads = 2;
  few.K = 3200;
  few.query_offset = {3100, 2};
  for (const HeadsShape& shape : {many, few}) {
    for_each_kind(shape, [&](const KernelTable& table, const HeadsShape& own) {
      const Heads heads(own);
      set_num_threads(1);
      const std::vector<float> alone = run(table, heads.call());
      for (const int threads : {2, 3}) {
        set_num_threads(threads);
        CHECK(first_difference(run(table, heads.call()), alone, alone.size()) == -1);
      }
    });
  }
  set_num_threads(before);
}

TEST_CASE("the rest of the batch, and what pads it") {
  HeadsShape shape;
  shape.B = 4;
  shape.S = 70;
  shape.K = 300;
  shape.query_lengths = {70, 3, 0, 49};
  shape.key_lengths = {300, 257, 12, 90};
  for_each_kind(shape, [](const KernelTable& table, const HeadsShape& shape) {
    const Heads heads(shape);
    const AttentionCall all = heads.call();
    const std::vector<float> out = run(table, all);
    for (std::int64_t b = 0; b < shape.B; ++b) {
      CAPTURE(b);
      AttentionCall one = all;
      one.B = 1;
      one.S = shape.query_lengths[b];
      one.K = shape.key_lengths[b];
      one.query_lengths = one.key_lengths = nullptr;
      one.q.data += b * one.q.b;
      one.k.data += b * one.k.b;
      one.v.data += b * one.v.b;
      if (one.mask.data) one.mask.data += b * one.mask.b;
      const std::vector<float> alone = run(table, one);
      const std::int64_t row = shape.F, head = shape.S * row;
      for (std::int64_t n = 0; n < shape.N; ++n) {
        CHECK(first_difference(alone.data() + n * one.S * row,
                               out.data() + (b * shape.N + n) * head, one.S * row) == -1);
      }
    }
  });
}

TEST_CASE("what keys hold that a query does not see") {
  HeadsShape shape;
  shape.B = 1;
  shape.K = 300;
  for (const std::int64_t S : {3, 61}) {
    shape.S = S;
    shape.query_offset = {200};
    for_each_kind(shape, [](const KernelTable& table, const HeadsShape& own) {
      const Heads clean(own);
      Heads spoilt(own);
      const std::int64_t E = own.E, F = own.F;
      for (const std::int64_t key : {std::int64_t{20}, own.K - 1}) {
        for (std::int64_t i = 0; i < E; ++i) spoilt.k[key * E + i] = i % 2 ? NAN : -INFINITY;
        for (std::int64_t i = 0; i < F; ++i) spoilt.v[key * F + i] = i % 2 ? INFINITY : NAN;
      }
      const std::vector<double> probabilities = clean.definition().probabilities;
      const std::vector<float> expected = run(table, clean.call()), out = run(table, spoilt.call());
      for (std::int64_t row = 0; row < own.N * own.S; ++row) {
        const double* seen = probabilities.data() + row * own.K;
        if (seen[20] != 0 || seen[own.K - 1] != 0) continue;
        CHECK(first_difference(out.data() + row * F, expected.data() + row * F, F) == -1);
      }
    });
  }
}

TEST_CASE("the queries beside it") {
  HeadsShape shape;
  shape.N = 1;
  shape.K = 400;
  // From `first`, so many at once: every place in a tile and in a block.
  const std::pair<std::int64_t, std::int64_t> many[] = {{0, 5},   {1, 6},   {3, 7},    {40, 48},
                                                        {55, 61}, {94, 6},  {17, 100}, {250, 50},
                                                        {260, 5}, {295, 5}, {0, 299}};
  const std::pair<std::int64_t, std::int64_t> few[] = {{0, 1}, {1, 1}, {2, 1}, {3, 1}, {0, 2},
                                                       {1, 2}, {2, 2}, {0, 3}, {1, 3}};
  for (const std::int64_t S : {std::int64_t{300}, std::int64_t{4}}) {
    shape.S = S;
    const std::int64_t start = S == 4 ? 390 : 90;  // the position of the first query
    shape.query_offset = {start};
    for_each_kind(shape, [&](const KernelTable& table, const HeadsShape& own) {
      const Heads heads(own);
      const AttentionCall all = heads.call();
      const std::vector<float> out = run(table, all);
      const auto check = [&](std::int64_t first, std::int64_t count) {
        CAPTURE(first);
        CAPTURE(count);
        AttentionCall part = all;
        const std::int64_t offset = start + first;
        part.S = count;
        part.query_offset = &offset;
        part.q.data += first * part.q.s;
        if (part.mask.data) part.mask.data += first * part.mask.s;
        CHECK(first_difference(run(table, part), out.data() + first * own.F, count * own.F) == -1);
      };
      if (S == 4) {
        for (const auto& [first, count] : few) check(first, count);
      } else {
        for (const auto& [first, count] : many) check(first, count);
      }
    });
  }
}

TEST_CASE("the heads beside it") {
  HeadsShape shape;
  shape.N = 4;
  shape.kv_heads = 1;
  shape.K = 270;
  for (const std::int64_t S : {std::int64_t{3}, std::int64_t{30}}) {
    shape.S = S;
    for_each_kind(shape, [](const KernelTable& table, const HeadsShape& shape) {
      const Heads heads(shape);
      const AttentionCall all = heads.call();
      const std::vector<float> out = run(table, all);
      for (std::int64_t n = 0; n < shape.N; ++n) {
        AttentionCall one = all;
        one.N = 1;
        one.q.data += n * one.q.n;
        if (one.mask.data) one.mask.data += n * one.mask.n;
        if (one.slopes) one.slopes += n;
        const std::int64_t size = shape.S * shape.F;
        CHECK(first_difference(run(table, one), out.data() + n * size, size) == -1);
      }
    });
  }
}

}  // namespace
}  // namespace treadle

// engine/attention/slot_cache: what rows hold after any order, growth and copy, as attention sees
// them, in every dtype.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "engine/attention/slot_cache.h"
#include "runtime/thread_pool.h"
#include "values.h"

namespace treadle {
namespace {

constexpr std::int64_t kHeads = 3, kSize = 5;

// The vectors of each row, as they were stored.
struct Row {
  std::vector<std::vector<float>> keys, values;  // [tokens][heads * size]
};

std::int64_t number_bytes(Dtype dtype) {
  return dtype == Dtype::float32 ? 4 : dtype == Dtype::bfloat16 ? 2 : 1;
}

float stored(const AttentionCall& call, bool keys, std::int64_t start, std::int64_t n,
             std::int64_t at, std::int64_t i) {
  if (call.stored.dtype == Dtype::float32) {
    const HeadView<const float>& view = keys ? call.k : call.v;
    return view.data[start * view.s + n * view.n + at * view.s + i];
  }
  const HeadView<const std::uint8_t>& view = keys ? call.stored.k : call.stored.v;
  const std::uint8_t* p =
      view.data + start * view.s + n * view.n + at * view.s + i * number_bytes(call.stored.dtype);
  if (call.stored.dtype == Dtype::int8) {
    const HeadView<const float>& scale = keys ? call.stored.k_scale : call.stored.v_scale;
    return static_cast<float>(*reinterpret_cast<const std::int8_t*>(p)) *
           scale.data[start * scale.s + n * scale.n + at * scale.s];
  }
  std::uint16_t upper;
  std::memcpy(&upper, p, sizeof upper);
  const std::uint32_t bits = static_cast<std::uint32_t>(upper) << 16;
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

void check(const SlotCache& cache, const std::vector<Row>& rows, Dtype dtype) {
  // A number is wrong by at most half a step of its vector, whose numbers are at most 1.
  const float most = dtype == Dtype::float32 ? 0 : dtype == Dtype::bfloat16 ? 0x1p-8f : 1.01f / 254;
  REQUIRE(cache.rows() == static_cast<std::int64_t>(rows.size()));
  for (std::size_t r = 0; r < rows.size(); ++r) {
    for (std::int64_t head = 0; head < kHeads; ++head) {
      AttentionCall call{};
      cache.describe(call, static_cast<std::int64_t>(r), head);
      REQUIRE(call.E == kSize);
      for (std::size_t t = 0; t < rows[r].keys.size(); ++t) {
        for (std::int64_t i = 0; i < kSize; ++i) {
          for (const bool keys : {true, false}) {
            const auto& from = keys ? rows[r].keys : rows[r].values;
            const float found = stored(call, keys, call.key_starts[0], 0, t, i);
            REQUIRE(std::fabs(found - from[t][head * kSize + i]) <= most);
          }
        }
      }
    }
  }
}

std::vector<std::int64_t> lengths(const std::vector<Row>& rows) {
  std::vector<std::int64_t> result;
  for (const Row& row : rows) result.push_back(static_cast<std::int64_t>(row.keys.size()));
  return result;
}

TEST_CASE("any order of rows, with tokens in between") {
  Interrupt interrupt(nullptr);
  for (const Dtype dtype : {Dtype::float32, Dtype::bfloat16, Dtype::int8}) {
    std::mt19937 random(7);
    SlotCache cache({kHeads, kSize, dtype}, 3, 1);
    std::vector<Row> rows(3);
    unsigned seed = 0;
    for (int round = 0; round < 60; ++round) {
      std::vector<std::int64_t> have = lengths(rows);
      std::int64_t most = 0;
      for (const std::int64_t n : have) most = std::max(most, n + 1);
      REQUIRE(cache.reserve(most, have.data(), interrupt));
      for (std::size_t r = 0; r < rows.size(); ++r) {
        if (random() % 4 == 0) continue;  // rows have different lengths
        const std::vector<float> k = random_floats(kHeads * kSize, ++seed),
                                 v = random_floats(kHeads * kSize, ++seed);
        // The heads are stored in two parts, as those of two layers are.
        cache.put(r, have[r], {0, 1}, k.data(), v.data());
        cache.put(r, have[r], {1, kHeads - 1}, k.data() + kSize, v.data() + kSize);
        rows[r].keys.push_back(k);
        rows[r].values.push_back(v);
      }
      check(cache, rows, dtype);
      have = lengths(rows);
      std::vector<std::int64_t> sources(1 + random() % 7);
      std::vector<Row> next;
      for (std::int64_t& source : sources) {
        source = static_cast<std::int64_t>(random() % rows.size());
        next.push_back(rows[source]);
      }
      const auto count = static_cast<std::int64_t>(sources.size());
      REQUIRE(cache.reorder(sources.data(), count, have.data(), interrupt));
      rows = next;
      check(cache, rows, dtype);
      have = lengths(rows);
      const SlotCache copy(cache, have.data(), interrupt);
      check(copy, rows, dtype);
    }
    REQUIRE(cache.reorder(nullptr, 0, nullptr, interrupt));
    CHECK(cache.rows() == 0);
  }
}

TEST_CASE("rows that only move are not copied") {
  Interrupt interrupt(nullptr);
  SlotCache cache({1, kSize, Dtype::float32}, 3, 4);
  const std::int64_t have[] = {2, 2, 2}, sources[] = {2, 0, 1};
  AttentionCall before{}, after{};
  cache.describe(before, 0, 0);
  const std::vector<std::int64_t> starts(before.key_starts, before.key_starts + 3);
  REQUIRE(cache.reorder(sources, 3, have, interrupt));
  cache.describe(after, 0, 0);
  CHECK(after.k.data == before.k.data);
  for (int r = 0; r < 3; ++r) CHECK(after.key_starts[r] == starts[sources[r]]);
}

TEST_CASE("an interrupted growth changes nothing") {
  struct Stop {
    static bool poll(void*) { return true; }
  };
  Interrupt interrupt(Stop::poll), never(nullptr);
  while (!interrupt.stopped()) interrupt.progress(1e9);
  SlotCache cache({1, kSize, Dtype::float32}, 2, 2);
  std::vector<Row> rows(2);
  const std::int64_t have[] = {1, 1}, sources[] = {0, 1, 1, 0};
  for (int r = 0; r < 2; ++r) {
    const std::vector<float> k = random_floats(kSize, r + 1);
    cache.put(r, 0, {0, 1}, k.data(), k.data());
  }
  CHECK_FALSE(cache.reserve(100, have, interrupt));
  CHECK_FALSE(cache.reorder(sources, 4, have, interrupt));
  CHECK(cache.capacity() == 2);
  CHECK(cache.rows() == 2);
  CHECK(cache.reorder(sources, 4, have, never));
}

}  // namespace
}  // namespace treadle

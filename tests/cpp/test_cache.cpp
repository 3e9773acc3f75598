// The key/value cache against a plain list of vectors for each sequence.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "engine/attention/cache.h"

namespace treadle {
namespace {

Interrupt never(nullptr);

using Vector = std::vector<float>;

// A plain model of a cache's contents: keys[b][t][head] and values[b][t][head] are vectors.
struct Model {
  std::vector<std::vector<std::vector<Vector>>> keys, values;
};

HeadView<const float> view(const std::vector<float>& x, std::int64_t heads, std::int64_t tokens,
                           std::int64_t size) {
  return {x.data(), heads * tokens * size, tokens * size, size};
}

std::vector<float> random(std::mt19937& rng, std::int64_t n) {
  std::uniform_real_distribution<float> numbers(-3, 3);
  std::vector<float> x(static_cast<std::size_t>(n));
  for (float& v : x) v = numbers(rng);
  return x;
}

// Half a unit of the last place that the dtype keeps, relative to the largest of the vector.
float tolerance(Dtype dtype) {
  return dtype == Dtype::float32 ? 0 : dtype == Dtype::bfloat16 ? 0x1p-8f : 0.5f / 127 * 1.001f;
}

void check_rows(const CachedRows& rows, std::int64_t heads,
                const std::vector<std::vector<std::vector<Vector>>>& expected) {
  for (std::size_t b = 0; b < expected.size(); ++b) {
    for (std::size_t t = 0; t < expected[b].size(); ++t) {
      for (std::int64_t n = 0; n < heads; ++n) {
        const Vector& vector = expected[b][t][n];
        float most = 0;
        for (const float x : vector) most = std::max(most, std::fabs(x));
        const std::uint8_t* at = rows.vector(b, n, t);
        for (std::int64_t e = 0; e < rows.size(); ++e) {
          float stored = 0;
          if (rows.dtype() == Dtype::float32) {
            stored = reinterpret_cast<const float*>(at)[e];
          } else if (rows.dtype() == Dtype::bfloat16) {
            const std::uint32_t bits = std::uint32_t{reinterpret_cast<const std::uint16_t*>(at)[e]}
                                       << 16;
            std::memcpy(&stored, &bits, sizeof stored);
          } else {
            stored = *rows.scale(b, n, t) * reinterpret_cast<const std::int8_t*>(at)[e];
          }
          REQUIRE(std::fabs(stored - vector[e]) <= tolerance(rows.dtype()) * most);
        }
      }
    }
  }
}

}  // namespace

TEST_CASE("any order of appending, truncating and reordering is what a list would hold") {
  std::mt19937 rng(5);
  const auto below = [&](std::int64_t n) {
    return std::uniform_int_distribution<std::int64_t>(0, n - 1)(rng);
  };
  for (const Dtype dtype : {Dtype::float32, Dtype::bfloat16, Dtype::int8}) {
    for (int round = 0; round < 20; ++round) {
      const std::int64_t B = 1 + below(6), N = 1 + below(3), E = 1 + below(40), F = 1 + below(40);
      auto cache = std::make_unique<KeyValueCache>(KeyValueCache::Shape{B, N, E, F, dtype}, 1);
      Model model{decltype(Model::keys)(B), decltype(Model::values)(B)};
      for (int call = 0; call < 12; ++call) {
        const std::int64_t kind = below(4);
        std::vector<std::int64_t> numbers(B);
        if (kind <= 1) {
          const std::int64_t S = below(9);
          const auto k = random(rng, B * N * S * E), v = random(rng, B * N * S * F);
          for (std::int64_t& n : numbers) n = below(S + 1);
          cache->append(view(k, N, S, E), view(v, N, S, F), numbers.data(), never);
          for (std::int64_t b = 0; b < B; ++b) {
            for (std::int64_t t = 0; t < numbers[b]; ++t) {
              model.keys[b].emplace_back();
              model.values[b].emplace_back();
              for (std::int64_t n = 0; n < N; ++n) {
                const float* key = k.data() + ((b * N + n) * S + t) * E;
                const float* value = v.data() + ((b * N + n) * S + t) * F;
                model.keys[b].back().emplace_back(key, key + E);
                model.values[b].back().emplace_back(value, value + F);
              }
            }
          }
        } else if (kind == 2) {
          for (std::int64_t b = 0; b < B; ++b) {
            numbers[b] = below(cache->lengths()[b] + 1);
            model.keys[b].resize(numbers[b]);
            model.values[b].resize(numbers[b]);
          }
          cache->truncate(numbers.data());
        } else {
          for (std::int64_t& n : numbers) n = below(B);
          cache->reorder(numbers.data(), never);
          const Model before = model;
          for (std::int64_t b = 0; b < B; ++b) {
            model.keys[b] = before.keys[numbers[b]];
            model.values[b] = before.values[numbers[b]];
          }
        }
        if (below(5) == 0) cache = std::make_unique<KeyValueCache>(*cache, never);
        for (std::int64_t b = 0; b < B; ++b) {
          REQUIRE(cache->lengths()[b] == static_cast<std::int64_t>(model.keys[b].size()));
        }
        check_rows(cache->storage()->keys, N, model.keys);
        check_rows(cache->storage()->values, N, model.values);
      }
    }
  }
}

TEST_CASE("vectors of zeros, of tiny numbers and of numbers that are not finite") {
  constexpr std::int64_t E = 3;
  const float inf = std::numeric_limits<float>::infinity();
  const std::vector<float> x = {0, -0.0f, 0, 1e-44f, 0, 0, 1, inf, 0, 1, std::nanf(""), 0};
  const std::vector<std::int64_t> count{4};
  KeyValueCache cache({1, 1, E, E, Dtype::int8}, 4);
  cache.append(view(x, 1, 4, E), view(x, 1, 4, E), count.data(), never);
  const CachedRows& rows = cache.storage()->keys;
  CHECK(*rows.scale(0, 0, 0) == 0);
  CHECK(*rows.scale(0, 0, 1) == 0);
  CHECK(std::isnan(*rows.scale(0, 0, 2)));
  CHECK(std::isnan(*rows.scale(0, 0, 3)));

  KeyValueCache halves({1, 1, E, E, Dtype::bfloat16}, 4);
  halves.append(view(x, 1, 4, E), view(x, 1, 4, E), count.data(), never);
  const auto* kept = reinterpret_cast<const std::uint16_t*>(halves.storage()->keys.vector(0, 0, 0));
  CHECK(kept[1] == 0x8000);
  CHECK(kept[7] == 0x7F80);
  CHECK((kept[10] & 0x7FC0) == 0x7FC0);
}

TEST_CASE("storage that somebody holds outlives the growth of its cache") {
  const std::vector<float> x(8, 1.5f);
  const std::vector<std::int64_t> count{8};
  KeyValueCache cache({1, 1, 1, 1, Dtype::float32}, 8);
  cache.append(view(x, 1, 8, 1), view(x, 1, 8, 1), count.data(), never);
  const std::shared_ptr<KeyValueCache::Storage> held = cache.storage();
  cache.append(view(x, 1, 8, 1), view(x, 1, 8, 1), count.data(), never);
  CHECK(cache.capacity() == 16);
  CHECK((cache.storage() != held));
  CHECK(reinterpret_cast<const float*>(held->keys.vector(0, 0, 7))[0] == 1.5f);
}

}  // namespace treadle

// engine/attention/attention on every ISA level against its definition in double (heads.cpp), on
// arrays that end where the memory does.
//
// tests/functional/test_attention.py has PyTorch and many more configurations; this is for builds
// without Python (aarch64, sanitizers), and for what lies just beyond an array.
#include <doctest/doctest.h>

#include <limits>
#include <string>

#include "guarded.h"
#include "heads.h"
#include "values.h"

namespace treadle {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kLargest = std::numeric_limits<float>::max();

// Few queries are computed by chunks of keys, many by packed keys.
constexpr std::int64_t kFew = 3, kMany = 13;

void check(const HeadsShape& shape, bool probabilities = false) {
  CAPTURE(shape.S);
  CAPTURE(shape.K);
  CAPTURE(shape.E);
  CAPTURE(shape.F);
  CAPTURE(probabilities);
  const Heads heads(shape);
  const Expected expected = heads.definition();
  for_each_isa([&](const KernelTable& table) {
    CHECK(largest_error(run(table, heads, probabilities), heads, expected) <= 1);
  });
}

TEST_CASE("every size of a head") {
  const std::int64_t sizes[] = {1, 3, 16, 17, 32, 64, 80, 96, 128, 256};
  constexpr int kCount = 10;
  for (int e = 0; e < kCount; ++e) {
    for (const int f : {e, (e + 3) % kCount, (e + 6) % kCount}) {
      HeadsShape shape;
      shape.E = sizes[e];
      shape.F = sizes[f];
      shape.scale = 1 / std::sqrt(static_cast<float>(shape.E));
      shape.K = 37;
      for (const std::int64_t S : {kFew, kMany}) {
        shape.S = S;
        check(shape);
      }
    }
  }
}

TEST_CASE("every number of queries and keys around vectors, panels, tiles and blocks") {
  for (const std::int64_t S : {1, 4, 5, 6, 11, 47, 48, 49, 97}) {
    for (const std::int64_t K : {0,  1,  3,  4,  5,   7,   8,   9,   15,  16,  17, 31,
                                 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 513}) {
      HeadsShape shape;
      shape.N = 1;
      shape.S = S;
      shape.K = K;
      shape.E = 5;
      shape.F = 7;
      check(shape);
      if (S % 2 == 0) continue;
      // The last query sees the last key.
      shape.causal = true;
      shape.query_offset = {K - S};
      check(shape, S > 48);
    }
  }
}

struct Option {
  const char* name;
  void (*set)(HeadsShape&);
};

const Option kOptions[] = {
    {"causal", [](HeadsShape& s) { s.causal = true; }},
    {"causal, offset", [](HeadsShape& s) { s.causal = true, s.query_offset = {27, -2}; }},
    {"window", [](HeadsShape& s) { s.left = 3, s.right = 5; }},
    {"window to the left", [](HeadsShape& s) { s.left = 4, s.query_offset = {20, 50}; }},
    {"window to the right", [](HeadsShape& s) { s.right = 0; }},
    {"causal window", [](HeadsShape& s) { s.causal = true, s.left = 2, s.query_offset = {9, 0}; }},
    {"key lengths", [](HeadsShape& s) { s.key_lengths = {29, 0}; }},
    {"query lengths", [](HeadsShape& s) { s.query_lengths = {0, 2}; }},
    {"both lengths", [](HeadsShape& s) { s.query_lengths = {2, 6}, s.key_lengths = {1, 40}; }},
    {"mask of bools", [](HeadsShape& s) { s.mask = MaskKind::bools; }},
    {"mask of floats", [](HeadsShape& s) { s.mask = MaskKind::floats; }},
    {"softcap", [](HeadsShape& s) { s.softcap = 0.5f; }},
    {"ALiBi", [](HeadsShape& s) { s.alibi = true, s.query_offset = {3, 30}; }},
    {"dropout", [](HeadsShape& s) { s.dropout = {99, 0xc0000000, 4.0f}; }},
    {"one key head", [](HeadsShape& s) { s.kv_heads = 1; }},
    {"as many key heads", [](HeadsShape& s) { s.kv_heads = s.N; }},
    {"negative scale", [](HeadsShape& s) { s.scale = -2; }},
    {"negative scale, causal", [](HeadsShape& s) { s.scale = -2, s.causal = true; }},
    {"no scale", [](HeadsShape& s) { s.scale = 0; }},
    {"sharp", [](HeadsShape& s) { s.scale = 100; }},
    {"everything",
     [](HeadsShape& s) {
       s.causal = s.alibi = true;
       s.left = 20;
       s.softcap = 2;
       s.mask = MaskKind::floats;
       s.query_lengths = {s.S - 1, s.S};
       s.key_lengths = {39, 17};
       s.query_offset = {25, 1};
     }},
};

TEST_CASE("every option, with the probabilities and without") {
  for (const Option& option : kOptions) {
    INFO(std::string(option.name));
    // With few queries, all rows of a group come together: here up to twelve.
    for (const std::int64_t S : {kFew, kMany}) {
      HeadsShape shape;
      shape.B = 2;
      shape.N = 4;
      shape.kv_heads = 2;
      shape.S = S;
      shape.K = 40;
      option.set(shape);
      for (std::int64_t& n : shape.query_lengths) n = std::min(n, S);
      check(shape, false);
      check(shape, true);
    }
  }
}

TEST_CASE("several blocks of keys, of which a query sees some") {
  for (const std::int64_t S : {std::int64_t{2}, std::int64_t{60}}) {
    HeadsShape shape;
    shape.N = 1;
    shape.S = S;
    shape.K = 700;
    shape.E = shape.F = 20;
    shape.causal = true;
    shape.query_offset = {230};
    check(shape, true);
    shape.left = 9;  // some of 256 keys, across a block's end
    check(shape, true);
    shape.query_offset = {640};
    check(shape, false);
    shape.mask = MaskKind::bools;
    check(shape, false);
  }
}

TEST_CASE("what lies beyond the lengths is not even read") {
  constexpr std::int64_t S = 9, K = 50, kQueries = 5, kKeys = 33, E = 16;
  for_each_isa([&](const KernelTable& table) {
    for (const MaskKind kind : {MaskKind::none, MaskKind::bools, MaskKind::floats}) {
      for (const std::int64_t queries : {kFew, kQueries}) {
        HeadsShape shape;
        shape.N = 1;
        shape.S = S;
        shape.K = K;
        shape.mask = kind;
        shape.query_lengths = {queries};
        shape.key_lengths = {kKeys};
        Heads heads(shape);
        const std::vector<float> expected = run(table, heads.call());
        // The arrays end with the last row that counts.
        const std::int64_t pairs = (queries - 1) * K + kKeys;
        heads.q.resize(queries * E);
        heads.k.resize(kKeys * E);
        heads.v.resize(kKeys * E);
        if (kind == MaskKind::bools) heads.mask_bools.resize(pairs);
        if (kind == MaskKind::floats) heads.mask_floats.resize(pairs);
        const HeadsResult actual = run(table, heads);
        CHECK(first_difference(actual.out, expected, S * E) == -1);
        for (std::int64_t i = queries * E; i < S * E; ++i) CHECK(actual.out[i] == 0);
      }
    }
  });
}

TEST_CASE("a query that sees no key, or only keys at -infinity, gives zeros") {
  const Option none[] = {
      {"no key", [](HeadsShape& s) { s.K = 0; }},
      {"length 0", [](HeadsShape& s) { s.key_lengths = {0}; }},
      {"before the first key", [](HeadsShape& s) { s.causal = true, s.query_offset = {-100}; }},
      {"behind the last key", [](HeadsShape& s) { s.left = 2, s.query_offset = {100}; }},
      {"window before the first key", [](HeadsShape& s) { s.right = 1, s.query_offset = {-99}; }},
      {"mask of bools", [](HeadsShape& s) { s.mask = MaskKind::bools; }},
      {"mask of floats", [](HeadsShape& s) { s.mask = MaskKind::floats; }}};
  for_each_isa([&](const KernelTable& table) {
    for (const Option& option : none) {
      INFO(std::string(option.name));
      for (const bool probabilities : {false, true}) {
        for (const std::int64_t S : {kFew, kMany}) {
          HeadsShape shape;
          shape.S = S;
          shape.K = 21;
          option.set(shape);
          Heads heads(shape);
          std::fill(heads.mask_bools.begin(), heads.mask_bools.end(), 0);
          std::fill(heads.mask_floats.begin(), heads.mask_floats.end(), -kInfinity);
          const HeadsResult r = run(table, heads, probabilities);
          for (const float x : r.out) REQUIRE(same(x, 0.0f));
          for (const float x : r.probabilities) REQUIRE(same(x, 0.0f));
        }
      }
    }
  });
}

TEST_CASE("large numbers are numbers: a mask of them hides its keys only from other keys") {
  for_each_isa([](const KernelTable& table) {
    for (const std::int64_t S : {kFew, kMany}) {
      HeadsShape shape;
      shape.N = 1;
      shape.S = S;
      shape.K = 300;
      shape.mask = MaskKind::floats;
      Heads heads(shape);
      std::vector<double> mean(shape.F);
      for (std::size_t i = 0; i < heads.v.size(); ++i) mean[i % shape.F] += heads.v[i] / shape.K;
      for (const float low : {-1e9f, -1e10f, -3e15f, -1e30f, -kLargest}) {
        CAPTURE(S);
        CAPTURE(low);
        // So low that the scores are lost: all keys count the same.
        std::fill(heads.mask_floats.begin(), heads.mask_floats.end(), low);
        std::vector<float> out = run(table, heads.call());
        for (std::int64_t i = 0; i < S * shape.F; ++i) {
          REQUIRE(out[i] == doctest::Approx(mean[i % shape.F]).epsilon(1e-4));
        }
        for (std::int64_t i = 0; i < S; ++i) heads.mask_floats[i * shape.K + 7] = 0;
        out = run(table, heads.call());
        for (std::int64_t i = 0; i < S * shape.F; ++i) {
          REQUIRE(out[i] == heads.v[7 * shape.F + i % shape.F]);
        }
      }
      // Scores so far apart that one key has all the weight.
      shape.mask = MaskKind::none;
      for (const float scale : {1e7f, 1e11f, -1e11f, 1e30f}) {
        CAPTURE(scale);
        shape.scale = scale;
        const Heads apart(shape);
        const Expected expected = apart.definition();
        const std::vector<float> out = run(table, apart.call());
        for (std::int64_t i = 0; i < S * shape.F; ++i) {
          REQUIRE(out[i] == doctest::Approx(expected.out[i]).epsilon(1e-4));
        }
      }
    }
  });
}

TEST_CASE("heads may lie anywhere") {
  constexpr std::int64_t B = 2, N = 4, kHeads = 2, K = 19, E = 6, F = 5;
  for_each_isa([&](const KernelTable& table) {
    for (const std::int64_t S : {kFew, kMany}) {
      CAPTURE(S);
      HeadsShape shape;
      shape.B = B;
      shape.N = N;
      shape.kv_heads = kHeads;
      shape.S = S;
      shape.K = K;
      shape.E = E;
      shape.F = F;
      shape.mask = MaskKind::floats;
      const Heads heads(shape);
      const std::vector<float> expected = run(table, heads.call());
      // `moved` lays the numbers out as [B, S, N, E] in reverse order: the strides are negative.
      const auto moved = [](const std::vector<float>& from, std::int64_t heads, std::int64_t rows,
                            std::int64_t size) {
        std::vector<float> to(from.size());
        for (std::size_t i = 0; i < from.size(); ++i) {
          const std::int64_t x = i % size, s = i / size % rows, n = i / size / rows % heads,
                             b = i / size / rows / heads;
          to[((b * rows + (rows - 1 - s)) * heads + (heads - 1 - n)) * size + x] = from[i];
        }
        return to;
      };
      const auto view = [](const float* data, std::int64_t heads, std::int64_t rows,
                           std::int64_t size) {
        return HeadView<const float>{data + (rows * heads - 1) * size, rows * heads * size, -size,
                                     -heads * size};
      };
      const Guarded<float> q(moved(heads.q, N, S, E)), k(moved(heads.k, kHeads, K, E)),
          v(moved(heads.v, kHeads, K, F), Edge::begin);
      AttentionCall c = heads.call();
      c.q = view(q.data(), N, S, E);
      c.k = view(k.data(), kHeads, K, E);
      c.v = view(v.data(), kHeads, K, F);
      // out as [B, S, N, F], which merges the heads.
      Guarded<float> out(B * S * N * F);
      c.out = {out.data(), S * N * F, F, N * F};
      Interrupt interrupt(nullptr);
      attend(table, c, interrupt);
      for (std::int64_t i = 0; i < out.size(); ++i) {
        const std::int64_t x = i % F, n = i / F % N, s = i / F / N % S, b = i / F / N / S;
        REQUIRE(same(out[i], expected[((b * N + n) * S + s) * F + x]));
      }
      // One row of a mask for all heads, one key head for both of the batch.
      AttentionCall shared = heads.call();
      shared.mask.n = shared.mask.s = shared.k.b = 0;
      Heads copies = heads;
      for (std::int64_t at = 0; at < B * N * S; ++at) {
        std::copy_n(heads.mask_floats.begin() + at / (N * S) * N * S * K, K,
                    copies.mask_floats.begin() + at * K);
      }
      std::copy_n(heads.k.begin(), kHeads * K * E, copies.k.begin() + kHeads * K * E);
      CHECK(first_difference(run(table, shared), run(table, copies.call()), B * N * S * F) == -1);
    }
  });
}

TEST_CASE("NaN and infinity stay in the rows that see them") {
  for_each_isa([](const KernelTable& table) {
    for (const std::int64_t S : {kFew, kMany}) {
      CAPTURE(S);
      HeadsShape shape;
      shape.N = 1;
      shape.S = S;
      shape.K = 70;
      const std::int64_t E = shape.E, F = shape.F;
      const Heads plain(shape);
      const std::vector<float> expected = run(table, plain.call());
      for (const float bad : {kNan, kInfinity, -kInfinity}) {
        CAPTURE(bad);
        Heads heads = plain;  // a query: its row alone
        heads.q[1 * E + 2] = bad;
        std::vector<float> out = run(table, heads.call());
        for (std::int64_t x = 0; x < F; ++x) CHECK(std::isnan(out[F + x]));
        CHECK(first_difference(out, expected, F) == -1);
        CHECK(first_difference(out.data() + 2 * F, expected.data() + 2 * F, (S - 2) * F) == -1);

        heads = plain;  // a value: its column alone
        heads.v[40 * F + 3] = bad;
        out = run(table, heads.call());
        for (std::int64_t i = 0; i < S * F; ++i)
          CHECK(same(out[i], i % F == 3 ? bad : expected[i]));

        for (const std::int64_t key : {0, 13, 69}) {  // a key: NaN in all that see it
          heads = plain;
          heads.k[key * E] = kNan;
          for (const float x : run(table, heads.call())) CHECK(std::isnan(x));
        }

        heads = plain;  // a key that nobody sees: nowhere
        heads.shape.mask = MaskKind::bools;
        heads.mask_bools.assign(S * shape.K, 1);
        for (std::int64_t i = 0; i < S; ++i) heads.mask_bools[i * shape.K + 40] = 0;
        const std::vector<float> without = run(table, heads.call());
        for (std::int64_t x = 0; x < E; ++x) heads.k[40 * E + x] = bad;
        CHECK(first_difference(run(table, heads.call()), without, S * F) == -1);
      }
    }
  });
}

TEST_CASE("no heads, no queries, no sequences") {
  for (void (*change)(HeadsShape&) :
       {+[](HeadsShape& s) { s.B = 0; }, +[](HeadsShape& s) { s.S = 0; },
        +[](HeadsShape& s) { s.N = s.kv_heads = 0; }}) {
    HeadsShape shape;
    change(shape);
    CHECK(run(kernels(), Heads(shape).call()).empty());
  }
}

}  // namespace
}  // namespace treadle

// engine/transformer/block with cross attention, on every ISA level, against its definition in
// double, one sequence at a time; and the same bits for a sequence in any company.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "encoder_net.h"
#include "engine/transformer/block_call.h"
#include "guarded.h"
#include "runtime/thread_pool.h"
#include "values.h"

namespace treadle {
namespace {

// A block's sums have up to 80 terms of size one; a norm brings every sum back to that.
constexpr double kTolerance = 3e-5;

// Sequences of queries and what they see: sequence b of the memory.
struct Batch {
  std::vector<std::int64_t> lengths, memory_lengths;
  std::vector<float> x, memory;  // the rows of all sequences
  // [B, N, S, S] and [B, N, S, K] for the longest S and K; null: no mask, or nothing is asked for.
  const std::uint8_t *mask = nullptr, *memory_mask = nullptr;
  float *probabilities = nullptr, *memory_probabilities = nullptr;

  Batch(std::vector<std::int64_t> of_x, std::vector<std::int64_t> of_memory, std::int64_t H)
      : lengths(std::move(of_x)),
        memory_lengths(std::move(of_memory)),
        x(random_floats(total(lengths) * H, 1)),
        memory(random_floats(total(memory_lengths) * H, 2)) {}

  static std::int64_t total(const std::vector<std::int64_t>& lengths) {
    std::int64_t sum = 0;
    for (const std::int64_t n : lengths) sum += n;
    return sum;
  }
  static std::int64_t longest(const std::vector<std::int64_t>& lengths) {
    return lengths.empty() ? 0 : *std::max_element(lengths.begin(), lengths.end());
  }
};

TransformerBlock pack_block(const KernelTable& table, const EncoderNet& net) {
  return {table, shape(net), weights(net, net.layers[0])};
}

// On exact-size arrays.
std::vector<float> run(const TransformerBlock& block, bool causal, const Batch& batch) {
  const std::int64_t N = block.shape().heads;
  const auto offsets = [](const std::vector<std::int64_t>& lengths) {
    std::vector<std::int64_t> result{0};
    for (const std::int64_t n : lengths) result.push_back(result.back() + n);
    return Guarded<std::int64_t>(result);
  };
  const auto of_x = offsets(batch.lengths), of_memory = offsets(batch.memory_lengths);
  const Guarded<float> in(batch.x), memory(batch.memory);
  Guarded<float> out(in.size());
  const std::int64_t B = batch.lengths.size(), S = Batch::longest(batch.lengths);
  const std::int64_t K = Batch::longest(batch.memory_lengths);
  BlockCall c{};
  c.batch = {B, S, of_x.data()};
  c.x = in.data();
  c.out = out.data();
  c.self_attention = {{batch.mask, N * S * S, S * S, S}, false, causal, batch.probabilities};
  if (block.has_cross_attention()) {
    c.memory = {B, K, of_memory.data()};
    c.memory_rows = memory.data();
    c.cross_attention = {
        {batch.memory_mask, N * S * K, S * K, K}, false, false, batch.memory_probabilities};
  }
  Interrupt interrupt(nullptr);
  run_block(block, c, interrupt);
  return {out.begin(), out.end()};
}

void check(const float* actual, const Matrix& expected) {
  double worst = 0;
  for (const auto& row : expected) {
    for (const double y : row) {
      const double error = std::fabs(*actual++ - y);
      worst = std::max(worst, std::isnan(error) ? INFINITY : error);
    }
  }
  CHECK(worst < kTolerance);
}

// Calls test(net) for every kind of block.
template <class Test>
void for_each_net(Test test) {
  for (const bool norm_first : {false, true}) {
    for (const bool bias : {true, false}) {
      for (const bool causal : {true, false}) {
        CAPTURE(norm_first);
        CAPTURE(bias);
        CAPTURE(causal);
        EncoderNet net(1);
        net.cross = true;
        net.norm_first = norm_first;
        net.bias = bias;
        net.causal = causal;
        net.function = bias ? ActivationFunction::gelu : ActivationFunction::relu;
        net.fill();
        test(net);
      }
    }
  }
}

TEST_CASE("each sequence sees its memory and no other, of any length") {
  for_each_net([&](const EncoderNet& net) {
    const Batch batch({3, 0, 17, 1, 0, 40, 5, 2}, {4, 7, 1, 0, 0, 21, 300, 2}, net.H);
    std::vector<Matrix> expected;
    const float *x = batch.x.data(), *memory = batch.memory.data();
    for (std::size_t b = 0; b < batch.lengths.size(); ++b) {
      const std::int64_t S = batch.lengths[b], K = batch.memory_lengths[b];
      expected.push_back(definition(net, rows(x, S, net.H), {}, rows(memory, K, net.H)));
      x += S * net.H;
      memory += K * net.H;
    }
    for_each_isa([&](const KernelTable& table) {
      const std::vector<float> out = run(pack_block(table, net), net.causal, batch);
      const float* actual = out.data();
      for (const Matrix& m : expected) {
        check(actual, m);
        actual += m.size() * net.H;
      }
    });
  });
}

TEST_CASE("without cross attention a block is an encoder's layer") {
  EncoderNet net(1);
  net.fill();
  const Batch batch({3, 150, 1}, {}, net.H);
  for_each_isa([&](const KernelTable& table) {
    const TransformerBlock block = pack_block(table, net);
    CHECK(!block.has_cross_attention());
    const auto encoder = pack(table, net);
    CHECK(block.weight_bytes() == encoder->weight_bytes());
    const std::vector<float> out = run(block, false, batch);
    const float *x = batch.x.data(), *actual = out.data();
    for (const std::int64_t n : batch.lengths) {
      check(actual, definition(net, rows(x, n, net.H)));
      x += n * net.H;
      actual += n * net.H;
    }
  });
}

TEST_CASE("sizes around the vectors of a product and of a head") {
  const std::int64_t sizes[][3] = {{1, 1, 1},   {6, 3, 5},    {15, 1, 17}, {34, 2, 64},
                                   {64, 2, 65}, {80, 1, 128}, {96, 8, 31}};
  for (const auto& size : sizes) {
    const std::int64_t H = size[0], N = size[1], F = size[2];
    CAPTURE(H);
    EncoderNet net(1);
    net.H = H;
    net.N = N;
    net.F = F;
    net.cross = net.norm_first = true;  // the norm of a single number says nothing
    net.fill();
    const Batch batch({9}, {11}, H);
    const Matrix expected =
        definition(net, rows(batch.x.data(), 9, H), {}, rows(batch.memory.data(), 11, H));
    for_each_isa([&](const KernelTable& table) {
      check(run(pack_block(table, net), false, batch).data(), expected);
    });
  }
}

TEST_CASE("masks for each sequence and the probabilities of both attentions, in several groups") {
  constexpr std::int64_t B = 90, S = 9, K = 6, kLengths[] = {4, 9, 2}, kMemory[] = {6, 1, 5};
  std::vector<std::int64_t> lengths, memory_lengths;
  for (std::int64_t b = 0; b < B; ++b) {
    lengths.push_back(kLengths[b % 3]);
    memory_lengths.push_back(kMemory[b % 3]);
  }
  // A sequence's own [N, S, K] of the batch's, whose rows are for the longest sequences.
  const auto cut = [](const auto* all, std::int64_t b, std::int64_t N, std::int64_t most_s,
                      std::int64_t most_k, std::int64_t s, std::int64_t k) {
    std::vector<std::decay_t<decltype(*all)>> own;
    for (std::int64_t n = 0; n < N; ++n) {
      for (std::int64_t i = 0; i < s; ++i) {
        const auto* row = all + ((b * N + n) * most_s + i) * most_k;
        own.insert(own.end(), row, row + k);
      }
    }
    return own;
  };
  const auto random_mask = [](std::int64_t count, unsigned seed) {
    std::vector<std::uint8_t> mask;
    for (const float r : random_floats(count, seed)) mask.push_back(r < 0.4f);
    return mask;
  };
  for_each_net([&](const EncoderNet& net) {
    const std::int64_t N = net.N, H = net.H;
    const std::vector<std::uint8_t> mask = random_mask(B * N * S * S, 3),
                                    memory_mask = random_mask(B * N * S * K, 4);
    Batch batch(lengths, memory_lengths, H);
    batch.mask = mask.data();
    batch.memory_mask = memory_mask.data();
    std::vector<Matrix> expected, seen(B), seen_memory(B);
    const float *x = batch.x.data(), *memory = batch.memory.data();
    for (std::int64_t b = 0; b < B; ++b) {
      const std::int64_t s = lengths[b], k = memory_lengths[b];
      const auto own = cut(mask.data(), b, N, S, S, s, s);
      const auto own_memory = cut(memory_mask.data(), b, N, S, K, s, k);
      expected.push_back(definition(net, rows(x, s, H), {own.data(), &seen[b]}, rows(memory, k, H),
                                    {own_memory.data(), &seen_memory[b]}));
      x += s * H;
      memory += k * H;
    }
    for_each_isa([&](const KernelTable& table) {
      Guarded<float> self(B * N * S * S), cross(B * N * S * K);
      batch.probabilities = self.data();
      batch.memory_probabilities = cross.data();
      const std::vector<float> out = run(pack_block(table, net), net.causal, batch);
      const float* actual = out.data();
      double total = 0, expected_total = 0;  // nothing lies beyond the lengths
      const auto compare = [&](const std::vector<float>& own, const Matrix& of_heads) {
        const float* p = own.data();
        for (const auto& head : of_heads) {
          for (const double w : head) {
            REQUIRE(std::fabs(*p++ - w) < kTolerance);
            expected_total += w;
          }
        }
      };
      for (std::int64_t b = 0; b < B; ++b) {
        const std::int64_t s = lengths[b], k = memory_lengths[b];
        check(actual, expected[b]);
        actual += s * H;
        compare(cut(self.data(), b, N, S, S, s, s), seen[b]);
        compare(cut(cross.data(), b, N, S, K, s, k), seen_memory[b]);
      }
      for (const float p : self) total += p;
      for (const float p : cross) total += p;
      CHECK(total == doctest::Approx(expected_total));
    });
  });
}

TEST_CASE("the same bits alone, in any company, in any order, on any number of threads") {
  const int before = num_threads();
  // Several groups; sequences of few tokens, and longer than a group; memories of any length.
  const std::vector<std::int64_t> lengths{1, 130, 4, 5, 0, 300, 97, 2, 1, 3, 48, 192, 64},
      memory_lengths{700, 3, 0, 64, 9, 1, 260, 256, 257, 33, 2, 100, 5};
  for (const bool causal : {false, true}) {
    EncoderNet net(1);
    net.cross = true;
    net.norm_first = net.causal = causal;
    net.fill();
    const std::int64_t H = net.H;
    const Batch all(lengths, memory_lengths, H);
    Batch backwards({lengths.rbegin(), lengths.rend()},
                    {memory_lengths.rbegin(), memory_lengths.rend()}, H);
    const auto reverse = [&](const std::vector<std::int64_t>& sizes, const std::vector<float>& from,
                             std::vector<float>& to) {
      std::int64_t start = 0;
      for (const std::int64_t n : sizes) {
        std::copy_n(from.begin() + start * H, n * H, to.end() - (start + n) * H);
        start += n;
      }
    };
    reverse(lengths, all.x, backwards.x);
    reverse(memory_lengths, all.memory, backwards.memory);
    for_each_isa([&](const KernelTable& table) {
      const TransformerBlock block = pack_block(table, net);
      set_num_threads(1);
      std::vector<float> alone;
      auto x = all.x.begin(), memory = all.memory.begin();
      for (std::size_t b = 0; b < lengths.size(); ++b) {
        Batch one({lengths[b]}, {memory_lengths[b]}, H);
        std::copy_n(x, one.x.size(), one.x.begin());
        std::copy_n(memory, one.memory.size(), one.memory.begin());
        x += one.x.size();
        memory += one.memory.size();
        const std::vector<float> out = run(block, causal, one);
        alone.insert(alone.end(), out.begin(), out.end());
      }
      std::vector<float> expected_backwards(alone.size());
      reverse(lengths, alone, expected_backwards);
      for (const int threads : {1, 2, 3}) {
        CAPTURE(threads);
        set_num_threads(threads);
        CHECK(first_difference(run(block, causal, all), alone, alone.size()) == -1);
        CHECK(first_difference(run(block, causal, backwards), expected_backwards, alone.size()) ==
              -1);
      }
    });
  }
  set_num_threads(before);
}

}  // namespace
}  // namespace treadle

// engine/transformer/encoder on every ISA level against the layer's definition in double, one
// sequence at a time; and the same bits for a sequence in any company.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <string>
#include <thread>

#include "encoder_net.h"
#include "guarded.h"
#include "runtime/thread_pool.h"
#include "values.h"

namespace treadle {
namespace {

// A layer's sums have up to 80 terms of size one; a norm brings every layer back to that.
constexpr double kTolerance = 3e-5;

struct Extra {
  const std::uint8_t* mask = nullptr;  // [B, N, S, S] bools
  float* probabilities = nullptr;
  std::int64_t first = 0, last = -1;  // -1: all layers
};

// Sequences of these lengths, one after the other in x, on exact-size arrays.
std::vector<float> run(const Encoder& encoder, bool causal,
                       const std::vector<std::int64_t>& lengths, const float* x,
                       const Extra& extra = {}) {
  std::vector<std::int64_t> offsets{0};
  std::int64_t longest = 0;
  for (const std::int64_t n : lengths) {
    offsets.push_back(offsets.back() + n);
    longest = std::max(longest, n);
  }
  const std::int64_t H = encoder.shape().hidden, N = encoder.shape().heads;
  const Guarded<float> in(std::vector<float>(x, x + offsets.back() * H));
  Guarded<float> out(offsets.back() * H);
  BlockCall c{};
  c.batch = {static_cast<std::int64_t>(lengths.size()), longest, offsets.data()};
  c.x = in.data();
  c.out = out.data();
  c.self_attention = {{extra.mask, N * longest * longest, longest * longest, longest},
                      false,
                      causal,
                      extra.probabilities};
  Interrupt interrupt(nullptr);
  encoder.run(c, extra.first, extra.last < 0 ? encoder.layers() : extra.last, interrupt);
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

// Calls test(net) for every kind of layer.
template <class Test>
void for_each_net(int layers, Test test) {
  for (const bool norm_first : {false, true}) {
    for (const bool bias : {true, false}) {
      for (const bool causal : {false, true}) {
        CAPTURE(norm_first);
        CAPTURE(bias);
        CAPTURE(causal);
        EncoderNet net(layers);
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

TEST_CASE("a ragged batch: each sequence by itself, empty ones too") {
  const std::vector<std::int64_t> lengths{3, 0, 17, 1, 0, 40, 5};
  for_each_net(2, [&](const EncoderNet& net) {
    const std::vector<float> x = random_floats(66 * net.H, 1);
    std::vector<Matrix> expected;
    const float* at = x.data();
    for (const std::int64_t n : lengths) {
      expected.push_back(definition(net, rows(at, n, net.H)));
      at += n * net.H;
    }
    for_each_isa([&](const KernelTable& table) {
      const std::vector<float> out = run(*pack(table, net), net.causal, lengths, x.data());
      const float* actual = out.data();
      for (const Matrix& m : expected) {
        check(actual, m);
        actual += m.size() * net.H;
      }
    });
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
    net.norm_first = true;  // the norm of a single number says nothing
    net.fill();
    const std::vector<float> x = random_floats(11 * H, 1);
    const Matrix few = definition(net, rows(x.data(), 2, H)),
                 many = definition(net, rows(x.data() + 2 * H, 9, H));
    for_each_isa([&](const KernelTable& table) {
      const std::vector<float> out = run(*pack(table, net), false, {2, 9}, x.data());
      check(out.data(), few);
      check(out.data() + 2 * net.H, many);
    });
  }
}

TEST_CASE("a mask for each sequence, and the probabilities of a layer, in several groups") {
  constexpr std::int64_t B = 120, S = 9, kLengths[] = {4, 9, 2};  // 600 tokens
  std::vector<std::int64_t> lengths;
  for (std::int64_t b = 0; b < B; ++b) lengths.push_back(kLengths[b % 3]);
  for_each_net(1, [&](const EncoderNet& net) {
    const std::vector<float> x = random_floats(600 * net.H, 1);
    const std::int64_t pairs = net.N * S * S;
    std::vector<std::uint8_t> mask;
    for (const float r : random_floats(B * pairs, 2)) mask.push_back(r < 0.4f);
    // [N, n, n] of a sequence in the batch's [B, N, S, S].
    const auto padded = [&](std::int64_t b, std::int64_t i) {
      const std::int64_t n = lengths[b];
      return b * pairs + i / n / n * S * S + i / n % n * S + i % n;
    };
    std::vector<Matrix> expected, seen(B);
    const float* from = x.data();
    for (std::int64_t b = 0; b < B; ++b) {
      const std::int64_t n = lengths[b];
      std::vector<std::uint8_t> own(net.N * n * n);
      for (std::size_t i = 0; i < own.size(); ++i) own[i] = mask[padded(b, i)];
      expected.push_back(definition(net, rows(from, n, net.H), {own.data(), &seen[b]}));
      from += n * net.H;
    }
    for_each_isa([&](const KernelTable& table) {
      Guarded<float> probabilities(B * pairs);
      Extra extra;
      extra.mask = mask.data();
      extra.probabilities = probabilities.data();
      const std::vector<float> out = run(*pack(table, net), net.causal, lengths, x.data(), extra);
      const float* actual = out.data();
      for (std::int64_t b = 0; b < B; ++b) {
        check(actual, expected[b]);
        actual += lengths[b] * net.H;
        const std::int64_t n = lengths[b];
        for (std::int64_t i = 0; i < net.N * n * n; ++i) {
          probabilities[padded(b, i)] -= seen[b][i / n / n][i % (n * n)];
        }
      }
      // The difference that is left is an error within the lengths, and must be zero beyond them.
      for (const float w : probabilities) REQUIRE(std::fabs(w) < kTolerance);
    });
  });
}

TEST_CASE("layers one by one") {
  const std::vector<std::int64_t> lengths{4, 9, 2};
  EncoderNet net(3);
  net.fill();
  const std::vector<float> x = random_floats(15 * net.H, 1);
  const auto encoder = pack(kernels(), net);
  const std::vector<float> whole = run(*encoder, false, lengths, x.data());
  std::vector<float> steps = x;
  for (std::int64_t i = 0; i < 3; ++i) {
    steps = run(*encoder, false, lengths, steps.data(), {nullptr, nullptr, i, i + 1});
  }
  CHECK(first_difference(steps, whole, whole.size()) == -1);
}

TEST_CASE("the same bits alone, in any company, in any order, on any number of threads") {
  const int before = num_threads();
  // Several groups; sequences of few tokens, and longer than a group.
  const std::vector<std::int64_t> lengths{1, 130, 4, 5, 0, 300, 97, 2, 530, 3, 48, 192, 64};
  std::int64_t tokens = 0;
  for (const std::int64_t n : lengths) tokens += n;
  for (const bool causal : {false, true}) {
    EncoderNet net(1);
    net.norm_first = causal;
    net.fill();
    const std::int64_t H = net.H;
    const std::vector<float> x = random_floats(tokens * H, 1);
    for_each_isa([&](const KernelTable& table) {
      const auto encoder = pack(table, net);
      set_num_threads(1);
      std::vector<float> alone, backwards(x.size());
      std::int64_t start = 0;
      for (const std::int64_t n : lengths) {
        const std::vector<float> one = run(*encoder, causal, {n}, x.data() + start * H);
        alone.insert(alone.end(), one.begin(), one.end());
        std::copy_n(x.begin() + start * H, n * H, backwards.end() - (start + n) * H);
        start += n;
      }
      for (const int threads : {1, 2, 3}) {
        CAPTURE(threads);
        set_num_threads(threads);
        const std::vector<float> all = run(*encoder, causal, lengths, x.data());
        CHECK(first_difference(all, alone, tokens * H) == -1);
        const std::vector<float> back =
            run(*encoder, causal, {lengths.rbegin(), lengths.rend()}, backwards.data());
        std::int64_t first = 0;
        for (const std::int64_t n : lengths) {
          CHECK(first_difference(back.data() + (tokens - first - n) * H, alone.data() + first * H,
                                 n * H) == -1);
          first += n;
        }
      }
    });
  }
  set_num_threads(before);
}

TEST_CASE("callers share an encoder, with and without the pool") {
  const int before = num_threads();
  EncoderNet net(2);
  net.fill();
  const std::vector<float> x = random_floats(300 * net.H, 1);
  const auto encoder = pack(kernels(), net);
  const std::vector<std::int64_t> small{20}, large{140, 150};
  const std::vector<float> small_bits = run(*encoder, false, small, x.data()),
                           large_bits = run(*encoder, false, large, x.data());
  for (const int pool : {1, 3}) {
    set_num_threads(pool);
    std::atomic<int> wrong{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] {
        for (int call = 0; call < 5; ++call) {
          wrong += run(*encoder, false, small, x.data()) != small_bits;
          wrong += run(*encoder, false, large, x.data()) != large_bits;
        }
      });
    }
    for (std::thread& t : threads) t.join();
    CHECK(wrong == 0);
  }
  set_num_threads(before);
}

}  // namespace
}  // namespace treadle

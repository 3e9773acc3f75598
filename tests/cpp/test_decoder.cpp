// engine/transformer/decoder on exact-size arrays, on every ISA level: a stack with grouped heads,
// gated feed forward, rotary positions and cross attention has the same bits in any company, and
// Ctrl-C changes no state. (Python compares it with its definition.)
#include <doctest/doctest.h>

#include <cmath>
#include <memory>

#include "engine/transformer/decoder_state.h"
#include "guarded.h"
#include "runtime/thread_pool.h"
#include "values.h"

namespace treadle {
namespace {

constexpr std::int64_t kV = 37, kH = 20, kN = 4, kG = 2, kE = 5, kF = 28;

// A guarded array for each weight, which lives as long as the packing.
struct Weights {
  unsigned seed = 3;
  std::vector<std::unique_ptr<Guarded<float>>> arrays;

  const float* matrix(std::int64_t rows, std::int64_t columns) {
    const float scale = 1.7f / std::sqrt(static_cast<float>(columns));
    arrays.push_back(
        std::make_unique<Guarded<float>>(random_floats(rows * columns, ++seed, scale)));
    return arrays.back()->data();
  }
  const float* vector(std::int64_t size) { return matrix(1, size); }
  NormWeights norm() { return {vector(kH), nullptr}; }
};

std::shared_ptr<Decoder> make(const KernelTable& table) {
  Weights w;
  DecoderShape shape{};
  shape.vocabulary = kV;
  shape.hidden = kH;
  shape.positions = 30;
  shape.embed_scale = shape.logit_scale = 1;
  shape.embed_eps = shape.final_eps = 1e-5f;
  DecoderWeights weights{};
  weights.embed = w.matrix(kV, kH);
  weights.positions = w.matrix(30, kH);
  weights.final_norm = w.norm();
  auto decoder = std::make_shared<Decoder>(table, shape, std::move(weights));
  BlockShape block{kH,    kN,  kG, kE, kF, {ActivationFunction::silu, 0, 0}, NormPlace::before,
                   1e-5f, 0.4f};
  block.norm = NormKind::rms;
  block.gated = block.head_norm = true;
  for (int layer = 0; layer < 2; ++layer) {
    BlockWeights b{};
    b.self_attention = {w.matrix(block.projected(), kH), w.vector(block.projected()),
                        w.matrix(kH, kN * kE), w.vector(kH), w.norm()};
    b.self_attention.query_norm = w.vector(kE);
    b.self_attention.key_norm = w.vector(kE);
    b.cross_attention = AttentionWeights{w.matrix(3 * kN * kE, kH), nullptr, w.matrix(kH, kN * kE),
                                         nullptr, w.norm()};
    b.feed_forward = {w.matrix(2 * kF, kH), w.vector(2 * kF), w.matrix(kH, kF), nullptr, w.norm()};
    LayerPositions positions;
    positions.turns.emplace(std::vector<float>{1.0f, 0.1f}, 1.0f);
    decoder->add_layer(TransformerBlock(table, block, b), positions);
  }
  return decoder;
}

// The memory of sequence r has 3 r rows, so that the first sees nothing.
std::shared_ptr<const DecoderMemory> remember(const Decoder& decoder,
                                              const std::vector<std::int64_t>& rows, Dtype dtype) {
  std::vector<std::int64_t> offsets{0};
  std::vector<float> x;
  for (const std::int64_t r : rows) {
    const std::vector<float> own = random_floats(3 * r * kH, 50 + static_cast<unsigned>(r));
    x.insert(x.end(), own.begin(), own.end());
    offsets.push_back(offsets.back() + 3 * r);
  }
  const Guarded<float> guarded(x);
  Interrupt interrupt(nullptr);
  const auto B = static_cast<std::int64_t>(rows.size());
  return decoder.remember({B, 0, offsets.data()}, guarded.data(), dtype, interrupt);
}

// Prompts of 2 r + 1 tokens and two steps of these rows: hidden states, logits, best tokens.
std::vector<std::vector<float>> run(const std::shared_ptr<Decoder>& decoder,
                                    const std::vector<std::int64_t>& rows, Dtype dtype) {
  const auto B = static_cast<std::int64_t>(rows.size());
  DecoderState state(decoder, B, 1, dtype, remember(*decoder, rows, dtype));
  Interrupt interrupt(nullptr);
  std::vector<std::int64_t> prompt, counts;
  for (const std::int64_t r : rows) {
    counts.push_back(2 * r + 1);
    for (std::int64_t i = 0; i < counts.back(); ++i) prompt.push_back((7 * r + 3 * i) % kV);
  }
  const Guarded<std::int64_t> tokens(prompt), guarded_counts(counts);
  Guarded<float> hidden(tokens.size() * kH), logits(B * kV), values(B * 3), lse(B);
  Guarded<std::int64_t> ids(B * 3);
  DecoderCall call{};
  call.tokens = tokens.data();
  call.hidden = hidden.data();
  state.extend(guarded_counts.data(), call, interrupt);
  const std::vector<std::int64_t> ones(B, 1), next(rows);
  const Guarded<std::int64_t> step(next);
  DecoderCall logit_call{}, best_call{};
  logit_call.tokens = best_call.tokens = step.data();
  logit_call.logits = logits.data();
  state.extend(ones.data(), logit_call, interrupt);
  BestTokens best{3, values.data(), ids.data(), lse.data()};
  best_call.best = &best;
  state.extend(ones.data(), best_call, interrupt);
  std::vector<std::vector<float>> results;
  std::int64_t at = 0;
  for (std::int64_t r = 0; r < B; ++r) {
    std::vector<float> own(hidden.begin() + at * kH, hidden.begin() + (at + counts[r]) * kH);
    at += counts[r];
    own.insert(own.end(), logits.begin() + r * kV, logits.begin() + (r + 1) * kV);
    own.insert(own.end(), values.begin() + r * 3, values.begin() + (r + 1) * 3);
    for (int i = 0; i < 3; ++i) own.push_back(static_cast<float>(ids[r * 3 + i]));
    own.push_back(lse[r]);
    results.push_back(own);
  }
  return results;
}

TEST_CASE("a row has the same bits in any company, in every dtype of its keys") {
  const int before = num_threads();
  for_each_isa([](const KernelTable& table) {
    const std::shared_ptr<Decoder> decoder = make(table);
    for (const Dtype dtype : {Dtype::float32, Dtype::bfloat16, Dtype::int8}) {
      set_num_threads(1);
      const auto all = run(decoder, {0, 1, 2, 3, 4, 5}, dtype);
      for (const float x : all[5]) REQUIRE(std::isfinite(x));
      for (const int threads : {1, 2}) {
        set_num_threads(threads);
        for (const auto& rows :
             {std::vector<std::int64_t>{5, 0, 3, 3}, {2}, {1, 4}, {0, 1, 2, 3, 4, 5}}) {
          const auto some = run(decoder, rows, dtype);
          for (std::size_t i = 0; i < rows.size(); ++i) {
            REQUIRE(some[i].size() == all[rows[i]].size());
            const auto size = static_cast<std::int64_t>(some[i].size());
            CHECK(first_difference(some[i], all[rows[i]], size) == -1);
          }
        }
      }
    }
  });
  set_num_threads(before);
}

TEST_CASE("an interrupted call changes no state") {
  struct Stop {
    static bool poll(void*) { return true; }
  };
  Interrupt stopped(Stop::poll), never(nullptr);
  while (!stopped.stopped()) stopped.progress(1e9);
  const std::shared_ptr<Decoder> decoder = make(kernels());
  DecoderState state(decoder, 2, 8, Dtype::float32, remember(*decoder, {1, 2}, Dtype::float32));
  const std::int64_t tokens[] = {1, 2, 3, 4}, counts[] = {2, 2};
  std::vector<float> hidden(4 * kH), again(4 * kH);
  DecoderCall call{};
  call.tokens = tokens;
  call.hidden = hidden.data();
  state.extend(counts, call, stopped);
  CHECK(state.lengths() == std::vector<std::int64_t>{0, 0});
  state.extend(counts, call, never);
  CHECK(state.lengths() == std::vector<std::int64_t>{2, 2});
  const std::int64_t none[] = {0, 0};
  state.truncate(none);
  call.hidden = again.data();
  state.extend(counts, call, never);
  CHECK(first_difference(again, hidden, 4 * kH) == -1);
}

}  // namespace
}  // namespace treadle

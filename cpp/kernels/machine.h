// These loops measure the machine's limits, the denominators of every "percent of limit".
#pragma once

#include "kernels/epilogue_gru.h"
#include "kernels/epilogue_lstm.h"
#include "kernels/epilogue_rnn.h"
#include "kernels/format.h"
#include "kernels/table.h"
#include "simd/simd.h"

namespace treadle::TREADLE_ISA {
namespace {

// Independent sums, enough to hide the latency of a multiply-add on every CPU so far: 6 cycles with
// 2 a cycle on x86-64, 4 with 4 on Arm.
#if defined(TREADLE_ISA_neon)
constexpr int kChains = 16;
#else
constexpr int kChains = 12;
#endif

// Operations of a round: a multiplication and an addition for each number of each lane; a matrix
// takes each for two rows.
template <class Format>
constexpr int kRoundFlops =
    2 * kChains * kLanes * (32 / Format::kBits) * (Format::kMatrices ? 2 : 1);

template <class Format>
TREADLE_INLINE typename Format::Sum multiply_add(typename Format::Sum sum, Word x, Vec w) {
  if constexpr (Format::kMatrices) {
    return Format::matrix(sum, broadcast(x), w);
  } else {
    return Format::step(sum, x, w);
  }
}

// The multiply-adds of a format, as its products do them, on registers. The factors come from L1
// and differ by a bit that the compiler does not know, so that no two sums or products are the
// same.
template <class Format>
float multiply_loop(std::int64_t rounds) {
  constexpr std::int64_t kVectors = 8;
  const std::uint32_t bits = Format::kBits == 8 ? 0x01020304u : 0x3f003f00u;  // 1 ... 4, or 0.5
  Word words[kVectors * kLanes];
  for (std::int64_t i = 0; i < kVectors * kLanes; ++i) {
    const std::uint32_t word = bits ^ static_cast<std::uint32_t>(rounds >> i % 16 & 1);
    std::memcpy(words + i, &word, sizeof word);
  }
  typename Format::Sum sum[kChains]{};
  for (std::int64_t n = 0; n < rounds; ++n) {
    const Vec w = load(words + n % kVectors * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < kChains; ++i) sum[i] = multiply_add<Format>(sum[i], words[i], w);
  }
  typename Format::Sum total{};
#pragma GCC unroll 16
  for (int i = 0; i < kChains; ++i) total = total + sum[i];
  return static_cast<float>(total[0]);
}

float read_loop(const float* p, std::int64_t floats) {
  Vec sum[8] = {};
  for (std::int64_t i = 0; i < floats; i += 8 * kLanes) {
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) {
      sum[j] = as_floats(as_ints(sum[j]) | as_ints(load(p + i + j * kLanes)));
    }
  }
  Vec total{};
#pragma GCC unroll 8
  for (int j = 0; j < 8; ++j) total = as_floats(as_ints(total) | as_ints(sum[j]));
  return total[0];
}

// The chain that no step can cut short: a number of the state is loaded from where the step before
// stored its vector, multiplied into every gate, and goes through the functions of the cell into
// the vector that is stored next. There is one vector of units and one term of the product; more of
// them could run at the same time. The number's place changes from step to step, so that the
// compiler cannot take it from a register. Words of bfloat16 and int8 are not made: their chain has
// the same term in float32.
template <class Units>
float chain_loop(const CellOptions& options, std::int64_t steps, Units units) {
  constexpr int kGates = 4;
  float weights[kGates * kLanes], bias[kGates * kLanes], h[kLanes] = {}, c[kLanes] = {};
  // The gates differ, as far as the compiler knows. They are positive, so that relu lets them pass,
  // and small enough for a state that stays below 1.
  for (int i = 0; i < kGates * kLanes; ++i) {
    weights[i] = static_cast<float>(steps % (i + 2)) / static_cast<float>(8 * (i + 2));
    bias[i] = 0.25f - weights[i];
  }
  float* const state[] = {h};
  float* const cell[] = {c};
  StepArgs a{};
  a.blend = state;
  a.c = cell;
  a.out = state;  // one vector, which is read before it is written
  a.hidden_size = kLanes;
  a.options = &options;
  for (std::int64_t n = 0; n < steps; ++n) {
    const Vec x = broadcast(h[n % kLanes]);
    Vec gates[kGates];
#pragma GCC unroll 4
    for (int g = 0; g < kGates; ++g) {
      gates[g] = fma(x, load(weights + g * kLanes), load(bias + g * kLanes));
    }
    units(a, gates);
  }
  return h[0];
}

template <RnnKind Kind>
float rnn_chain_loop(const CellOptions& options, std::int64_t steps) {
  return chain_loop(options, steps, [](const StepArgs& a, const Vec(&gates)[4]) {
    store(a.out[0], rnn_activation<Kind>(*a.options, gates[0]));
  });
}

template <class Format>
float rnn_chain(const CellOptions& options, std::int64_t steps) {
  switch (rnn_kind(options)) {
    case RnnKind::tanh:
      if constexpr (kInlined<Format>) return rnn_chain_loop<RnnKind::tanh>(options, steps);
      return chain_loop(options, steps, [](const StepArgs& a, const Vec(&gates)[4]) {
        store(a.out[0], low_precision_tanh(gates[0]));
      });
    case RnnKind::relu:
      return rnn_chain_loop<RnnKind::relu>(options, steps);
    default:
      return rnn_chain_loop<RnnKind::general>(options, steps);
  }
}

template <LstmKind Kind>
float lstm_chain_loop(const CellOptions& options, std::int64_t steps) {
  return chain_loop(options, steps, [](const StepArgs& a, const Vec(&gates)[4]) {
    lstm_store<Kind>(a, 0, 0, gates[0], gates[1], gates[2], gates[3]);
  });
}

template <class Format>
float lstm_chain(const CellOptions& options, std::int64_t steps) {
  const LstmKind kind = lstm_kind(options);
  if constexpr (kInlined<Format>) {
    if (kind == LstmKind::tanh) return lstm_chain_loop<LstmKind::tanh>(options, steps);
    if (kind == LstmKind::relu) return lstm_chain_loop<LstmKind::relu>(options, steps);
  } else if (kind == LstmKind::tanh) {
    return chain_loop(options, steps, [](const StepArgs& a, const Vec(&gates)[4]) {
      lstm_output_low_precision(a, 0, 0, lstm_update_low_precision(a, 0, 0, gates));
    });
  }
  return lstm_chain_loop<LstmKind::general>(options, steps);
}

template <bool Standard>
float gru_chain_loop(const CellOptions& options, std::int64_t steps) {
  return chain_loop(options, steps, [](const StepArgs& a, const Vec(&gates)[4]) {
    gru_store<Standard>(a, 0, 0, gates[0], gates[1], gates[2], gates[3]);
  });
}

template <class Format>
float gru_chain(const CellOptions& options, std::int64_t steps) {
  if (!standard_gru(options)) return gru_chain_loop<false>(options, steps);
  if constexpr (kInlined<Format>) return gru_chain_loop<true>(options, steps);
  return chain_loop(options, steps, [](const StepArgs& a, const Vec(&gates)[4]) {
    gru_output_low_precision(a, 0, 0, gru_update_low_precision(a, 0, 0, gates));
  });
}

}  // namespace
}  // namespace treadle::TREADLE_ISA

// One head's attention as a task of the engine: many queries on packed keys and values, and a few
// queries (one of each head of a group) that read a cache of keys as it lies. "byte" counts the
// keys and values, which bound the latter by the bandwidth of what holds them.
#include <algorithm>
#include <cmath>

#include "register.h"
#include "runtime/buffer.h"
#include "runtime/flush_to_zero.h"

namespace treadle {
namespace {

std::vector<std::int64_t> ends(std::int64_t S, std::int64_t K, bool causal) {
  std::vector<std::int64_t> end;
  for (std::int64_t i = 0; i < S; ++i) end.push_back(causal ? K - S + i + 1 : K);
  return end;
}

void many(benchmark::State& state, const KernelTable& table, std::int64_t S, std::int64_t E,
          bool causal, bool pack) {
  const Rows q(S, E), k(S, E), v(S, E), out(S, E);
  const std::int64_t padded = (S + table.lanes - 1) / table.lanes * table.lanes;
  Buffer keys(padded * E), values(S * ((E + table.lanes - 1) / table.lanes * table.lanes));
  const std::vector<std::int64_t> begin(S), end = ends(S, S, causal);
  AttentionArgs a{};
  a.rows = S;
  a.q = q.in();
  a.out = out.out();
  a.begin = begin.data();
  a.end = end.data();
  a.scale = 1 / std::sqrt(static_cast<float>(E));
  a.key_size = a.value_size = E;
  a.keys = S;
  a.k = keys.data();
  a.v = values.data();
  const auto pack_both = [&] {
    table.of(Dtype::float32).pack_keys({k.floats.data(), S, E, E, keys.data(), 0, S});
    table.of(Dtype::float32).pack_values({v.floats.data(), S, E, E, values.data(), 0, S});
  };
  pack_both();
  Buffer scratch(kAttentionScratch);
  a.scratch = scratch.data();
  const FlushToZero guard;
  for (auto _ : state) {
    if (pack) {
      pack_both();
    } else {
      table.of(Dtype::float32).attention(a);
    }
    benchmark::ClobberMemory();
  }
  if (pack) {
    set_rate(state, "byte", 8.0 * S * E);
  } else {
    set_rate(state, "FLOP", 4.0 * S * (causal ? (S + 1) / 2 : S) * E);
  }
}

void few(benchmark::State& state, const KernelTable& table, std::int64_t rows, std::int64_t K,
         std::int64_t E) {
  const Rows q(rows, E), k(K, E), v(K, E), out(rows, E);
  const std::int64_t chunks = (K + kChunkKeys - 1) / kChunkKeys, partial = rows * (E + 2);
  Buffer partials(chunks * partial);
  const std::vector<std::int64_t> begin(rows), end(rows, K);
  AttentionArgs a{};
  a.rows = rows;
  a.q = q.in();
  a.begin = begin.data();
  a.end = end.data();
  a.scale = 1 / std::sqrt(static_cast<float>(E));
  a.key_size = a.value_size = a.k_stride = a.v_stride = E;
  a.keys = K;
  a.stored_k = k.floats.data();
  a.stored_v = v.floats.data();
  Buffer scratch(kAttentionScratch);
  a.scratch = scratch.data();
  const FlushToZero guard;
  for (auto _ : state) {
    for (std::int64_t chunk = 0; chunk < chunks; ++chunk) {
      a.first = chunk * kChunkKeys;
      a.last = std::min(K, a.first + kChunkKeys);
      a.partial = partials.data() + chunk * partial;
      table.of(Dtype::float32).attention_chunk(a);
    }
    table.attention_join({rows, chunks, E, partials.data(), out.out()});
    benchmark::ClobberMemory();
  }
  set_rate(state, "byte", 8.0 * K * E);
  set_rate(state, "FLOP", 4.0 * rows * K * E);
}

}  // namespace

void register_attention(const KernelTable& table) {
  const auto add = [&](const char* kernel, const std::string& sizes, auto run) {
    benchmark::RegisterBenchmark(name(kernel, table, sizes).c_str(), run);
  };
  for (const std::int64_t E : {32, 64, 128}) {
    for (const std::int64_t S : {16, 128, 1024}) {
      const std::string sizes = "S:" + std::to_string(S) + "/E:" + std::to_string(E);
      add("attention", sizes, [&, S, E](auto& state) { many(state, table, S, E, false, false); });
      add("attention_causal", sizes,
          [&, S, E](auto& state) { many(state, table, S, E, true, false); });
      add("attention_pack", sizes,
          [&, S, E](auto& state) { many(state, table, S, E, false, true); });
    }
    // One query, then those of a group of eight heads; keys within L1 or L2, and beyond.
    for (const std::int64_t rows : {1, 8}) {
      for (const std::int64_t K : {64, 1024, 32768}) {
        const std::string sizes =
            "rows:" + std::to_string(rows) + "/K:" + std::to_string(K) + "/E:" + std::to_string(E);
        add("attention_few", sizes,
            [&, rows, K, E](auto& state) { few(state, table, rows, K, E); });
      }
    }
  }
}

}  // namespace treadle

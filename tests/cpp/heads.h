// Random attention problems and their definition: one query, one key, one sum at a time, in double.
#pragma once

#include <doctest/doctest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "engine/attention/attention.h"
#include "guarded.h"
#include "values.h"

namespace treadle {

enum class MaskKind { none, bools, floats };

struct HeadsShape {
  std::int64_t B = 1, N = 2, kv_heads = 1, S = 1, K = 1, E = 16, F = 16;
  float scale = 0.25f, softcap = 0;
  bool causal = false, alibi = false;
  std::int64_t left = -1, right = -1;
  MaskKind mask = MaskKind::none;
  Dropout dropout{};
  std::vector<std::int64_t> query_lengths, key_lengths, query_offset;  // [B], or empty
};

// The results of the definition, and by how much the results of a call may differ from them.
struct Expected {
  std::vector<double> out, probabilities;  // [B, N, S, F], [B, N, S, K]
  std::vector<double> bound;               // [B, N, S]: of the error of a weight, relative to it
};

struct Heads {
  explicit Heads(const HeadsShape& shape, unsigned seed = 1);

  Expected definition() const;
  // Contiguous arrays of this object; no output.
  AttentionCall call() const;

  HeadsShape shape;
  std::vector<float> q, k, v, slopes;
  std::vector<std::uint8_t> mask_bools;  // [B, N, S, K], those of the kind of mask
  std::vector<float> mask_floats;
};

// A copy of the arrays of Heads, each of exactly its size and next to a page that nobody may touch.
struct GuardedHeads {
  explicit GuardedHeads(const Heads& heads);

  AttentionCall call;
  Guarded<float> q, k, v, slopes, mask_floats;
  Guarded<std::uint8_t> mask_bools;
};

struct HeadsResult {
  std::vector<float> out, probabilities;
};

// attend() on arrays of exactly the right size, each next to a page that nobody may touch.
HeadsResult run(const KernelTable& table, const Heads& heads, bool probabilities = false);
// attend() on whatever `call` says, into a contiguous out of its shape.
std::vector<float> run(const KernelTable& table, AttentionCall call);

// [B, N, S, size] one behind the other.
template <class T>
HeadView<T> contiguous(T* data, std::int64_t heads, std::int64_t rows, std::int64_t size) {
  return {data, heads * rows * size, rows * size, size};
}

// Options that many tests go through.
struct Kind {
  const char* name;
  void (*set)(HeadsShape&);
};
inline constexpr Kind kKinds[] = {
    {"all keys", [](HeadsShape&) {}},
    {"causal", [](HeadsShape& s) { s.causal = true; }},
    {"window", [](HeadsShape& s) { s.left = 33, s.right = 2; }},
    {"causal window, ALiBi, softcap",
     [](HeadsShape& s) { s.causal = s.alibi = true, s.left = 150, s.softcap = 3; }},
    {"mask of bools", [](HeadsShape& s) { s.mask = MaskKind::bools; }},
    {"causal, mask of floats", [](HeadsShape& s) { s.causal = true, s.mask = MaskKind::floats; }},
};

// For each ISA level and kind: test(table, shape with its options set).
template <class Test>
void for_each_kind(const HeadsShape& shape, Test test) {
  for_each_isa([&](const KernelTable& table) {
    for (const Kind& kind : kKinds) {
      INFO(std::string(kind.name));
      HeadsShape own = shape;
      kind.set(own);
      test(table, own);
    }
  });
}

// The largest error as a multiple of its bound; infinite for a NaN.
double largest_error(const HeadsResult& actual, const Heads& heads, const Expected& expected);

}  // namespace treadle

// This header registers one benchmark per ISA level and shows rates as counters.
#pragma once

#include <benchmark/benchmark.h>

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/table.h"

namespace treadle {

// Each registers its benchmarks for one level; names are kernel/isa/sizes.
void register_products(const KernelTable& table);
void register_steps(const KernelTable& table);
void register_activations(const KernelTable& table);
void register_attention(const KernelTable& table);
void register_rows(const KernelTable& table);

// Reports `amount` of `unit` per iteration as a rate: FLOP=95.1G/s, byte=80G/s (G: 10^9).
inline void set_rate(benchmark::State& state, const char* unit, double amount) {
  state.counters[unit] = benchmark::Counter(amount, benchmark::Counter::kIsIterationInvariantRate);
}

// [-1, 1), the same on every run: speed must not depend on denormals or on luck.
inline std::vector<float> numbers(std::int64_t count) {
  std::vector<float> values(static_cast<std::size_t>(count));
  std::uint32_t x = 1;
  for (float& value : values) {
    x = x * 1664525u + 1013904223u;  // Numerical Recipes' generator
    value = static_cast<float>(x >> 8) * 0x1p-23f - 1.0f;
  }
  return values;
}

// `count` rows of `size` floats and the pointers to them.
struct Rows {
  Rows(std::int64_t count, std::int64_t size) : floats(numbers(count * size)) {
    for (std::int64_t i = 0; i < count; ++i) pointers.push_back(floats.data() + i * size);
  }
  const float* const* in() const { return pointers.data(); }
  float* const* out() const { return pointers.data(); }
  std::vector<float> floats;
  std::vector<float*> pointers;
};

inline std::string name(const char* kernel, const KernelTable& table, const std::string& sizes) {
  return std::string(kernel) + "/" + table.isa + "/" + sizes;
}

}  // namespace treadle

// Micro-benchmarks of the kernels, one thread, every ISA level of this CPU. No pool, no Python, no
// allocation inside the measured loops; `treadle bench` measures what a user gets.
//
// First the limits that the rest is to be compared with: limit/<isa>/multiply and limit/<isa>/read.
#include <benchmark/benchmark.h>

#include "register.h"
#include "runtime/buffer.h"
#include "runtime/isa.h"

namespace treadle {
namespace {

void register_limits(const KernelTable& table) {
  const char* const kNames[kDtypes] = {"float32", "bfloat16", "int8"};
  for (int dtype = 0; dtype < kDtypes; ++dtype) {
    const ProductKernels& products = table.products[dtype];
    const std::string what = std::string("multiply/") + kNames[dtype];
    benchmark::RegisterBenchmark(name("limit", table, what).c_str(), [&products](auto& state) {
      constexpr std::int64_t kRounds = 10000;
      for (auto _ : state) benchmark::DoNotOptimize(products.multiply_loop(kRounds));
      set_rate(state, "FLOP", static_cast<double>(kRounds) * products.round_flops);
    });
  }
  // Within L1, L2 and L3 of most CPUs, and beyond.
  for (const std::int64_t kib : {16, 256, 4096, 131072}) {
    const std::string sizes = "read/KiB:" + std::to_string(kib);
    benchmark::RegisterBenchmark(name("limit", table, sizes).c_str(), [&, kib](auto& state) {
      const std::int64_t floats = kib * 256;
      const Buffer buffer(floats);
      for (auto _ : state) benchmark::DoNotOptimize(table.read_loop(buffer.data(), floats));
      set_rate(state, "byte", 4.0 * floats);
    });
  }
}

}  // namespace
}  // namespace treadle

int main(int argc, char** argv) {
  for (const std::string& isa : treadle::available_isas()) {
    treadle::set_isa(isa);
    const treadle::KernelTable& table = treadle::kernels();
    treadle::register_limits(table);
    treadle::register_products(table);
    treadle::register_steps(table);
    treadle::register_activations(table);
    treadle::register_attention(table);
    treadle::register_rows(table);
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}

// kernels/linear.h on weights that were packed before: x [M, K] times weight [N, K], plus bias.
#include "engine/product/packed_weights.h"
#include "register.h"
#include "runtime/flush_to_zero.h"

namespace treadle {
namespace {

void product(benchmark::State& state, const KernelTable& table, std::int64_t M, std::int64_t N,
             std::int64_t K) {
  const std::vector<float> weight = numbers(N * K), x = numbers(M * K), bias = numbers(N);
  std::vector<float> out(M * N);
  const PackedWeights packed = PackedWeights::plain(N, {{weight.data(), K}}, table.lanes);
  const Buffer packed_bias = packed.pack_vector(bias.data());
  std::vector<const float*> from(M);
  std::vector<float*> to(M);
  for (std::int64_t m = 0; m < M; ++m) {
    from[m] = x.data() + m * K;
    to[m] = out.data() + m * N;
  }
  LinearArgs a{};
  a.rows = M;
  a.x = from.data();
  a.out = to.data();
  a.columns = N;
  a.k = K;
  a.weights = packed.weights();
  a.panel_stride = packed.panel_stride();
  a.bias = packed_bias.data();
  a.vectors = packed.vectors();
  a.panel_end = packed.panels();
  const FlushToZero guard;
  for (auto _ : state) {
    table.of(Dtype::float32).linear(a);
    benchmark::ClobberMemory();
  }
  set_rate(state, "FLOP", 2.0 * M * N * K);
  set_rate(state, "byte", 4.0 * (N * K + M * K + M * N));
}

}  // namespace

void register_products(const KernelTable& table) {
  for (const std::int64_t M : {1, 6, 32, 128}) {
    for (const std::int64_t size : {64, 256, 512}) {
      const std::string sizes = "M:" + std::to_string(M) + "/N:" + std::to_string(4 * size) +
                                "/K:" + std::to_string(size);
      benchmark::RegisterBenchmark(
          name("linear", table, sizes).c_str(),
          [&, M, size](benchmark::State& state) { product(state, table, M, 4 * size, size); });
    }
  }
}

}  // namespace treadle

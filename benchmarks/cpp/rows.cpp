// Functions of whole rows, 64 of them: layer norm with a residual and without, softmax.
#include "register.h"
#include "runtime/flush_to_zero.h"

namespace treadle {
namespace {

struct RowCase {
  const char* kernel;
  void (*KernelTable::*function)(const RowArgs&);
  bool residual, affine;
};

const RowCase kCases[] = {{"layer_norm", &KernelTable::layer_norm, false, true},
                          {"layer_norm_residual", &KernelTable::layer_norm, true, true},
                          {"softmax", &KernelTable::softmax, false, false}};

void rows(benchmark::State& state, const KernelTable& table, const RowCase& c, std::int64_t N) {
  constexpr std::int64_t kRows = 64;
  const std::vector<float> x = numbers(kRows * N), weight = numbers(N), bias = numbers(N);
  std::vector<float> out(kRows * N);
  RowArgs a{};
  a.rows = kRows;
  a.size = a.x_stride = a.residual_stride = a.out_stride = N;
  a.x = x.data();
  a.residual = c.residual ? x.data() : nullptr;
  a.out = out.data();
  a.weight = c.affine ? weight.data() : nullptr;
  a.bias = c.affine ? bias.data() : nullptr;
  a.eps = 1e-5f;
  const FlushToZero guard;
  for (auto _ : state) {
    (table.*c.function)(a);
    benchmark::ClobberMemory();
  }
  set_rate(state, "value", static_cast<double>(kRows * N));
}

}  // namespace

void register_rows(const KernelTable& table) {
  for (const RowCase& c : kCases) {
    for (const std::int64_t N : {17, 384, 768}) {
      benchmark::RegisterBenchmark(name(c.kernel, table, "N:" + std::to_string(N)).c_str(),
                                   [&, N](auto& state) { rows(state, table, c, N); });
    }
  }
}

}  // namespace treadle

// Elementwise functions over 4096 floats, which stay in L1.
#include "register.h"
#include "runtime/flush_to_zero.h"

namespace treadle {
namespace {

struct FunctionCase {
  const char* kernel;
  Function function;
};

const FunctionCase kCases[] = {{"exp", Function::exp},
                               {"tanh", Function::tanh},
                               {"sigmoid", Function::sigmoid},
                               {"softplus", Function::softplus},
                               {"erf", Function::erf},
                               {"relu", Function::relu},
                               {"softsign", Function::softsign},
                               {"elu", Function::elu},
                               {"hard_sigmoid", Function::hard_sigmoid},
                               {"gelu", Function::gelu},
                               {"gelu_tanh", Function::gelu_tanh},
                               {"silu", Function::silu}};

}  // namespace

void register_activations(const KernelTable& table) {
  constexpr std::int64_t kFloats = 4096;
  for (const FunctionCase& c : kCases) {
    benchmark::RegisterBenchmark(
        name(c.kernel, table, "N:4096").c_str(), [&](benchmark::State& state) {
          const std::vector<float> x = numbers(kFloats);
          std::vector<float> y(kFloats);
          const FlushToZero guard;
          for (auto _ : state) {
            table.apply({c.function, 0.2f, 0.5f}, x.data(), y.data(), kFloats);
            benchmark::ClobberMemory();
          }
          set_rate(state, "value", kFloats);
        });
  }
}

}  // namespace treadle

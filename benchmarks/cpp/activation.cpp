// Elementwise functions over 4096 floats, which stay in L1.
#include "register.h"
#include "runtime/flush_to_zero.h"

namespace treadle {
namespace {

struct FunctionCase {
  const char* kernel;
  ActivationFunction function;
};

const FunctionCase kCases[] = {{"exp", ActivationFunction::exp},
                               {"tanh", ActivationFunction::tanh},
                               {"sigmoid", ActivationFunction::sigmoid},
                               {"softplus", ActivationFunction::softplus},
                               {"erf", ActivationFunction::erf},
                               {"relu", ActivationFunction::relu},
                               {"softsign", ActivationFunction::softsign},
                               {"elu", ActivationFunction::elu},
                               {"hard_sigmoid", ActivationFunction::hard_sigmoid},
                               {"gelu", ActivationFunction::gelu},
                               {"gelu_tanh", ActivationFunction::gelu_tanh},
                               {"silu", ActivationFunction::silu}};

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

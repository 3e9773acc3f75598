// One time step of a cell, I = H: the input and the recurrent product and the epilogue. "byte"
// counts the packed weights, which bound a step at B = 1 by the bandwidth of the cache that holds
// them.
#include <cmath>

#include "engine/recurrent/cell.h"
#include "register.h"
#include "runtime/flush_to_zero.h"

namespace treadle {
namespace {

struct CellCase {
  const char* kernel;
  Mode mode;
  bool reset_after;
};

const CellCase kCases[] = {{"rnn", Mode::rnn, true},
                           {"lstm", Mode::lstm, true},
                           {"gru", Mode::gru, true},
                           {"gru_reset_before", Mode::gru, false}};

Cell make_cell(const KernelTable& table, const CellCase& c, std::int64_t H) {
  const std::int64_t rows = gate_count(c.mode) * H;
  std::vector<float> weight = numbers(rows * H);
  for (float& w : weight) w /= std::sqrt(static_cast<float>(H));  // as layers are initialised
  const std::vector<float> bias = numbers(rows);
  const CellOptions options{{ActivationFunction::sigmoid, 0, 0},
                            {ActivationFunction::tanh, 0, 0},
                            {ActivationFunction::tanh, 0, 0},
                            0,
                            false,
                            nullptr};
  return Cell(table, {c.mode, H, H, 0, c.reset_after},
              {weight.data(), weight.data(), bias.data(), bias.data(), nullptr, nullptr}, options);
}

void step(benchmark::State& state, const KernelTable& table, const CellCase& c, std::int64_t B,
          std::int64_t H) {
  const Cell cell = make_cell(table, c, H);
  const Rows x(B, H), h(B, H), cells(B, H), out(B, H), between(B, H), update(B, H);
  const StepRows rows{B,           x.in(),    nullptr,       h.in(),
                      cells.out(), out.out(), between.out(), update.out()};
  const FlushToZero guard;
  StepScratch scratch;
  cell.reserve(scratch, B, B);
  for (auto _ : state) {
    for (int phase = 0; phase < cell.phases(); ++phase)
      cell.step(phase, rows, PanelShare{0, 1, 1}, scratch);
    benchmark::ClobberMemory();
  }
  set_rate(state, "FLOP", 2.0 * B * static_cast<double>(cell.step_work()));
  set_rate(state, "byte", static_cast<double>(cell.weight_bytes()));
}

}  // namespace

void register_steps(const KernelTable& table) {
  for (const CellCase& c : kCases) {
    for (const std::int64_t B : {1, 32}) {
      for (const std::int64_t H : {32, 50, 64, 128, 256, 512}) {
        const std::string sizes = "B:" + std::to_string(B) + "/H:" + std::to_string(H);
        benchmark::RegisterBenchmark(
            name(c.kernel, table, sizes).c_str(),
            [&, B, H](benchmark::State& state) { step(state, table, c, B, H); });
      }
    }
  }
}

}  // namespace treadle

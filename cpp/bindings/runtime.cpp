// These functions set the ISA and the threads, measure the machine and compute element by element.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <map>

#include "bindings/activation.h"
#include "bindings/arrays.h"
#include "bindings/bound_recurrent.h"
#include "bindings/dtype.h"
#include "bindings/gil.h"
#include "runtime/buffer.h"
#include "runtime/flush_to_zero.h"
#include "runtime/isa.h"
#include "runtime/thread_pool.h"

namespace treadle {
namespace {

std::atomic<float> sink;  // keeps the measured loops alive

// Calls once() for about `seconds` and returns the best rate: work / time.
template <class Once>
double best_rate(double seconds, double work, Once once) {
  if (!(seconds > 0 && seconds <= 60)) {
    throw py::value_error("treadle._core: seconds is out of range, expected 0 < seconds <= 60");
  }
  using Clock = std::chrono::steady_clock;
  const WithoutGil native;
  double best = 0;
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  do {
    const auto start = Clock::now();
    sink.store(once(), std::memory_order_relaxed);
    const std::chrono::duration<double> elapsed = Clock::now() - start;
    if (elapsed.count() > 0) best = std::max(best, work / elapsed.count());
  } while (Clock::now() < end);
  return best;
}

double multiply_peak(double seconds, const std::string& dtype) {
  const ProductKernels& products = kernels().of(parse_dtype("treadle._core.multiply_peak", dtype));
  constexpr std::int64_t kRounds = 100000;
  return best_rate(seconds, static_cast<double>(kRounds) * products.round_flops,
                   [&] { return products.multiply_loop(kRounds); });
}

double read_bandwidth(std::int64_t bytes, double seconds) {
  constexpr std::int64_t kStep = 1024;  // floats that a turn of read_loop reads
  const std::int64_t floats = bytes / 4 / kStep * kStep;
  if (floats < kStep || bytes > (std::int64_t{1} << 40)) {
    throw py::value_error("treadle._core.read_bandwidth: bytes is " + std::to_string(bytes) +
                          ", expected 4096 to 2**40");
  }
  const KernelTable& table = kernels();
  const Buffer buffer(floats);
  // Small buffers are read many times between two looks at the clock.
  const std::int64_t repeats = std::max<std::int64_t>(1, (1 << 20) / floats);
  // It is read forth and back in runs of 64 kB, as the steps of a net read its weights: where a
  // cache holds a part of it, the way back finds that part there.
  constexpr std::int64_t kRun = 16 * kStep;
  bool backwards = false;
  return best_rate(seconds, static_cast<double>(repeats) * floats * 4, [&] {
    float sum = 0;
    for (std::int64_t i = 0; i < repeats; ++i, backwards = !backwards) {
      for (std::int64_t done = 0; done < floats; done += kRun) {
        const std::int64_t count = std::min(kRun, floats - done);
        const std::int64_t first = backwards ? floats - done - count : done;
        sum += table.read_loop(buffer.data() + first, count);
      }
    }
    return sum;
  });
}

// Returns the seconds that a step waits for the one before, whatever its size.
double step_chain(const std::string& mode, const std::string& activation, double seconds,
                  const std::string& dtype) {
  const std::string function = "treadle._core.step_chain";
  const ProductKernels& products = kernels().of(parse_dtype(function, dtype));
  const Mode cell = parse_mode(function, mode);
  const auto chain = cell == Mode::rnn    ? products.rnn_chain
                     : cell == Mode::lstm ? products.lstm_chain
                                          : products.gru_chain;
  CellOptions options{};
  options.f = {ActivationFunction::sigmoid, 0, 0};
  options.g = options.h = {parse_function(function, activation), 0, 0};
  constexpr std::int64_t kSteps = 1000;
  return 1 / best_rate(seconds, kSteps, [&] { return chain(options, kSteps); });
}

py::array_t<float> apply(const std::string& name, const py::object& x, float alpha, float beta) {
  const Activation activation{parse_function("treadle._core.apply", name), alpha, beta};
  const View<const float> in =
      check_array<float>("treadle._core.apply", "x", x, {{"N", kAny}}, Layout::contiguous);
  py::array_t<float> y = new_array("treadle._core.apply", {in.shape[0]});
  float* out = y.mutable_data();
  interruptible([&](Interrupt& interrupt) {
    const FlushToZero guard;
    constexpr std::int64_t kPiece = 1 << 18;
    for (std::int64_t i = 0; i < in.shape[0] && !interrupt.stopped(); i += kPiece) {
      kernels().apply(activation, in.data + i, out + i, std::min(kPiece, in.shape[0] - i));
      interrupt.look();
    }
  });
  return y;
}

std::map<std::string, std::string> build_info() {
  return {{"version", TREADLE_VERSION},
#if defined(__clang__)
          {"compiler", "clang " __clang_version__},
#else
          {"compiler", "g++ " __VERSION__},
#endif
#if defined(__x86_64__)
          {"architecture", "x86_64"}};
#else
          {"architecture", "aarch64"}};
#endif
}

}  // namespace

[[gnu::cold]] void register_runtime(py::module_& m) {
  m.def("isa", [] { return std::string(kernels().isa); });
  m.def("available_isas", &available_isas);
  m.def("set_isa", &set_isa, py::arg("name"));
  m.def("set_num_threads", &set_num_threads, py::arg("n"));
  m.def("get_num_threads", &num_threads);
  m.def("suggest_num_threads", &suggest_num_threads, py::arg("n"));
  m.def("apply", &apply, py::arg("name"), py::arg("x"), py::arg("alpha") = 0.0f,
        py::arg("beta") = 0.0f);
  m.def("limits", [] {
    return std::map<std::string, std::int64_t>{{"head_size", kMostHeadSize},
                                               {"sum_block", kSumBlock}};
  });
  m.def("control_word", &control_word);
  m.def("multiply_peak", &multiply_peak, py::arg("seconds") = 0.05, py::arg("dtype") = "float32");
  m.def("read_bandwidth", &read_bandwidth, py::arg("bytes"), py::arg("seconds") = 0.05);
  m.def("step_chain", &step_chain, py::arg("mode"), py::arg("activation") = "tanh",
        py::arg("seconds") = 0.05, py::arg("dtype") = "float32");
  m.def("build_info", &build_info);
}

}  // namespace treadle

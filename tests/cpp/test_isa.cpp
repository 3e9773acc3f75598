// runtime/isa: what can run, what is in its table, and how it is chosen.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include "runtime/isa.h"
#include "runtime/x86_features.h"
#include "values.h"

namespace treadle {
namespace {

TEST_CASE("portable is there on every CPU, and first") {
  CHECK(available_isas().at(0) == "portable");
}

TEST_CASE("a chosen level is the one that runs, with a whole table") {
  for_each_isa([](const KernelTable& t) {
    CHECK(kernels().isa == t.isa);
    const std::string isa = t.isa;
    const bool wide = isa.rfind("avx512", 0) == 0 || isa == "amx";
    CHECK(t.lanes == (wide ? 16 : isa == "avx2" ? 8 : 4));
    for (int dtype = 0; dtype < kDtypes; ++dtype) {
      const ProductKernels& p = t.products[dtype];
      const bool all = p.linear && p.rnn_step && p.lstm_step && p.gru_step && p.gru_gates &&
                       p.gru_candidate && p.multiply_loop && (p.encode || dtype == 0);
      REQUIRE(all);
      CHECK(p.round_flops > 0);
      CHECK(std::isfinite(p.multiply_loop(10)));
      for (const auto chain : {p.rnn_chain, p.lstm_chain, p.gru_chain}) {
        const bool there = chain != nullptr;
        REQUIRE(there);
        for (const auto function : {ActivationFunction::tanh, ActivationFunction::relu}) {
          CellOptions options{};
          options.f = {ActivationFunction::sigmoid, 0, 0};
          options.g = options.h = {function, 0, 0};
          const float h = chain(options, 1000);
          CHECK(std::isnormal(h));
          CHECK(std::fabs(h) < 1);
        }
      }
      const bool attends = p.attention && p.pack_keys && p.pack_values;
      CHECK(attends == (dtype != static_cast<int>(Dtype::int8)));
      const bool reads = p.attention_chunk && p.decode;
      CHECK(reads);
    }
    const bool whole = t.attention_join && t.apply && t.read_loop;
    REQUIRE(whole);
    const bool of_rows =
        t.layer_norm && t.rms_norm && t.softmax && t.log_softmax && t.rotate && t.best;
    CHECK(of_rows);
    const bool backward = t.rnn_backward && t.lstm_backward && t.gru_backward &&
                          t.gru_backward_gates && t.gru_backward_reset && t.outer && t.sum_rows;
    CHECK(backward);
    const bool short_calls = t.unpacked && t.transpose;
    CHECK(short_calls);
    const bool of_images =
        t.planes && t.depthwise_row && t.max_pool_row && t.average_pool_row && t.blend_pixels;
    const bool of_numbers = t.unary && t.binary && t.scale_rows && t.column_sums && t.row_sum;
    CHECK(of_images);
    CHECK(of_numbers);
    const std::vector<float> zeros(2048);
    CHECK(t.read_loop(zeros.data(), 2048) == 0.0f);
  });
}

// tests/cpp/CMakeLists.txt runs this under emulation, with the name of a CPU and its levels.
TEST_CASE("levels: an emulated CPU has those of its features" * doctest::skip()) {
  const char* expected = std::getenv("TREADLE_EXPECTED_ISAS");
  REQUIRE(expected != nullptr);
  std::string found;
  for (const std::string& isa : available_isas()) found += (found.empty() ? "" : " ") + isa;
  CHECK(found == expected);
}

TEST_CASE("a level that is not there is refused, by name, and nothing changes") {
  const std::string before = kernels().isa;
  for (const char* name : {"", "AVX2", "avx2 ", "avx9000"}) {
    CHECK_THROWS_AS(set_isa(name), std::invalid_argument);
    CHECK(kernels().isa == before);
  }
  CHECK_THROWS_WITH(set_isa("no"), doctest::Contains("isa is 'no', expected"));
}

#if defined(__x86_64__) && !defined(__clang__)  // whose library need not be there

TEST_CASE("what CPUID and XGETBV tell is what GCC's library reads out of them") {
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  const bool bf16 =
      avx512 && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni");
  CHECK(x86::has_avx2() == avx2);
  CHECK(x86::has_avx512() == avx512);
  CHECK(x86::has_avx512_bf16() == bf16);
}

#endif

}  // namespace
}  // namespace treadle

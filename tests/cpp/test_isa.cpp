// runtime/isa: what can run, what is in its table, and how it is chosen.
#include <doctest/doctest.h>

#include <stdexcept>
#include <string>

#include "runtime/isa.h"
#include "values.h"

namespace weft {
namespace {

TEST_CASE("portable is there on every CPU, and first") {
  CHECK(available_isas().at(0) == "portable");
}

TEST_CASE("a chosen level is the one that runs, with a whole table") {
  for_each_isa([](const KernelTable& t) {
    CHECK(kernels().isa == t.isa);
    CHECK(t.lanes == (t.isa == std::string("avx512") ? 16 : t.isa == std::string("avx2") ? 8 : 4));
    const bool whole = t.linear && t.rnn_step && t.lstm_step && t.gru_step && t.gru_gates &&
                       t.gru_candidate && t.pack_keys && t.pack_values && t.attention &&
                       t.attention_chunk && t.attention_join && t.layer_norm && t.softmax &&
                       t.apply && t.fma_loop && t.read_loop;
    REQUIRE(whole);
    CHECK(t.fma_flops > 0);
    CHECK(std::isfinite(t.fma_loop(10)));
    const std::vector<float> zeros(2048);
    CHECK(t.read_loop(zeros.data(), 2048) == 0.0f);
  });
}

TEST_CASE("a level that is not there is refused, by name, and nothing changes") {
  const std::string before = kernels().isa;
  for (const char* name : {"", "AVX2", "avx2 ", "avx9000"}) {
    CHECK_THROWS_AS(set_isa(name), std::invalid_argument);
    CHECK(kernels().isa == before);
  }
  CHECK_THROWS_WITH(set_isa("no"), doctest::Contains("isa is 'no', expected"));
}

}  // namespace
}  // namespace weft

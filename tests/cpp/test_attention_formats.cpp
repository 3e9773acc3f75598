// Attention in bfloat16, and of keys and values that are stored in bfloat16 or int8: integers over
// 16 are the same numbers in every format, on arrays that end where the memory does.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>

#include "guarded.h"
#include "heads.h"

namespace treadle {
namespace {

constexpr float kUnit = 1.0f / 16;

// Integers -16 to 16 in place of what is there: values of at most one.
void make_exact(std::vector<float>& x) {
  for (float& n : x) n = std::nearbyint(16 * std::fmin(1.0f, std::fmax(-1.0f, n))) * kUnit;
}

std::vector<std::uint16_t> bfloat16(const std::vector<float>& x) {
  std::vector<std::uint16_t> halves(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    std::uint32_t bits;
    std::memcpy(&bits, &x[i], sizeof(bits));
    halves[i] = static_cast<std::uint16_t>(bits >> 16);
  }
  return halves;
}

std::vector<std::int8_t> int8(const std::vector<float>& x) {
  std::vector<std::int8_t> integers(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) integers[i] = static_cast<std::int8_t>(x[i] / kUnit);
  return integers;
}

template <class T>
HeadView<const std::uint8_t> bytes(const Guarded<T>& rows, std::int64_t heads, std::int64_t count,
                                   std::int64_t size) {
  return contiguous(reinterpret_cast<const std::uint8_t*>(rows.data()), heads, count,
                    size * static_cast<std::int64_t>(sizeof(T)));
}

void check(const HeadsShape& shape) {
  CAPTURE(shape.S);
  CAPTURE(shape.K);
  CAPTURE(shape.E);
  CAPTURE(shape.F);
  Heads heads(shape);
  make_exact(heads.q);
  make_exact(heads.k);
  make_exact(heads.v);
  Expected expected = heads.definition();
  // A weight is rounded to 8 bits before it is multiplied by values of at most one.
  for (double& bound : expected.bound) bound += 1.0 / 256;
  const Guarded<std::uint16_t> k16(bfloat16(heads.k)), v16(bfloat16(heads.v));
  const Guarded<std::int8_t> k8(int8(heads.k)), v8(int8(heads.v));
  const std::int64_t rows = shape.B * shape.kv_heads * shape.K;
  const Guarded<float> scale(std::vector<float>(static_cast<std::size_t>(rows), kUnit));
  const HeadView<const float> scales = contiguous(scale.data(), shape.kv_heads, shape.K, 1);
  const auto view = [&](const auto& array, std::int64_t size) {
    return bytes(array, shape.kv_heads, shape.K, size);
  };
  for_each_isa([&](const KernelTable& table) {
    GuardedHeads given(heads);
    AttentionCall call = given.call;
    if (shape.S > 4) call.dtype = Dtype::bfloat16;  // fewer are multiplied in float32
    const std::vector<float> plain = run(table, call);
    CHECK(largest_error({plain, {}}, heads, expected) <= 1);
    call.stored = {Dtype::bfloat16, view(k16, shape.E), view(v16, shape.F), {}, {}};
    CHECK(run(table, call) == plain);
    call.stored = {Dtype::int8, view(k8, shape.E), view(v8, shape.F), scales, scales};
    CHECK(run(table, call) == plain);
  });
}

TEST_CASE("stored keys and values give the bits of the same numbers in float32") {
  const std::int64_t sizes[][2] = {{1, 1}, {5, 7}, {16, 16}, {31, 33}, {64, 48}, {256, 255}};
  for (const auto& [E, F] : sizes) {
    for (const std::int64_t K : {1, 2, 33, 64, 255, 256, 257, 1025}) {
      for (const std::int64_t S : {1, 3, 5, 13}) {
        if (K > 300 && (E > 64 || S > 5)) continue;
        HeadsShape shape;
        shape.S = S;
        shape.K = K;
        shape.E = E;
        shape.F = F;
        check(shape);
      }
    }
  }
}

TEST_CASE("with every kind of mask, groups of heads and rows of different lengths") {
  for (const std::int64_t S : {3, 13}) {
    for (const Kind& kind : kKinds) {
      INFO(std::string(kind.name));
      HeadsShape shape;
      shape.B = 2;
      shape.N = 4;
      shape.kv_heads = 2;
      shape.S = S;
      shape.K = 70;
      kind.set(shape);
      shape.key_lengths = {69, 17};
      check(shape);
    }
  }
}

}  // namespace
}  // namespace treadle

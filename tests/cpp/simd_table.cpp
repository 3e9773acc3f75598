// Compiled once per ISA level by cmake/Isa.cmake, like cpp/kernels/fill.cpp.
#include "simd_table.h"

#include "simd/math.h"
#include "simd/simd.h"

#define TREADLE_STRING(x) TREADLE_STRING_(x)
#define TREADLE_STRING_(x) #x

namespace treadle::TREADLE_ISA {

void fill(SimdTable& t) {
  t.isa = TREADLE_STRING(TREADLE_ISA);
  t.lanes = kLanes;
#if defined(TREADLE_ISA_portable) && !defined(__aarch64__)
  t.fused = false;
#else
  t.fused = true;
#endif
  t.copy = [](const float* from, float* to) { store(to, load(from)); };
  t.broadcast = [](float x, float* out) { store(out, broadcast(x)); };
  t.fma = [](const float* a, const float* b, const float* c, float* out) {
    store(out, fma(load(a), load(b), load(c)));
  };
  t.min = [](const float* a, const float* b, float* out) { store(out, min(load(a), load(b))); };
  t.max = [](const float* a, const float* b, float* out) { store(out, max(load(a), load(b))); };
  t.abs = [](const float* a, float* out) { store(out, abs(load(a))); };
  t.copysign = [](const float* magnitude, const float* sign, float* out) {
    store(out, copysign(load(magnitude), load(sign)));
  };
  t.arithmetic = [](const float* pa, const float* pb, float* out) {
    const Vec a = load(pa), b = load(pb);
    store(out, a + b);
    store(out + kLanes, a - b);
    store(out + 2 * kLanes, a * b);
    store(out + 3 * kLanes, a / b);
    store(out + 4 * kLanes, a < b ? a : b);
  };
  t.through_ints = [](const float* a, float* out) { store(out, as_floats(as_ints(load(a)))); };
  t.load_partial = [](const float* from, int n, float* out) { store(out, load_partial(from, n)); };
  t.store_partial = [](const float* from, int n, float* to) { store_partial(to, load(from), n); };
  t.load_up_to = [](const float* from, std::int64_t n, float* out) {
    store(out, load_up_to(from, n));
  };
  t.store_up_to = [](const float* from, std::int64_t n, float* to) {
    store_up_to(to, load(from), n);
  };
  t.lane_numbers = [](std::uint32_t* out) {
    const Ints numbers = lane_numbers();
    std::memcpy(out, &numbers, sizeof numbers);
  };
  t.interleave = [](const float* a, const float* b, float* out) {
    store(out, AllLanes::interleave<0>(load(a), load(b)));
    store(out + kLanes, AllLanes::interleave<kLanes / 2>(load(a), load(b)));
  };
  t.sum_lanes = [](const float* a) { return sum_lanes(load(a)); };
  t.max_lanes = [](const float* a) { return max_lanes(load(a)); };
  t.transpose = [](const float* from, float* to) {
    Vec rows[kLanes];
    for (int i = 0; i < kLanes; ++i) rows[i] = load(from + i * kLanes);
    transpose(rows);
    for (int i = 0; i < kLanes; ++i) store(to + i * kLanes, rows[i]);
  };
  t.exp2_falling = [](const float* a, float* out) { store(out, exp2_falling(load(a))); };
}

}  // namespace treadle::TREADLE_ISA

// The operations of cpp/simd of one ISA level, reached from tests that are compiled for the
// baseline: what is compiled with wider registers must not run, or be linked, before the CPU was
// looked at.
#pragma once

#include <cstdint>

namespace treadle {

// Arrays have `lanes` floats where no length is given.
struct SimdTable {
  const char* isa;
  int lanes;
  bool fused;  // fma rounds once
  void (*copy)(const float* from, float* to);
  void (*broadcast)(float x, float* out);
  void (*fma)(const float* a, const float* b, const float* c, float* out);
  void (*min)(const float* a, const float* b, float* out);
  void (*max)(const float* a, const float* b, float* out);
  void (*abs)(const float* a, float* out);
  void (*copysign)(const float* magnitude, const float* sign, float* out);
  // The operators of the vector type: a + b, a - b, a * b, a / b, a < b ? a : b.
  void (*arithmetic)(const float* a, const float* b, float* out);  // five times `lanes` floats
  void (*through_ints)(const float* a, float* out);                // as_floats(as_ints(a))
  void (*load_partial)(const float* from, int n, float* out);
  void (*store_partial)(const float* from, int n, float* to);
  void (*load_up_to)(const float* from, std::int64_t n, float* out);
  void (*store_up_to)(const float* from, std::int64_t n, float* to);
  void (*lane_numbers)(std::uint32_t* out);
  // The lower halves, then the upper halves.
  void (*interleave)(const float* a, const float* b, float* out);  // twice `lanes` floats
  float (*sum_lanes)(const float* a);
  float (*max_lanes)(const float* a);
  void (*transpose)(const float* from, float* to);  // `lanes` times `lanes` floats
  void (*exp2_falling)(const float* a, float* out);
};

}  // namespace treadle

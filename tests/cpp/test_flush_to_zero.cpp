// runtime/flush_to_zero: denormals vanish while a guard lives; the caller's control word comes
// back.
#include <doctest/doctest.h>

#include <cfenv>
#include <limits>
#include <thread>

#include "runtime/flush_to_zero.h"

namespace treadle {
namespace {

// Through memory, so that the compiler cannot know the product.
float half(float x) {
  volatile float in = x, factor = 0.5f;
  volatile float out = in * factor;
  return out;
}

constexpr float kSmallest = std::numeric_limits<float>::min();

TEST_CASE("results and operands are flushed inside, and kept outside") {
  CHECK(half(kSmallest) == kSmallest / 2);
  const std::uint64_t before = control_word();
  {
    const FlushToZero guard;
    CHECK(half(kSmallest) == 0.0f);
    CHECK(half(std::numeric_limits<float>::denorm_min() * 8) == 0.0f);
    CHECK(half(2 * kSmallest) == kSmallest);
  }
  CHECK(control_word() == before);
  CHECK(half(kSmallest) == kSmallest / 2);
}

TEST_CASE("guards nest, and leave alone a caller who flushes already") {
  const std::uint64_t before = control_word();
  {
    const FlushToZero outer;
    {
      const FlushToZero inner;
      CHECK((control_word() & kFlushBits) == kFlushBits);
    }
    CHECK((control_word() & kFlushBits) == kFlushBits);
  }
  CHECK(control_word() == before);
}

TEST_CASE("the caller's rounding mode is kept") {
  REQUIRE(std::fesetround(FE_UPWARD) == 0);
  const std::uint64_t before = control_word();
  {
    const FlushToZero guard;
    CHECK(std::fegetround() == FE_UPWARD);
  }
  CHECK(control_word() == before);
  std::fesetround(FE_TONEAREST);
}

TEST_CASE("a guard is the calling thread's own") {
  const FlushToZero guard;
  std::uint64_t bits = ~std::uint64_t{0};
  float other = 0.0f;
  // A new thread inherits the control word on Linux, so it is reset there first.
  std::thread([&] {
    set_control_word(control_word() & ~kFlushBits);
    bits = control_word() & kFlushBits;
    other = half(kSmallest);
  }).join();
  CHECK(bits == 0);
  CHECK(other == kSmallest / 2);
  CHECK(half(kSmallest) == 0.0f);
}

}  // namespace
}  // namespace treadle

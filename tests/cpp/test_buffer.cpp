// runtime/buffer: aligned, zeroed, exact, moved but never copied.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <new>
#include <type_traits>
#include <utility>

#include "runtime/buffer.h"

namespace treadle {
namespace {

std::uintptr_t address(const Buffer& b) { return reinterpret_cast<std::uintptr_t>(b.data()); }

TEST_CASE("floats are zero and start on a cache line, large ones on a huge page") {
  for (const std::int64_t floats : {1, 15, 16, 17, 1000, (1 << 19) - 1, 1 << 19, (1 << 19) + 1}) {
    CAPTURE(floats);
    Buffer b(floats);
    CHECK(b.size() == floats);
    CHECK(address(b) % (floats >= 1 << 19 ? 1 << 21 : 64) == 0);
    CHECK(std::all_of(b.data(), b.data() + floats, [](float x) { return x == 0.0f; }));
    std::fill_n(b.data(), floats, 1.0f);
  }
}

TEST_CASE("no floats, no memory") {
  CHECK(Buffer().size() == 0);
  CHECK(Buffer().data() == nullptr);
  CHECK(Buffer(0).data() == nullptr);
}

TEST_CASE("memory that is not there is a bad_alloc") {
  CHECK_THROWS_AS(Buffer(std::int64_t{1} << 58), std::bad_alloc);
}

TEST_CASE("a move hands the floats over") {
  Buffer a(100);
  a.data()[99] = 5.0f;
  const float* floats = a.data();
  Buffer b(std::move(a));
  CHECK(b.data() == floats);
  Buffer c(3);
  c = std::move(b);
  CHECK(c.data() == floats);
  CHECK(c.size() == 100);
  CHECK(c.data()[99] == 5.0f);
  static_assert(!std::is_copy_constructible_v<Buffer> && !std::is_copy_assignable_v<Buffer>);
}

}  // namespace
}  // namespace treadle

// cpp/simd: every operation of every ISA level against the same operation on single floats.
#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <functional>
#include <string>

#include "guarded.h"
#include "runtime/flush_to_zero.h"
#include "runtime/isa.h"
#include "simd_table.h"
#include "values.h"

namespace treadle {

namespace portable {
void fill(SimdTable&);
}
#if defined(TREADLE_HAS_avx2)
namespace avx2 {
void fill(SimdTable&);
}
#endif
#if defined(TREADLE_HAS_avx512)
namespace avx512 {
void fill(SimdTable&);
}
#endif
#if defined(TREADLE_HAS_neon)
namespace neon {
void fill(SimdTable&);
}
#endif

namespace {

using Fill = void (*)(SimdTable&);
const std::pair<const char*, Fill> kLevels[] = {
    {"portable", portable::fill},
#if defined(TREADLE_HAS_avx2)
    {"avx2", avx2::fill},
#endif
#if defined(TREADLE_HAS_avx512)
    {"avx512", avx512::fill},
#endif
#if defined(TREADLE_HAS_neon)
    {"neon", neon::fill},
#endif
};

std::vector<SimdTable> tables() {
  const std::vector<std::string> available = available_isas();
  std::vector<SimdTable> found;
  for (const auto& [name, fill] : kLevels) {
    if (std::find(available.begin(), available.end(), name) == available.end()) {
      MESSAGE("skipped: ", name, ", which this CPU lacks");
      continue;
    }
    SimdTable table{};
    fill(table);
    REQUIRE(std::string(table.isa) == name);
    found.push_back(table);
  }
  return found;
}

// Calls test(table) with the level as the context of what fails.
void for_each_table(const std::function<void(const SimdTable&)>& test) {
  for (const SimdTable& table : tables()) {
    INFO(std::string(table.isa));
    test(table);
  }
}

// One operation of up to three operands: vector(a, b, c, out) against scalar(a, b, c), on every
// combination of special values, each of them in changing lanes and at changing alignments.
template <class Vector, class Scalar>
void compare(const SimdTable& t, int operands, Vector vector, Scalar scalar) {
  const std::vector<float> values = special_values();
  std::vector<std::array<float, 3>> cases;
  for (const float a : values) {
    for (const float b : values) {
      for (const float c : values) {
        cases.push_back({a, b, c});
        if (operands < 3) break;
      }
      if (operands < 2) break;
    }
  }
  const Guarded<float> unused(1);
  Guarded<float> a(t.lanes), b(t.lanes), c(t.lanes), out(t.lanes);
  for (std::size_t first = 0; first < cases.size(); first += t.lanes - 1) {
    const auto at = [&](int lane) { return cases[(first + lane) % cases.size()]; };
    for (int lane = 0; lane < t.lanes; ++lane) {
      a[lane] = at(lane)[0];
      b[lane] = at(lane)[1];
      c[lane] = at(lane)[2];
    }
    vector(a.data(), b.data(), c.data(), out.data());
    for (int lane = 0; lane < t.lanes; ++lane) {
      const float expected = scalar(a[lane], b[lane], c[lane]);
      if (same(out[lane], expected)) continue;
      CAPTURE(a[lane]);
      CAPTURE(b[lane]);
      CAPTURE(c[lane]);
      CAPTURE(lane);
      REQUIRE(out[lane] == expected);
      FAIL("the sign of a zero, or a NaN");
    }
  }
}

TEST_CASE("load, store, broadcast and the way through integers keep every bit") {
  for_each_table([](const SimdTable& t) {
    compare(
        t, 1, [&](auto a, auto, auto, float* out) { t.copy(a, out); },
        [](float a, float, float) { return a; });
    compare(
        t, 1, [&](auto a, auto, auto, float* out) { t.through_ints(a, out); },
        [](float a, float, float) { return a; });
    for (const float x : special_values()) {
      Guarded<float> out(t.lanes);
      t.broadcast(x, out.data());
      CHECK(std::all_of(out.begin(), out.end(), [&](float y) { return same(x, y); }));
    }
  });
}

TEST_CASE("fma rounds once where the level says so") {
  for_each_table([](const SimdTable& t) {
    compare(
        t, 3, [&](auto a, auto b, auto c, float* out) { t.fma(a, b, c, out); },
        [&](float a, float b, float c) { return t.fused ? std::fma(a, b, c) : a * b + c; });
  });
}

TEST_CASE("min and max take the second where either is NaN or both are zero") {
  for_each_table([](const SimdTable& t) {
    compare(
        t, 2, [&](auto a, auto b, auto, float* out) { t.min(a, b, out); },
        [](float a, float b, float) { return a < b ? a : b; });
    compare(
        t, 2, [&](auto a, auto b, auto, float* out) { t.max(a, b, out); },
        [](float a, float b, float) { return a > b ? a : b; });
  });
}

TEST_CASE("abs and copysign touch the sign only") {
  for_each_table([](const SimdTable& t) {
    compare(
        t, 1, [&](auto a, auto, auto, float* out) { t.abs(a, out); },
        [](float a, float, float) { return std::fabs(a); });
    compare(
        t, 2, [&](auto a, auto b, auto, float* out) { t.copysign(a, b, out); },
        [](float a, float b, float) { return std::copysign(a, b); });
  });
}

TEST_CASE("operators work lane by lane") {
  using Operator = float (*)(float, float, float);
  const Operator scalars[] = {
      [](float a, float b, float) { return a + b; }, [](float a, float b, float) { return a - b; },
      [](float a, float b, float) { return a * b; }, [](float a, float b, float) { return a / b; },
      [](float a, float b, float) { return a < b ? a : b; }};
  for_each_table([&](const SimdTable& t) {
    std::vector<float> all(5 * t.lanes);
    for (int i = 0; i < 5; ++i) {
      CAPTURE(i);
      compare(
          t, 2,
          [&](auto a, auto b, auto, float* out) {
            t.arithmetic(a, b, all.data());
            std::copy_n(all.data() + i * t.lanes, t.lanes, out);
          },
          scalars[i]);
    }
  });
}

// n floats that end, or begin, at a page that must not be touched, for every n and alignment.
template <class Test>
void for_each_length(int lanes, Test test) {
  const std::vector<float> values = special_values();
  for (const Edge edge : {Edge::end, Edge::begin}) {
    for (int n = 0; n <= lanes; ++n) {
      CAPTURE(n);
      Guarded<float> array(n, edge);
      for (int i = 0; i < n; ++i) array[i] = values[(7 * n + i) % values.size()];
      test(array, n);
    }
  }
}

TEST_CASE("a partial load reads n floats and fills up with zeros") {
  for_each_table([](const SimdTable& t) {
    for_each_length(t.lanes, [&](Guarded<float>& from, int n) {
      std::vector<float> expected(t.lanes, 0.0f), out(t.lanes, 9.0f), up_to(t.lanes, 9.0f);
      std::copy_n(from.data(), n, expected.begin());
      t.load_partial(from.data(), n, out.data());
      t.load_up_to(from.data(), n, up_to.data());
      CHECK(first_difference(out, expected, t.lanes) == -1);
      CHECK(first_difference(up_to, expected, t.lanes) == -1);
    });
  });
}

TEST_CASE("a partial store writes n floats") {
  for_each_table([](const SimdTable& t) {
    std::vector<float> from = special_values();
    from.resize(t.lanes, 3.0f);
    for_each_length(t.lanes, [&](Guarded<float>& to, int n) {
      t.store_partial(from.data(), n, to.data());
      CHECK(first_difference(to, from, n) == -1);
      std::fill(to.begin(), to.end(), 9.0f);
      t.store_up_to(from.data(), n, to.data());
      CHECK(first_difference(to, from, n) == -1);
      // Elements beyond the first n keep their values, even where the memory may be written.
      std::vector<float> wide(t.lanes + 1, 9.0f);
      t.store_partial(from.data(), n, wide.data());
      CHECK(first_difference(wide, from, n) == -1);
      CHECK(std::all_of(wide.begin() + n, wide.end(), [](float x) { return x == 9.0f; }));
    });
  });
}

TEST_CASE("load_up_to and store_up_to stop at a whole vector") {
  for_each_table([](const SimdTable& t) {
    Guarded<float> from(random_floats(t.lanes, 1)), to(t.lanes);
    for (const std::int64_t n : {std::int64_t{t.lanes}, std::int64_t{t.lanes} + 1, INT64_MAX}) {
      std::vector<float> out(t.lanes);
      t.load_up_to(from.data(), n, out.data());
      CHECK(first_difference(out, from, t.lanes) == -1);
      std::fill(to.begin(), to.end(), 0.0f);
      t.store_up_to(from.data(), n, to.data());
      CHECK(first_difference(to, from, t.lanes) == -1);
    }
  });
}

TEST_CASE("lanes are numbered, interleaved and transposed") {
  for_each_table([](const SimdTable& t) {
    const int lanes = t.lanes;
    std::vector<std::uint32_t> numbers(lanes);
    t.lane_numbers(numbers.data());
    for (int i = 0; i < lanes; ++i) CHECK(numbers[i] == static_cast<std::uint32_t>(i));
    std::vector<float> values = special_values();  // no bit may change, not even a NaN's
    values.resize(lanes * lanes, 3.0f);
    for (int i = 24; i < lanes * lanes; ++i) values[i] = static_cast<float>(i);
    std::vector<float> both(2 * lanes), columns(lanes * lanes);
    t.interleave(values.data(), values.data() + lanes, both.data());
    for (int i = 0; i < 2 * lanes; ++i) {
      CHECK(same(both[i], values[i % 2 * lanes + i / 2]));
    }
    t.transpose(values.data(), columns.data());
    for (int i = 0; i < lanes * lanes; ++i) {
      CHECK(same(columns[i], values[i % lanes * lanes + i / lanes]));
    }
  });
}

// All lanes to one, halves first.
float fold(std::vector<float> v, float (*f)(float, float)) {
  for (std::size_t half = v.size() / 2; half > 0; half /= 2) {
    for (std::size_t i = 0; i < half; ++i) v[i] = f(v[i], v[i + half]);
  }
  return v[0];
}

TEST_CASE("the sum and the maximum of all lanes") {
  for_each_table([](const SimdTable& t) {
    for (unsigned seed = 1; seed < 50; ++seed) {
      const std::vector<float> v = random_floats(t.lanes, seed);
      CHECK(t.sum_lanes(v.data()) == fold(v, [](float a, float b) { return a + b; }));
      CHECK(t.max_lanes(v.data()) == *std::max_element(v.begin(), v.end()));
    }
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    std::vector<float> v(t.lanes, -kInfinity);
    CHECK(t.max_lanes(v.data()) == -kInfinity);
    for (int i = 0; i < t.lanes; ++i) {
      v[i] = -7.0f;
      CHECK(t.max_lanes(v.data()) == -7.0f);
      v[i] = kInfinity;
      CHECK(t.max_lanes(v.data()) == kInfinity);
      v[i] = -kInfinity;
    }
  });
}

TEST_CASE("2^x of the softmax: some ULP down to the smallest normal number, then zero") {
  for_each_table([](const SimdTable& t) {
    const FlushToZero guard;
    std::vector<float> x(t.lanes), y(t.lanes);
    double worst = 0;
    const auto check = [&] {
      t.exp2_falling(x.data(), y.data());
      for (int i = 0; i < t.lanes; ++i) {
        const double exact = std::exp2(static_cast<double>(x[i]));
        if (exact < 0x1.00001p-126) {
          CHECK(y[i] <= 0x1.00001p-126f);
        } else {
          const double ulp = std::exp2(std::floor(std::log2(exact)) - 23);
          worst = std::max(worst, std::fabs(y[i] - exact) / ulp);
        }
      }
    };
    const std::vector<float> random = random_floats(32000, 4);
    for (std::size_t from = 0; from + t.lanes <= random.size(); from += t.lanes) {
      for (int i = 0; i < t.lanes; ++i) {
        const float unit = (random[from + i] + 1) / 2;  // [0, 1)
        // The whole range; numbers close to zero, also above it; and halves, where rounding turns.
        x[i] = i % 3 == 0   ? -128 * unit
               : i % 3 == 1 ? 0.01f * random[from + i]
                            : std::floor(-126 * unit) + 0.5f;
      }
      check();
    }
    CHECK(worst <= (t.fused ? 2 : 3));
    for (const auto& [from, to] : {std::pair{0.0f, 1.0f},
                                   {-0.0f, 1.0f},
                                   {-1.0f, 0.5f},
                                   {-126.0f, 0x1p-126f},
                                   {-127.0f, 0.0f},
                                   {-1e30f, 0.0f},
                                   {-std::numeric_limits<float>::infinity(), 0.0f}}) {
      std::fill(x.begin(), x.end(), from);
      t.exp2_falling(x.data(), y.data());
      for (const float v : y) CHECK(v == to);
    }
    for (int lane = 0; lane < t.lanes; ++lane) {
      std::fill(x.begin(), x.end(), 0.0f);
      x[lane] = std::numeric_limits<float>::quiet_NaN();
      t.exp2_falling(x.data(), y.data());
      for (int i = 0; i < t.lanes; ++i) CHECK((i == lane ? std::isnan(y[i]) : y[i] == 1.0f));
    }
  });
}

}  // namespace
}  // namespace treadle

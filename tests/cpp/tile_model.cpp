#include "tile_model.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "runtime/flush_to_zero.h"

namespace treadle::tile_model {
namespace {

constexpr int kTiles = 8, kRows = 16, kBytes = 64;

struct Tile {
  int rows, bytes;  // of a row; 0 if the tile is off
  unsigned char data[kRows][kBytes];
};

struct State {
  bool configured;
  Tile tiles[kTiles];
  std::int64_t multiplications;
};
thread_local State state;
Deviation deviation = Deviation::none;

void expect(bool right, const char* what) {
  if (right) return;
  std::fprintf(stderr, "tile_model: %s\n", what);
  std::abort();
}

Tile& tile(int number) {
  expect(state.configured, "a tile is used while none is configured");
  expect(number >= 0 && number < kTiles, "there are eight tiles");
  expect(state.tiles[number].rows > 0, "a tile is used that has no rows");
  return state.tiles[number];
}

template <class T>
T element(const Tile& t, int row, int i) {
  T value;
  std::memcpy(&value, t.data[row] + i * sizeof(T), sizeof(T));
  return value;
}
template <class T>
void set(Tile& t, int row, int i, T value) {
  std::memcpy(t.data[row] + i * sizeof(T), &value, sizeof(T));
}

float widened(std::uint16_t bfloat16) {
  const std::uint32_t bits = static_cast<std::uint32_t>(bfloat16) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// Returns the operands of a multiplication: C has m rows of n sums, A m rows of k words, B k rows
// of n words.
struct Operands {
  Tile &c, &a, &b;
  int m, n, k;
};
Operands operands(int c, int a, int b) {
  expect(c != a && c != b && a != b, "the tiles of a multiplication are not three");
  Operands o{tile(c), tile(a), tile(b), 0, 0, 0};
  o.m = o.c.rows;
  o.n = o.c.bytes / 4;
  o.k = o.a.bytes / 4;
  expect(o.a.rows == o.m, "A has other rows than C");
  expect(o.b.rows == o.k, "B has other rows than A has words");
  expect(o.b.bytes == o.c.bytes, "B has other columns than C");
  expect(o.c.bytes % 4 == 0 && o.a.bytes % 4 == 0, "a row ends within a word");
  ++state.multiplications;
  return o;
}

// noinline: the control word is that of everything in here.
__attribute__((noinline)) void add_row(const Operands& o, int m) {
  float sums[kBytes / 2] = {};  // two for each output
  for (int k = 0; k < o.k; ++k) {
    for (int n = 0; n < o.n; ++n) {
      for (int i = 0; i < 2; ++i) {
        const float x = widened(element<std::uint16_t>(o.a, m, 2 * k + i));
        const float w = widened(element<std::uint16_t>(o.b, k, 2 * n + i));
        float& sum = sums[2 * n + (deviation == Deviation::one_sum ? 0 : i)];
        sum = std::fma(x, w, sum);
      }
    }
  }
  for (int n = 0; n < o.n; ++n) {
    const float both = sums[2 * n] + sums[2 * n + 1];
    set(o.c, m, n, element<float>(o.c, m, n) + both);
  }
}

}  // namespace

void deviate(Deviation wanted) { deviation = wanted; }
bool configured() { return state.configured; }
std::int64_t multiplications() { return state.multiplications; }

void configure(const void* shapes) {
  const auto* bytes = static_cast<const unsigned char*>(shapes);
  expect(bytes[0] == 1, "the palette is not 1");
  for (int i = 1; i < 16; ++i) expect(bytes[i] == 0, "a reserved byte is set");
  for (int i = 0; i < 16; ++i) {
    std::uint16_t row_bytes;
    std::memcpy(&row_bytes, bytes + 16 + 2 * i, sizeof row_bytes);
    const int rows = bytes[48 + i];
    expect(i < kTiles || (rows == 0 && row_bytes == 0), "a tile beyond the eighth has a shape");
    expect(rows <= kRows && row_bytes <= kBytes, "a tile is too large");
    expect((rows == 0) == (row_bytes == 0), "a tile has rows without bytes");
    if (i < kTiles) state.tiles[i] = {rows, row_bytes, {}};
  }
  state.configured = true;
}

void release() {
  for (Tile& t : state.tiles) t = {};
  state.configured = false;
}

void zero(int number) { std::memset(tile(number).data, 0, sizeof(Tile::data)); }

void load(int number, const void* from, std::int64_t stride) {
  Tile& t = tile(number);
  std::memset(t.data, 0, sizeof t.data);
  for (int r = 0; r < t.rows; ++r) {
    std::memcpy(t.data[r], static_cast<const char*>(from) + r * stride, t.bytes);
  }
}

void store(int number, void* to, std::int64_t stride) {
  const Tile& t = tile(number);
  for (int r = 0; r < t.rows; ++r) {
    std::memcpy(static_cast<char*>(to) + r * stride, t.data[r], t.bytes);
  }
}

// "FP32 FMA with DAZ=FTZ=1, RNE rounding. MXCSR is neither consulted nor updated."
void multiply_pairs(int c, int a, int b) {
  const Operands o = operands(c, a, b);
  constexpr std::uint64_t kNearest = 0x1f80;  // and no exception is raised
  const ControlWord guard(deviation == Deviation::keeps_denormals ? kNearest
                                                                  : kNearest | kFlushBits);
  for (int m = 0; m < o.m; ++m) add_row(o, m);
}

void multiply_quads(int c, int a, int b) {
  const Operands o = operands(c, a, b);
  for (int m = 0; m < o.m; ++m) {
    for (int k = 0; k < o.k; ++k) {
      for (int n = 0; n < o.n; ++n) {
        std::uint32_t sum = element<std::uint32_t>(o.c, m, n);
        for (int i = 0; i < 4; ++i) {
          const auto x = element<std::uint8_t>(o.a, m, 4 * k + i);
          const int row = deviation == Deviation::signed_rows ? static_cast<std::int8_t>(x) : x;
          sum += static_cast<std::uint32_t>(row * element<std::int8_t>(o.b, k, 4 * n + i));
        }
        set(o.c, m, n, sum);
      }
    }
  }
}

}  // namespace treadle::tile_model

// Sums of a block along k of up to 16 rows and a panel, by tiles.
//
//     sums[r][v] += sum_k x[r, k] w[k][v]
//
// A panel of packed weights is the right operand of a tile's product as it lies: 16 steps of a
// vector, `V` vectors apart. The left one is 16 words of up to 16 rows. Four tiles hold sums, one
// for each vector of a panel. Fewer than 16 words at the end have tiles of their own shape, so that
// nothing is read beyond them.
#pragma once

#include "kernels/format.h"
#include "kernels/gemm.h"
#include "kernels/tile_instructions.h"

namespace treadle::TREADLE_ISA {
namespace {

constexpr std::int64_t kTileWords = kTileBytes / sizeof(Word);  // along k
static_assert(kTileWords == kLanes && words(Dtype::int8, kSumBlock) % kTileWords == 0);

// The tiles 0 to 3 hold sums; these hold rows and weights.
constexpr int kRowTile = 4, kWeightTile = 5, kRowTail = 6, kWeightTail = 7;

// Calls f(Number<0>()) to f(Number<N - 1>()).
template <int N, class F>
TREADLE_INLINE void for_each_number(F&& f) {
  if constexpr (N > 0) {
    for_each_number<N - 1>(f);
    f(Number<N - 1>());
  }
}

// Tells whether rows lie equally far apart, and how many bytes.
inline bool equally_spaced(const Word* const* x, int rows, std::int64_t& stride) {
  const auto address = [&](int r) { return reinterpret_cast<std::intptr_t>(x[r]); };
  stride = rows > 1 ? address(1) - address(0) : 0;
  for (int r = 2; r < rows; ++r) {
    if (address(r) - address(r - 1) != stride) return false;
  }
  return true;
}

// The sums of a block of up to 16 rows and a panel. The tiles are the thread's while it lives.
template <class Format, int V>
class TileBlock {
 public:
  TileBlock() = default;
  TileBlock(const TileBlock&) = delete;
  TileBlock& operator=(const TileBlock&) = delete;
  ~TileBlock() {
    if (rows_) release_tiles();
  }

  int rows() const { return rows_; }

  // Makes the tiles fit for so many rows and an operand whose last block ends with `tail` words
  // that do not fill a tile. It comes before `clear`.
  void fit(int rows, int tail) {
    if (rows == rows_ && (tail == 0 || tail == tail_)) return;
    rows_ = rows;
    tail_ = tail;
    TileShapes shapes;
    const auto shape = [&](int tile, int rows_of, int words_of) {
      shapes.rows[tile] = static_cast<std::uint8_t>(rows_of);
      shapes.row_bytes[tile] = static_cast<std::uint16_t>(words_of * sizeof(Word));
    };
    for (int v = 0; v < V; ++v) shape(v, rows, kLanes);
    shape(kRowTile, rows, kTileWords);
    shape(kWeightTile, kTileWords, kLanes);
    if (tail) {
      shape(kRowTail, rows, tail);
      shape(kWeightTail, tail, kLanes);
    }
    configure_tiles(shapes);
  }

  void clear() {
    for_each_number<V>([](auto v) { zero_tile<decltype(v)::value>(); });
  }

  // Adds x[r][offset + k] w[k] for the words k < count.
  __attribute__((noinline)) void add(const Word* const* x, std::int64_t offset, std::int64_t count,
                                     const Word* w) {
    std::int64_t spacing;
    const bool spaced = equally_spaced(x, rows_, spacing);
    for (std::int64_t begin = 0; begin < count; begin += kPiece) {
      const std::int64_t size = count - begin < kPiece ? count - begin : kPiece;
      const Word* from = x[0] + offset + begin;
      std::int64_t stride = spacing;
      if (!spaced) {
        for (int r = 0; r < rows_; ++r) {
          std::memcpy(gathered_ + r * kPiece, x[r] + offset + begin,
                      static_cast<std::size_t>(size) * sizeof(Word));
        }
        from = gathered_;
        stride = kPiece * sizeof(Word);
      }
      std::int64_t i = 0;
      for (; i + kTileWords <= size; i += kTileWords) {
        multiply<kRowTile, kWeightTile>(from + i, stride, w);
        w += kTileWords * V * kLanes;
      }
      if (i < size) multiply<kRowTail, kWeightTail>(from + i, stride, w);
    }
  }

  // Ends a block; `sum` returns its sums.
  void finish() {
    for_each_number<V>([&](auto v) {
      constexpr int kVector = decltype(v)::value;
      store_tile<kVector>(sums_[kVector], kTileBytes);
    });
  }
  typename Format::Sum sum(int row, int v) const {
    return reinterpret_cast<typename Format::Sum>(load(sums_[v] + row * kLanes));
  }

  // Multiplies a tile of rows by the weights of a panel. Hardware renames the one weight tile.
  template <int Rows, int Weights>
  TREADLE_INLINE void multiply(const Word* x, std::int64_t stride, const Word* w) {
    load_tile<Rows>(x, stride);
    for_each_number<V>([&](auto v) {
      constexpr int kVector = decltype(v)::value;
      load_tile<Weights>(w + kVector * kLanes, V * kLanes * sizeof(Word));
      if constexpr (Format::kDtype == Dtype::bfloat16) {
        multiply_pairs<kVector, Rows, Weights>();
      } else {
        multiply_quads<kVector, Rows, Weights>();
      }
    });
  }

 private:
  static constexpr std::int64_t kPiece = 2 * kTileWords;  // words gathered at once

  int rows_ = 0, tail_ = 0;
  alignas(kTileBytes) float sums_[V][kTileRows * kLanes];
  alignas(kTileBytes) Word gathered_[kTileRows * kPiece];
};

}  // namespace
}  // namespace treadle::TREADLE_ISA

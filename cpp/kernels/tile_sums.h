// Sums of a panel over all blocks along k and all taps, for up to kMostRows rows.
//
//     totals[r][v] += sum_t sum_k x[t, r, k] w[t, k][v]
//
// The sums of a block go through L1 to the totals, block by block, as in gemm.h. The weights of a
// block stay in L1, too, for all tiles of rows that are multiplied by it. int8 is exact, whoever
// adds. The sums of bfloat16 have the order of the tiles, 16 words by 16 words
// (tile_instructions.h). Like every product it is called with denormals flushed to zero.
#pragma once

#include "kernels/tiles.h"

namespace treadle::TREADLE_ISA {
namespace {

// Rows that are multiplied by a panel together. Their sums lie on the stack.
constexpr int kMostRows = 2 * kTileRows;

// The rows and weights that are multiplied, as LinearArgs describes them.
struct TileOperand {
  const Word* const* x;
  std::int64_t k;
  const Word* w;
  std::int64_t taps = 1, tap_stride = 0, tap_block = 1, x_offset = 0;
};

// The totals of a panel: those of the last vector may lie apart, as the state part of a GRU's
// candidate does.
struct Totals {
  float *first, *last;
  std::int64_t stride, last_stride;  // from one row to the next

  template <int V>
  TREADLE_INLINE float* at(int row, int v) const {
    return v == V - 1 ? last + row * last_stride : first + row * stride + v * kLanes;
  }
};

// Returns the totals of rows whose sums lie at [rows][V][lanes].
template <int V>
Totals totals_of(float* sums) {
  return {sums, sums + (V - 1) * kLanes, V * kLanes, V * kLanes};
}

// Adds an operand to the totals of `rows` rows of a panel. All tiles of rows have one shape: the
// last one begins early, and the rows that it shares with the tile before are added once.
template <class Format, int V>
TREADLE_INLINE void add_operand(TileBlock<Format, V>& block, int rows, const TileOperand& o,
                                const Totals& totals) {
  constexpr std::int64_t kBlockWords = words(Format::kDtype, kSumBlock);
  const std::int64_t all = words(Format::kDtype, o.k);
  const int tiles = (rows + kTileRows - 1) / kTileRows, tile_rows = (rows + tiles - 1) / tiles;
  block.fit(tile_rows, static_cast<int>(all % kTileWords));
  // The sums of so many taps go into one block, whose weights begin at `w`.
  const std::int64_t most = o.tap_block;
  const Word* w = o.w;
  for (std::int64_t tap = 0; tap < o.taps; tap += most) {
    const std::int64_t taps = o.taps - tap < most ? o.taps - tap : most;
    std::int64_t head = o.x_offset;  // of the block, in a row
    for (std::int64_t k = 0; k < all; k += kBlockWords) {
      const std::int64_t count = all - k < kBlockWords ? all - k : kBlockWords;
      const Word* const end = w + taps * count * V * kLanes;
      for (int tile = 0; tile < tiles; ++tile) {
        const int first = tile * tile_rows;  // the tile adds its rows from this one on
        const int begin = first + tile_rows < rows ? first : rows - tile_rows;
        const Word* const* x = o.x + tap * o.tap_stride + begin;
        block.clear();
        for (std::int64_t t = 0; t < taps; ++t) {
          block.add(x + t * o.tap_stride, head + Format::kHead, count, w + t * count * V * kLanes);
        }
        block.finish();
        for (int r = first - begin; r < tile_rows; ++r) {
          for (int v = 0; v < V; ++v) {
            float* const to = totals.at<V>(begin + r, v);
            Vec total = load(to);
            Format::add(total, block.sum(r, v), x[r] + head, end + v * kLanes, V * kLanes);
            store(to, total);
          }
        }
      }
      head += Format::kHead + count;
      w = end + Format::kTail * V * kLanes;
    }
  }
}

}  // namespace
}  // namespace treadle::TREADLE_ISA

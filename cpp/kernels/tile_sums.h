// Sums of a panel over all blocks along k and all taps: a tile's rows, or a few without tiles.
//
//     totals[r][v] += sum_t sum_k x[t, r, k] w[t, k][v]
//
// The sums of a block go through L1 to the totals, block by block, as in gemm.h. int8 is exact,
// whoever adds. The sums of bfloat16 have the order of the tiles, 16 words by 16 words
// (tile_instructions.h). `RowBlock` adds in that order, too, so that few rows, for which tiles
// would be mostly empty, have the bits that they have among many. Like every product it is called
// with denormals flushed to zero.
#pragma once

#include "kernels/tiles.h"

namespace treadle::TREADLE_ISA {
namespace {

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

// The sums of a block of R rows in bfloat16, on vectors, as those of TileBlock.
template <int R, int V>
class RowBlock {
 public:
  static constexpr int rows() { return R; }
  void fit(int, int) {}
  void clear() {
    for (auto& row : sums_) {
      for (Vec& sum : row) sum = Vec{};
    }
  }
  __attribute__((noinline)) void add(const Word* const* x, std::int64_t offset, std::int64_t count,
                                     const Word* w) {
    const Ints upper = Ints{} + 0xffff0000u;
    for (std::int64_t begin = 0; begin < count; begin += kTileWords) {
      const std::int64_t end = count - begin < kTileWords ? count : begin + kTileWords;
      Vec first[R][V] = {}, second[R][V] = {};
      for (std::int64_t k = begin; k < end; ++k, w += V * kLanes) {
        Vec x_first[R], x_second[R];
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) {
          const Ints pair = as_ints(broadcast(x[r][offset + k]));
          x_first[r] = as_floats(pair << 16);
          x_second[r] = as_floats(pair & upper);
        }
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
          const Ints pairs = as_ints(load(w + v * kLanes));
          const Vec w_first = as_floats(pairs << 16), w_second = as_floats(pairs & upper);
#pragma GCC unroll 4
          for (int r = 0; r < R; ++r) {
            first[r][v] = fma(x_first[r], w_first, first[r][v]);
            second[r][v] = fma(x_second[r], w_second, second[r][v]);
          }
        }
      }
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) sums_[r][v] = sums_[r][v] + (first[r][v] + second[r][v]);
      }
    }
  }
  void finish() {}
  Vec sum(int row, int v) const { return sums_[row][v]; }

 private:
  Vec sums_[R][V];
};

// Adds an operand to the totals of a panel, for the rows of `block`.
template <class Format, int V, class Block>
TREADLE_INLINE void add_operand(Block& block, int rows, const TileOperand& o,
                                const Totals& totals) {
  constexpr std::int64_t kBlockWords = words(Format::kDtype, kSumBlock);
  const std::int64_t all = words(Format::kDtype, o.k);
  const Word* w = o.w;
  std::int64_t summed = 0;  // taps in the sums of `block`
  block.fit(rows, static_cast<int>(all % kTileWords));
  for (std::int64_t tap = 0; tap < o.taps; ++tap) {
    const Word* const* x = o.x + tap * o.tap_stride;
    std::int64_t head = o.x_offset;  // of the block, in a row
    for (std::int64_t k = 0; k < all; k += kBlockWords) {
      const std::int64_t count = all - k < kBlockWords ? all - k : kBlockWords;
      if (summed == 0) block.clear();
      block.add(x, head + Format::kHead, count, w);
      w += count * V * kLanes;
      if (++summed < o.tap_block && tap + 1 < o.taps) continue;
      summed = 0;
      block.finish();
      for (int r = 0; r < block.rows(); ++r) {
        for (int v = 0; v < V; ++v) {
          float* const to = totals.at<V>(r, v);
          Vec total = load(to);
          Format::add(total, block.sum(r, v), x[r] + head, w + v * kLanes, V * kLanes);
          store(to, total);
        }
      }
      head += Format::kHead + count;
      w += Format::kTail * V * kLanes;
    }
  }
}

}  // namespace
}  // namespace treadle::TREADLE_ISA

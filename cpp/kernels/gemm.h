// This is the product that every layer is made of.
//
// A tile is R rows times P panels of V vectors, held in registers: acc[r][p * S + slot].
// `accumulate` adds one operand to it, k upwards, one fused multiply-add per element and step; a
// step of a cell calls it for the input and again for the state. `for_each_tile` walks the rows and
// panels and leaves the epilogue to the tile function of the cell.
//
// Register budget, avx512 (32): R = 6, V = 4 take 24 sums + 4 weights + 1 broadcast.
//                 neon (32): R = 6, V = 4 take 24 sums + 6 vectors of rows, four words each, which
//                 fma reads lane by lane + 1 weight.
//                 avx2, portable (16): R = 3 or 2 take 12 or 8 sums, and weights one at a time.
// A single row has only V sums, too few to hide the latency of fma (4 cycles, two or one a cycle)
// and of the cache: it takes two panels at once.
#pragma once

#include "kernels/format.h"
#include "kernels/row_pairs.h"
#include "kernels/table.h"
#include "simd/simd.h"

namespace treadle::TREADLE_ISA {
namespace {

#if defined(TREADLE_ISA_avx512)
constexpr int kMaxRows = 6;
#elif defined(TREADLE_ISA_avx2)
constexpr int kMaxRows = 3;
#elif defined(TREADLE_ISA_neon)
constexpr int kMaxRows = 6;
#else
constexpr int kMaxRows = 2;
#endif

// A single row takes so many panels at once.
constexpr int kMaxPanels = kFallback ? 1 : 2;
// In the steps of cells, up to so many rows do, too: the sums of one panel would wait for the
// weights, which arrive about as fast as they are multiplied. Other products gain less and are left
// small.
#if defined(TREADLE_ISA_avx512)
constexpr int kPairedRows = 3;
#else
constexpr int kPairedRows = 1;
#endif

// This type carries a number that a template takes from an argument.
template <int N>
struct Number {
  static constexpr int value = N;
};

constexpr int kLine = 16;  // words of a cache line

// Prefetches a row that will be used soon, or with Locality 2 later, into L2.
template <int Locality = 3>
TREADLE_INLINE void fetch(const float* row, std::int64_t size) {
  for (std::int64_t i = 0; i < size; i += kLine) __builtin_prefetch(row + i, 0, Locality);
}

// A prefetch policy of `multiply`: fetches the panel that the product needs next into L2, two lines
// in every step. With the step 0 it fetches nothing: a product with a policy of its own for that
// would be compiled twice.
struct NextPanelPrefetch {
  const Word* at;
  std::int64_t step;  // words

  TREADLE_INLINE void fetch() {
    if (step == 0) return;
    __builtin_prefetch(at, 0, 2);
    __builtin_prefetch(at + kLine, 0, 2);
    at += step;
  }
};
// A prefetch policy of `multiply`: fetches nothing.
struct NoPrefetch {
  TREADLE_INLINE void fetch() {}
};
// A prefetch policy of `multiply`: fetches what the epilogue reads and writes, up to Runs runs of
// `Floats` floats, into L2, a line in every step. Fetching all of it at once would fill the queues
// that the product's own loads need.
template <int Floats, int Runs>
struct EpiloguePrefetch {
  const float* runs[Runs];
  int count = 0, run = 0, offset = 0;

  TREADLE_INLINE void add(const float* first) { runs[count++] = first; }
  TREADLE_INLINE void fetch() {
    if (run == count) return;
    __builtin_prefetch(runs[run] + offset, 0, 2);
    offset += kLine;
    if (offset < Floats) return;
    offset = 0;
    ++run;
  }
};

// Does kLanes steps of `multiply`, from the step Lane on, of rows whose words are in registers.
template <int Lane, int R, int P, int V, class Format, class Next>
TREADLE_INLINE void multiply_lanes(typename Format::Sum (&sum)[R][P * V], const Vec (&x)[R],
                                   const Word* w, std::int64_t panel_stride, Next&& next,
                                   std::int64_t step) {
  next.fetch();
#pragma GCC unroll 2
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      const Vec weight = load(w + p * panel_stride + v * kLanes);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        sum[r][p * V + v] = Format::template step_lane<Lane>(sum[r][p * V + v], x[r], weight);
      }
    }
  }
  if constexpr (Lane + 1 < kLanes) {
    multiply_lanes<Lane + 1, R, P, V, Format>(sum, x, w + step, panel_stride, next, step);
  }
}

// sum[r][p * V + v] += x[r][k] * w[p][k][v] for the words k in [0, K), in registers; `step` words
// from one k to the next.
template <int R, int P, int V, class Format = Float32, class Next>
TREADLE_INLINE void multiply(typename Format::Sum (&sum)[R][P * V], const Word* const (&x)[R],
                             std::int64_t K, const Word* w, std::int64_t panel_stride, Next&& next,
                             std::int64_t step = V * kLanes) {
  if constexpr (Format::kMatrices && R > 1) {
    return multiply_pairs<R, P, V, Format>(sum, x, K, w, panel_stride, next, step);
  }
  std::int64_t k = 0;
  if constexpr (Format::kByLane) {
    for (; k + kLanes <= K; k += kLanes) {
      Vec lanes[R];
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) lanes[r] = load(x[r] + k);
      multiply_lanes<0, R, P, V, Format>(sum, lanes, w, panel_stride, next, step);
      w += kLanes * step;
    }
  }
  for (; k < K; ++k) {
    next.fetch();
#pragma GCC unroll 2
    for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        const Vec weight = load(w + p * panel_stride + v * kLanes);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
          sum[r][p * V + v] = Format::step(sum[r][p * V + v], x[r][k], weight);
        }
      }
    }
    w += step;
  }
}

// As `multiply`, where a panel has one or two vectors: its weights stay in registers, and what a
// row broadcasts does not.
template <int R, int P, int V, class Format = Float32, class Next>
TREADLE_INLINE void multiply_few(typename Format::Sum (&sum)[R][P * V], const Word* const (&x)[R],
                                 std::int64_t K, const Word* w, std::int64_t panel_stride,
                                 Next&& next) {
  if constexpr (Format::kMatrices && R > 1) {
    return multiply_pairs<R, P, V, Format>(sum, x, K, w, panel_stride, next, V * kLanes);
  }
  for (std::int64_t k = 0; k < K; ++k) {
    next.fetch();
    Vec weights[P * V];
#pragma GCC unroll 4
    for (int i = 0; i < P * V; ++i) weights[i] = load(w + i / V * panel_stride + i % V * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int i = 0; i < P * V; ++i) sum[r][i] = Format::step(sum[r][i], x[r][k], weights[i]);
    }
    w += V * kLanes;
  }
}

// acc[r][p * S + slot(v)] += x[r][k] * w[p][k][v] for all k < K. Slot v is v, but Last for the last
// vector: GRU keeps the candidate's input part (slot 2) and state part (slot 3) apart.
//
// No weights are fetched ahead where a panel serves one tile only, as in a step: on Zen 4 a
// software prefetch takes a fifth of the L3 bandwidth that the hardware's own prefetcher reaches
// (75 instead of 93 GB/s).
template <class Format, int R, int P, int V, int S, int Last, class Next = NoPrefetch>
TREADLE_INLINE void accumulate(Vec (&acc)[R][P * S], const Word* const* rows, std::int64_t K,
                               const Word* w, std::int64_t panel_stride, Next&& next = Next()) {
  constexpr std::int64_t kBlockWords = words(Format::kDtype, kSumBlock);
  const std::int64_t all = words(Format::kDtype, K);
  std::int64_t head = 0;  // of the block, in a row
  for (std::int64_t k = 0; k < all; k += kBlockWords) {
    const std::int64_t count = all - k < kBlockWords ? all - k : kBlockWords;
    const Word* x[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) x[r] = rows[r] + head + Format::kHead;
    // In two panels of a GRU in bfloat16, gcc 12 keeps sums of the block in memory, where every
    // multiply-add waits for them, unless the sums of the blocks before are there.
    if constexpr (R == 2 && P == 2 && V < S && Format::kDtype == Dtype::bfloat16) {
      asm volatile("" : "+m"(acc));
    }
    typename Format::Sum sum[R][P * V] = {};
    multiply<R, P, V, Format>(sum, x, count, w, panel_stride, next);
    w += count * V * kLanes;
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
      for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
          Format::add(acc[r][p * S + (v == V - 1 ? Last : v)], sum[r][p * V + v], rows[r] + head,
                      w + p * panel_stride + v * kLanes, V * kLanes);
        }
      }
    }
    head += Format::kHead + count;
    w += Format::kTail * V * kLanes;
  }
}

// Tells whether a product takes its panels from the last to the first; only steps may do so.
TREADLE_INLINE bool is_descending(const StepArgs& a) { return a.descending; }
template <class Args>
TREADLE_INLINE bool is_descending(const Args&) {
  return false;
}

// Calls tile<R, P>(args, first_row, first_panel) over all rows and the panels [begin, end). Rows
// are shared out evenly over the tiles, so that no tile is much smaller than the others; with Most,
// tiles of so many rows come first. A single row takes `Panels` panels at once, where there are
// two, and so do two or three with Paired 3.
template <class Tile, int Most = kMaxRows, int Panels = kMaxPanels, int Paired = 1, class Args>
TREADLE_INLINE void for_each_tile(Args& args, std::int64_t begin, std::int64_t end) {
  const bool descending = is_descending(args);
  if (args.rows == 1) {
    std::int64_t left = end - begin;
    if constexpr (Panels == 2) {
      for (; left >= 2; left -= 2) {
        Tile::template tile<1, 2>(args, 0, descending ? begin + left - 2 : end - left);
      }
    }
    for (; left > 0; --left) {
      Tile::template tile<1, 1>(args, 0, descending ? begin + left - 1 : end - left);
    }
    return;
  }
  std::int64_t left = end - begin;
  if constexpr (Panels == 2 && Paired == 3) {
    for (; args.rows == 2 && left >= 2; left -= 2) {
      Tile::template tile<2, 2>(args, 0, descending ? begin + left - 2 : end - left);
    }
    for (; args.rows == 3 && left >= 2; left -= 2) {
      Tile::template tile<3, 2>(args, 0, descending ? begin + left - 2 : end - left);
    }
  }
  for (; left > 0; --left) {
    const std::int64_t panel = descending ? begin + left - 1 : end - left;
    std::int64_t row = 0;
    if constexpr (Most > kMaxRows) {
      for (; args.rows - row >= Most; row += Most) Tile::template tile<Most, 1>(args, row, panel);
    }
    const std::int64_t tiles = (args.rows - row + kMaxRows - 1) / kMaxRows;
    for (std::int64_t i = 0; i < tiles; ++i) {
      const int count = static_cast<int>((args.rows - row) / (tiles - i));
      switch (count) {
        case 1:
          Tile::template tile<1, 1>(args, row, panel);
          break;
        case 2:
          Tile::template tile<2, 1>(args, row, panel);
          break;
#if !defined(TREADLE_ISA_portable)
        case 3:
          Tile::template tile<3, 1>(args, row, panel);
          break;
#endif
#if defined(TREADLE_ISA_avx512) || defined(TREADLE_ISA_neon)
        case 4:
          Tile::template tile<4, 1>(args, row, panel);
          break;
        case 5:
          Tile::template tile<5, 1>(args, row, panel);
          break;
        case 6:
          Tile::template tile<6, 1>(args, row, panel);
          break;
#endif
      }
      row += count;
    }
  }
}

// Runs the tiles of the panels [panel_begin, panel_end) of a product without gates: Tile<V> for the
// panels of `vectors` vectors and for the last panel, which may have fewer. Tiles of one or two
// vectors may have up to Most rows.
template <template <int> class Tile, int Most = kMaxRows, int Paired = 1, class Args>
void for_each_plain_tile(Args& a, std::int64_t columns, int vectors) {
  const auto run = [&](std::int64_t width, std::int64_t begin, std::int64_t end) {
    switch (width) {
      case 1:
        return for_each_tile<Tile<1>, Most>(a, begin, end);
      case 2:
        return for_each_tile<Tile<2>, Most>(a, begin, end);
      case 3:
        return for_each_tile<Tile<3>>(a, begin, end);
      case 4:
        return for_each_tile<Tile<4>, kMaxRows, kMaxPanels, Paired>(a, begin, end);
    }
  };
  const std::int64_t total = (columns + kLanes - 1) / kLanes, full = total / vectors;
  const std::int64_t end = a.panel_end < full ? a.panel_end : full;
  if (a.panel_begin < end) run(vectors, a.panel_begin, end);
  if (a.panel_end > full && a.panel_begin < a.panel_end) run(total % vectors, full, full + 1);
}

// The sums of a tile, one row after another.
template <int R, int N>
struct TileSums {
  float values[R * N * kLanes];

  TREADLE_INLINE explicit TileSums(const Vec (&acc)[R][N]) {
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
      for (int i = 0; i < N; ++i) store(values + (r * N + i) * kLanes, acc[r][i]);
    }
  }
};

}  // namespace
}  // namespace treadle::TREADLE_ISA

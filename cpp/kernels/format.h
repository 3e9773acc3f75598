// The formats of a product (layout: table.h): what a word means, and what a multiply-add of words
// is.
//
//     kBits                    how many bits a number has
//     Sum                      the type that the terms of a block are added to
//     step(sum, x, w)          adds to sum a word of a row, broadcast, times a vector of words
//     kByLane                  tells whether there is step_lane<L>(sum, x, w), which takes its word
//                              from lane L of a vector of a row's words
//     kMatrices                tells whether there is matrix(sum, x, w) (kernels/row_pairs.h)
//     kHead                    how many words come before those of a row's block
//     kTail                    how many steps come behind those of a panel's block
//     add(total, sum, x, w)    adds the block's sum to that of all; x is the head, w this vector of
//                              the tail, whose steps are `stride` apart
//     encode(x, n, out)        writes n floats of a block as its head and words, vector by
//                              vector; of the last one it takes what lies before n
//
// and, where rows that are not packed are multiplied by each other (attention: not int8),
//
//     read(x, n)               returns the words of up to n floats
//     below(v, ...)            returns words of as many rows as a word has numbers, row below row
//     store_words(p, v)        stores whole vectors of floats as words
#pragma once

#include "kernels/table.h"
#include "simd/dot.h"
#include "simd/simd.h"

namespace treadle::TREADLE_ISA {
namespace {

struct Float32 {
  static constexpr Dtype kDtype = Dtype::float32;
  static constexpr int kBits = 32;
  static constexpr std::int64_t kHead = 0, kTail = 0;
  using Sum = Vec;
  static constexpr bool kByLane = kFloatsByLane, kMatrices = false;
  static TREADLE_INLINE Vec step(Vec sum, Word x, Vec w) { return fma(broadcast(x), w, sum); }
  template <int Lane>
  static TREADLE_INLINE Vec step_lane(Vec sum, Vec x, Vec w) {
    return fma(broadcast(x[Lane]), w, sum);
  }
  static TREADLE_INLINE void add(Vec& total, Vec sum, const Word*, const Word*, std::int64_t) {
    total = total + sum;
  }
  static TREADLE_INLINE Vec read(const float* x, std::int64_t n) { return load_up_to(x, n); }
  static TREADLE_INLINE Vec below(Vec row) { return row; }
  static TREADLE_INLINE void store_words(Word* p, Vec v) { store(p, v); }
};

// Both factors are rounded to the nearest, to even in the middle; the sums are float32.
struct BFloat16 {
  static constexpr Dtype kDtype = Dtype::bfloat16;
  static constexpr int kBits = 16;
  static constexpr std::int64_t kHead = 0, kTail = 0;
  using Sum = Vec;
  static constexpr bool kByLane = false, kMatrices = false;
  static TREADLE_INLINE Vec step(Vec sum, Word x, Vec w) {
    return dot_pairs(sum, as_ints(broadcast(x)), as_ints(w));
  }
  static TREADLE_INLINE void add(Vec& total, Vec sum, const Word*, const Word*, std::int64_t) {
    total = total + sum;
  }
  static void encode(const float* x, std::int64_t n, Word* out) {
    std::int64_t i = 0;
    for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
      store(out + i / 2, pairs(load(x + i), load(x + i + kLanes)));
    }
    for (; i < n; i += kLanes) store_pairs(out + i / 2, load_up_to(x + i, n - i), n - i);
  }
  static TREADLE_INLINE Vec read(const float* x, std::int64_t n) {
    return pairs(load_up_to(x, n), n > kLanes ? load_up_to(x + kLanes, n - kLanes) : Vec{});
  }
  static TREADLE_INLINE Vec below(Vec row, Vec next) {
    return as_floats(halves(row) | halves(next) << 16);
  }
  static TREADLE_INLINE void store_words(Word* p, Vec v) { store_pairs(p, v, kLanes); }
};

struct Int8 {
  static constexpr Dtype kDtype = Dtype::int8;
  static constexpr int kBits = 8;
  static constexpr std::int64_t kHead = 2, kTail = 2;
  using Sum = Ints;
  static constexpr bool kByLane = kQuadsByLane, kMatrices = kQuadMatrices;
  static TREADLE_INLINE Ints step(Ints sum, Word x, Vec w) {
    return dot_quads(sum, as_ints(broadcast(x)), as_ints(w));
  }
#if defined(TREADLE_ISA_neon_dotprod)
  template <int Lane>
  static TREADLE_INLINE Ints step_lane(Ints sum, Vec x, Vec w) {
    return dot_quads_lane<Lane>(sum, as_ints(x), as_ints(w));
  }
#endif
#if defined(TREADLE_ISA_neon_i8mm)
  static TREADLE_INLINE Ints matrix(Ints sum, Vec x, Vec w) { return matrix_quads(sum, x, w); }
#endif
  // The sums are integers below 2^23 in magnitude (256 x 255 x 128), and so are the differences.
  static TREADLE_INLINE void add(Vec& total, Ints sum, const Word* x, const Word* w,
                                 std::int64_t stride) {
    const Vec found = __builtin_convertvector(reinterpret_cast<Signed>(sum), Vec);
    const Vec exact = fma(broadcast(-x[1]), load(w + stride), found);
    total = fma(exact, broadcast(x[0]) * load(w), total);  // no overflow before the weights' scale
  }
  // The range of the block, and of 0 with it, becomes 0 ... 255, stored kQuadOffset less, as is the
  // zero. Where it is not finite, all is NaN.
  static void encode(const float* x, std::int64_t n, Word* out) {
    Vec low{}, high{}, wrong{};
    for (std::int64_t i = 0; i < n; i += kLanes) {
      const Vec v = load_up_to(x + i, n - i);
      low = min(low, v);
      high = max(high, v);
      wrong = wrong + (v - v);  // NaN for NaN and infinity
    }
    const float least = -max_lanes(-low), most = max_lanes(high);
    // Each is divided on its own: the largest numbers have a finite scale, too. The smallest are 0.
    const float scale = most * (1.0f / 255) - least * (1.0f / 255) + sum_lanes(wrong);
    const float inverse = scale >= kTiny ? 1.0f / scale : 0.0f;
    const float zero = nearest(broadcast(-least * inverse))[0];
    out[0] = inverse == 0.0f ? scale - scale : scale;
    out[1] = (inverse == 0.0f ? 0.0f : zero) - kQuadOffset;
    for (std::int64_t i = 0; i < n; i += kLanes) {
      const Vec v = load_up_to(x + i, n - i) * broadcast(inverse);
      const Vec q = min(broadcast(255.0f), max(Vec{}, nearest(v) + broadcast(zero)));
      store_quads(out + 2 + i / 4, q - broadcast(kQuadOffset), n - i);
    }
  }
  // Below this scale, 1 / scale overflows.
  static constexpr float kTiny = 0x1p-126f;
};

template <class Format>
void encode(const EncodeArgs& a) {
  for (std::int64_t row = 0; row < a.rows; ++row) {
    const float* x = a.x[row];
    Word* out = a.out + row * a.stride;
    for (std::int64_t k = 0; k < a.size; k += kSumBlock) {
      const std::int64_t n = a.size - k < kSumBlock ? a.size - k : kSumBlock;
      Format::encode(x + k, n, out);
      out += row_words(Format::kDtype, n);
    }
  }
}

}  // namespace
}  // namespace treadle::TREADLE_ISA

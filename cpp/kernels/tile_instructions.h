// The instructions of AMX, as functions. A thread has eight tiles of up to 16 rows of 64 bytes.
//
//   configure_tiles(shapes)    gives every tile its shape and fills it with zeros (ldtilecfg)
//   release_tiles()            leaves the thread without tiles (tilerelease)
//   zero_tile<T>()             fills a tile with zeros
//   load_tile<T>(p, stride)    reads a tile's rows, which lie `stride` bytes apart
//   store_tile<T>(p, stride)   writes them
//   multiply_pairs<C, A, B>()  tdpbf16ps: adds A B to C, words of two bfloat16, sums of float32
//   multiply_quads<C, A, B>()  tdpbusd: likewise for four int8 a word (A's unsigned), sums of int32
//
// Row m of A has a word for each row k of B; row k of B has a word for each output n. With
// bfloat16, a tile's sum is made of two (Intel SDM, TDPBF16PS): for each output, the products of
// the first numbers of the words are added to one and those of the second numbers to the other, k
// upwards, by fused multiply-adds that begin at zero; then both are added, and the result is added
// to C. Denormals count as zero, and the rounding is to the nearest, whatever MXCSR says.
//
// The instructions are written in assembly since the intrinsics of GCC 12 do not tell the compiler
// that they read and write memory. The tests put functions in their place, which they include
// before anything else (tests/cpp/tile_model.h, TREADLE_TILE_MODEL).
#pragma once

#include <cstdint>

#include "simd/simd.h"

namespace treadle::TREADLE_ISA {
namespace {

constexpr int kTiles = 8, kTileRows = 16, kTileBytes = 64;  // a row has at most kTileBytes

// The operand of ldtilecfg (Intel SDM, volume 1, "Tile configuration"). Tiles without rows are off.
struct TileShapes {
  std::uint8_t palette = 1, first_row = 0, reserved[14] = {};
  std::uint16_t row_bytes[16] = {};
  std::uint8_t rows[16] = {};
};
static_assert(sizeof(TileShapes) == 64);

#if defined(TREADLE_TILE_MODEL)

inline void configure_tiles(const TileShapes& shapes) { tile_model::configure(&shapes); }
inline void release_tiles() { tile_model::release(); }
template <int T>
void zero_tile() {
  tile_model::zero(T);
}
template <int T>
void load_tile(const void* p, std::int64_t stride) {
  tile_model::load(T, p, stride);
}
template <int T>
void store_tile(void* p, std::int64_t stride) {
  tile_model::store(T, p, stride);
}
template <int C, int A, int B>
void multiply_pairs() {
  tile_model::multiply_pairs(C, A, B);
}
template <int C, int A, int B>
void multiply_quads() {
  tile_model::multiply_quads(C, A, B);
}

#else

TREADLE_INLINE void configure_tiles(const TileShapes& shapes) {
  __asm__ volatile("ldtilecfg %0" : : "m"(shapes));
}
TREADLE_INLINE void release_tiles() { __asm__ volatile("tilerelease"); }
template <int T>
TREADLE_INLINE void zero_tile() {
  __asm__ volatile("tilezero %%tmm%c0" : : "i"(T));
}
template <int T>
TREADLE_INLINE void load_tile(const void* p, std::int64_t stride) {
  __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(p), "r"(stride), "i"(T) : "memory");
}
template <int T>
TREADLE_INLINE void store_tile(void* p, std::int64_t stride) {
  __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(p), "r"(stride), "i"(T) : "memory");
}
template <int C, int A, int B>
TREADLE_INLINE void multiply_pairs() {
  __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(C), "i"(A), "i"(B));
}
template <int C, int A, int B>
TREADLE_INLINE void multiply_quads() {
  __asm__ volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(C), "i"(A), "i"(B));
}

#endif

}  // namespace
}  // namespace treadle::TREADLE_ISA

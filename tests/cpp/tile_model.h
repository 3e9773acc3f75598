// A model of the tile instructions of AMX, after the pseudo code of Intel's SDM, for machines that
// have none. The kernels of cpp/kernels/fill_tiles.cpp call it where they would execute the
// instructions. A program that a CPU would refuse, since the shapes of its tiles do not fit, ends.
#pragma once

#include <cstdint>

#define TREADLE_TILE_MODEL

namespace treadle::tile_model {

// How the model departs from the manual, so that a proof can fail.
enum class Deviation {
  none,
  one_sum,          // tdpbf16ps adds both numbers of a word to one sum
  keeps_denormals,  // tdpbf16ps neither reads nor writes denormals as zero
  signed_rows,      // tdpbusd takes the bytes of rows as signed
};
void deviate(Deviation deviation);

bool configured();               // tells whether the calling thread has tiles
std::int64_t multiplications();  // counts those of the calling thread

// The instructions; `shapes` is the operand of ldtilecfg, a stride is in bytes.
void configure(const void* shapes);
void release();
void zero(int tile);
void load(int tile, const void* from, std::int64_t stride);
void store(int tile, void* to, std::int64_t stride);
void multiply_pairs(int c, int a, int b);
void multiply_quads(int c, int a, int b);

}  // namespace treadle::tile_model

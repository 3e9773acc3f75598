// Layer norm, softmax and sums of embeddings work on whole rows, which the threads of a team share
// out. A row is computed by one thread, so the number of threads changes no bit. Matrices are
// turned by the same threads.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "engine/schedule/team.h"
#include "kernels/table.h"

namespace treadle {

// A kernel of rows: `layer_norm` or `softmax` of a KernelTable.
using RowKernel = void (*)(const RowArgs&);

// Applies the kernel to all rows, as a phase of a team. Returns false when the computation is to
// end.
bool run_rows(Team::Member& member, RowKernel kernel, const RowArgs& args);

// Applies the kernel to all rows in a call by itself, on the threads of the pool.
void run_rows(RowKernel kernel, const RowArgs& args, Interrupt& interrupt);

// Copies a matrix with its axes exchanged, in tiles that stay in the first cache. `kernel` is the
// `transpose` of a KernelTable.
void turn(void (*kernel)(const TransposeArgs&), const TransposeArgs& args, Interrupt& interrupt);

// An EmbeddingTable is a table [count, H] and, for each output, the number of the row that it
// takes.
struct EmbeddingTable {
  const float* data;
  std::int64_t count, stride;  // rows, and the floats from one row to the next
  const std::int64_t* ids;     // [M]
};

// A WrongId is an id for which its table has no row.
struct WrongId {
  std::size_t table;
  std::int64_t m, id;
};

// out[m] = sum_i tables[i].data[tables[i].ids[m]], rows of H floats, added in the order of the
// tables. Denormals are kept or flushed as the caller's thread does it.
//
// Returns the first id, in the order of m, for which there is no row; `out` is then incomplete.
// Each id is read once, so that it may change in another thread meanwhile.
std::optional<WrongId> sum_embeddings(const std::vector<EmbeddingTable>& tables, std::int64_t M,
                                      std::int64_t H, float* out, Interrupt& interrupt);

}  // namespace treadle

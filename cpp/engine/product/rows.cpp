#include "engine/product/rows.h"

#include <algorithm>

#include "runtime/flush_to_zero.h"

namespace treadle {
namespace {

// A task has about kTaskFloats floats, so that the threads share out rows of any length, and at
// most kTaskRows rows.
constexpr std::int64_t kTaskFloats = 6144, kTaskRows = 64;
// A float counts as so many multiply-adds. It takes longer in truth, but only long calls gain from
// a second thread: it waits for memory as the first one does.
constexpr double kFloatWork = 3;

// A tile has 32 KiB, and its rows four lines of the cache, which the machine fetches together.
constexpr std::int64_t kTileRows = 128, kTileColumns = 64;

// RowTasks cuts the rows [0, M) into tasks of equal size; the last may be smaller.
struct RowTasks {
  std::int64_t M, size;

  RowTasks(std::int64_t rows, std::int64_t floats)
      : M(rows), size(std::clamp<std::int64_t>(kTaskFloats / floats, 1, kTaskRows)) {}

  std::int64_t count() const { return (M + size - 1) / size; }
  std::int64_t begin(std::int64_t task) const { return task * size; }
  std::int64_t end(std::int64_t task) const { return std::min(M, (task + 1) * size); }
};

double row_work(std::int64_t rows, std::int64_t floats) {
  return static_cast<double>(rows) * static_cast<double>(floats) * kFloatWork;
}

// Writes the sum for the output m. Returns the first id for which its table has no row, if there is
// one; the sum is then incomplete.
std::optional<WrongId> add_embeddings(const std::vector<EmbeddingTable>& tables, std::int64_t m,
                                      std::int64_t H, float* out) {
  for (std::size_t i = 0; i < tables.size(); ++i) {
    const EmbeddingTable& table = tables[i];
    // The read is volatile: between the check and its use nobody must change the number.
    const std::int64_t id = *static_cast<const volatile std::int64_t*>(table.ids + m);
    if (id < 0 || id >= table.count) return WrongId{i, m, id};
    const float* row = table.data + id * table.stride;
    if (i == 0) {
      std::copy(row, row + H, out);
    } else {
      for (std::int64_t h = 0; h < H; ++h) out[h] += row[h];
    }
  }
  return std::nullopt;
}

}  // namespace

bool run_rows(Team::Member& member, RowKernel kernel, const RowArgs& args) {
  const RowTasks tasks(args.rows, args.size);
  return member.parallel_for(tasks.count(), row_work(tasks.size, args.size), [&](std::int64_t t) {
    const std::int64_t first = tasks.begin(t);
    RowArgs a = args;
    a.rows = tasks.end(t) - first;
    a.x += first * a.x_stride;
    a.out += first * a.out_stride;
    if (a.residual) a.residual += first * a.residual_stride;
    kernel(a);
  });
}

void run_rows(RowKernel kernel, const RowArgs& args, Interrupt& interrupt) {
  if (args.rows == 0 || args.size == 0) return;
  Team team(row_work(args.rows, args.size), interrupt);
  team.run([&](Team::Member& member) { run_rows(member, kernel, args); });
}

void turn(void (*kernel)(const TransposeArgs&), const TransposeArgs& args, Interrupt& interrupt) {
  if (args.rows == 0 || args.columns == 0) return;
  const std::int64_t tasks = (args.columns + kTileColumns - 1) / kTileColumns;
  Team team(row_work(args.rows, args.columns), interrupt);
  team.run([&](Team::Member& member) {
    return member.parallel_for(tasks, row_work(args.rows, kTileColumns), [&](std::int64_t task) {
      const std::int64_t c = task * kTileColumns;
      for (std::int64_t r = 0; r < args.rows; r += kTileRows) {
        TransposeArgs tile = args;
        tile.rows = std::min(kTileRows, args.rows - r);
        tile.columns = std::min(kTileColumns, args.columns - c);
        tile.from += r * args.from_stride + c;
        tile.to += c * args.to_stride + r;
        kernel(tile);
      }
    });
  });
}

std::optional<WrongId> sum_embeddings(const std::vector<EmbeddingTable>& tables, std::int64_t M,
                                      std::int64_t H, float* out, Interrupt& interrupt) {
  if (M == 0) return std::nullopt;
  // Rows without a single float still have ids to be checked.
  const std::int64_t floats =
      static_cast<std::int64_t>(tables.size()) * std::max<std::int64_t>(H, 1);
  const RowTasks tasks(M, floats);
  const std::uint64_t word = control_word();
  Team team(row_work(M, floats), interrupt);
  std::vector<std::optional<WrongId>> wrong(team.size());
  team.run([&](Team::Member& member) {
    std::optional<WrongId>& found = wrong[member.index()];
    member.parallel_for(tasks.count(), row_work(tasks.size, floats), [&](std::int64_t t) {
      // A thread's tasks come in the order of m, so the first id that it finds has its least m.
      if (found) return;
      const ControlWord guard(word);
      for (std::int64_t m = tasks.begin(t); m < tasks.end(t) && !found; ++m) {
        found = add_embeddings(tables, m, H, out + m * H);
      }
    });
  });
  std::optional<WrongId> first;
  for (const std::optional<WrongId>& w : wrong) {
    if (w && (!first || w->m < first->m)) first = w;
  }
  return first;
}

}  // namespace treadle

// Tasks of whole rows, which the calls of a stack share.
#pragma once

#include <algorithm>
#include <cstdint>

#include "engine/schedule/team.h"

namespace treadle {

// Calls task(first, count) for blocks of the rows [0, rows), each of `size` floats, as a phase of a
// team. Returns false when the computation is to end.
template <class Task>
bool rows_in_tasks(Team::Member& member, std::int64_t rows, std::int64_t size, const Task& task) {
  constexpr std::int64_t kRows = 8;
  constexpr double kFloatWork = 4;  // multiply-adds that a float counts as
  const double work = kFloatWork * static_cast<double>(kRows * size);
  return member.parallel_for((rows + kRows - 1) / kRows, work, [&](std::int64_t i) {
    task(i * kRows, std::min(kRows, rows - i * kRows));
  });
}

}  // namespace treadle

// Rows are shared out among threads in tasks that are neither too small to pay nor so large that
// Ctrl-C waits for them.
#pragma once

#include <algorithm>
#include <cstdint>

#include "engine/schedule/parallel_for.h"

namespace treadle {

// Calls f(begin, end) for ranges of rows that together are [0, rows); a row takes `work`
// multiply-adds.
template <class F>
void for_each_range(std::int64_t rows, double work, const ParallelFor& parallel_for, const F& f) {
  constexpr double kTaskWork = 1 << 19;
  const double most = std::min(kTaskWork / std::max(work, 1.0), 1e9);
  const std::int64_t size =
      std::clamp<std::int64_t>(static_cast<std::int64_t>(most), 1, std::max<std::int64_t>(rows, 1));
  const auto task = [&](std::int64_t i) { f(i * size, std::min(rows, (i + 1) * size)); };
  parallel_for((rows + size - 1) / size, work * static_cast<double>(size), task);
}

// Calls f(row) once for every row < rows.
template <class F>
void for_each_row(std::int64_t rows, double work, const ParallelFor& parallel_for, const F& f) {
  for_each_range(rows, work, parallel_for, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) f(row);
  });
}

}  // namespace treadle

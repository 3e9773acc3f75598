// Rows are shared out among threads in tasks that are neither too small to pay nor so large that
// Ctrl-C waits for them.
#pragma once

#include <algorithm>
#include <cstdint>

#include "engine/schedule/parallel_for.h"

namespace treadle {

// Calls f(row) once for every row < rows, in tasks of several rows; a row takes `work`
// multiply-adds.
template <class F>
void for_each_row(std::int64_t rows, double work, const ParallelFor& parallel_for, const F& f) {
  constexpr double kTaskWork = 1 << 19;
  const double most = std::min(kTaskWork / std::max(work, 1.0), 1e9);
  const std::int64_t size =
      std::clamp<std::int64_t>(static_cast<std::int64_t>(most), 1, std::max<std::int64_t>(rows, 1));
  const auto task = [&](std::int64_t i) {
    const std::int64_t end = std::min(rows, (i + 1) * size);
    for (std::int64_t row = i * size; row < end; ++row) f(row);
  };
  parallel_for((rows + size - 1) / size, work * static_cast<double>(size), task);
}

}  // namespace treadle

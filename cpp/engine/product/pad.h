// Padding of arrays of any type along any axes: with a constant, with the elements at the edge,
// mirrored at it, or going round.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/schedule/parallel_for.h"

namespace treadle {

enum class PadMode { constant, edge, reflect, wrap };

class Padding {
 public:
  // `before` and `after` say for each axis how many elements are added, or cut off where negative.
  // Throws std::invalid_argument for more cut off than there is, and where a mode other than
  // constant has no element to take, or reflect more to mirror than there is.
  Padding(PadMode mode, const std::vector<std::int64_t>& sizes,
          const std::vector<std::int64_t>& before, const std::vector<std::int64_t>& after);

  const std::vector<std::int64_t>& sizes() const { return out_sizes_; }  // of the result

  // Writes the result. An element has `bytes` bytes (1, 2, 4 or 8), as has *constant.
  void run(int bytes, const void* x, const void* constant, void* y,
           const ParallelFor& parallel_for) const;

 private:
  template <class T>
  void run_as(const T* x, T constant, T* y, const ParallelFor& parallel_for) const;

  template <class T>
  void copy_row(const T* x, T constant, T* y) const;

  PadMode mode_;
  std::vector<std::int64_t> in_sizes_, out_sizes_, before_;
};

}  // namespace treadle

// Indices of tensors, which are checked before anything is read or written with them.
#pragma once

#include "engine/graph/strides.h"

namespace treadle::graph {

// Returns scratch with the indices of input i, int32 or int64, counted from the front. Throws
// std::invalid_argument unless all are in [-size, size).
const std::int64_t* checked_indices(Call& call, int i, std::int64_t size);

// Returns scratch with where each tuple of the last axis of input i points in `shape`, in elements:
// a tuple of K indices points at the axes [first, first + K).
const std::int64_t* checked_tuples(Call& call, int i, const Shape& shape, int first);

// Returns the loop of GatherElements and ScatterElements over the indices; its second operand is
// the data, where the axis of the indices is left out. Throws std::invalid_argument.
StridedLoop<2> elements_loop(const Shape& data, const Shape& indices, std::int64_t axis);

}  // namespace treadle::graph

// A reduction looks at a tensor as [outer, n, inner], where n numbers become one.
#pragma once

#include <vector>

#include "engine/graph/ops/families.h"

namespace treadle::graph {

struct Reduced {
  std::int64_t outer = 1, n = 1, inner = 1;
  unsigned axes = 0;   // bit i: axis i is reduced
  bool moves = false;  // the axes do not lie like this: in_order() brings them to the end
  Shape shape;         // of the result
};

// Looks at the axes that are reduced, all of them if `all`. Throws std::invalid_argument for an
// axis that is not there or is named twice.
Reduced reduced_axes(const Shape& shape, const std::vector<std::int64_t>& axes, bool all,
                     bool keep);

// Returns the elements of x as [outer, n, inner], copied where they lie otherwise.
const char* in_order(Call& call, const Tensor& x, const Reduced& how);

}  // namespace treadle::graph

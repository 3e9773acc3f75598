// A product of a graph may end with an activation, which this header reads and applies.
#pragma once

#include <optional>

#include "engine/graph/operator.h"
#include "kernels/table.h"

namespace treadle::graph {

// Returns the attributes activation, alpha and beta of a node, or nothing where it has none.
// Throws std::invalid_argument for an unknown name.
std::optional<Activation> activation_of(const NodeDescription& node);

// Computes y[i] = f(x[i]) for i < n, on several threads where that pays; y may be x.
void apply(Call& call, const Activation& f, const float* x, float* y, std::int64_t n);

// Throws Interrupted when the caller no longer wants a result.
inline void stop_if_interrupted(Call& call) {
  if (call.interrupt().stopped()) throw Interrupted{};
}

}  // namespace treadle::graph

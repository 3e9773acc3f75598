// This header checks arrays of heads, [B, N, S, E], whose last axis alone must be contiguous.
#pragma once

#include "bindings/arrays.h"
#include "engine/attention/attention.h"

namespace treadle {

template <class T>
HeadView<T> head_view(const View<T>& v) {
  return {v.data, v.strides[0], v.strides[1], v.strides[2]};
}

// Returns `out`, or a new array [B, N, S, F] when that is None. The new array is a view of memory
// [B, S, N, F], so that merging the heads costs no copy.
py::object heads_output(const py::object& out, std::int64_t B, std::int64_t N, std::int64_t S,
                        std::int64_t F);

// Throws ValueError where rows [B, N, S] of F floats overlap or run backwards.
void check_rows_apart(const std::string& function, const char* name, const View<float>& out);

}  // namespace treadle

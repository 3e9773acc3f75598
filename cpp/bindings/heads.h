// Arrays of heads at the border: [B, N, S, E], any strides but on the last axis.
#pragma once

#include "bindings/arrays.h"
#include "engine/attention/attention.h"

namespace treadle {

template <class T>
HeadView<T> head_view(const View<T>& v) {
  return {v.data, v.strides[0], v.strides[1], v.strides[2]};
}

// `out`, or a new array [B, N, S, F] when that is None. Its heads lie side by side in memory, as
// [B, S, N, F] do, so that merging them costs no copy.
py::object heads_output(const py::object& out, std::int64_t B, std::int64_t N, std::int64_t S,
                        std::int64_t F);

// Throws ValueError where rows [B, N, S] of F floats overlap or run backwards.
void check_rows_apart(const std::string& function, const char* name, const View<float>& out);

}  // namespace treadle

#include "bindings/heads.h"

#include <algorithm>

namespace treadle {

py::object heads_output(const py::object& out, std::int64_t B, std::int64_t N, std::int64_t S,
                        std::int64_t F) {
  if (!out.is_none()) return out;
  constexpr py::ssize_t kSize = sizeof(float);
  return py::array_t<float>({B, N, S, F}, {S * N * F * kSize, F * kSize, N * F * kSize, kSize});
}

void check_rows_apart(const std::string& function, const char* name, const View<float>& out) {
  // If rows do not overlap, their strides nest: each is at least the extent of the axes inside it.
  std::int64_t axes[] = {0, 1, 2};
  std::sort(axes, axes + 3,
            [&](std::int64_t a, std::int64_t b) { return out.strides[a] < out.strides[b]; });
  std::int64_t extent = out.shape[3];
  for (const std::int64_t axis : axes) {
    if (out.shape[axis] <= 1) continue;
    if (out.strides[axis] < extent) {
      throw py::value_error(function + ": " + name +
                            " has rows that overlap or run backwards, expected rows apart");
    }
    extent = out.strides[axis] * (out.shape[axis] - 1) + extent;
  }
}

}  // namespace treadle

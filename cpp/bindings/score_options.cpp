#include "bindings/score_options.h"

#include "bindings/arrays.h"

namespace treadle {

ScoreOptions take_score_options(NamedValues& values) {
  ScoreOptions o;
  o.scale = values.take("scale", o.scale);
  o.window = values.take("window", o.window);
  o.softcap = values.take("softcap", o.softcap);
  o.alibi_slopes = values.take("alibi_slopes");
  return o;
}

void set_scores(AttentionCall& call, const std::string& function, const ScoreOptions& options) {
  constexpr std::int64_t kFar = std::int64_t{1} << 40;  // a sum of a few such sizes fits in 64 bits
  const auto [left, right] = options.window;
  if (left < -1 || right < -1 || left > kFar || right > kFar) {
    throw py::value_error(function + ": window is (" + std::to_string(left) + ", " +
                          std::to_string(right) + "), expected sizes >= 0, or -1 for no limit");
  }
  call.left = left;
  call.right = right;
  call.scale = options.scale;
  call.softcap = options.softcap;
  call.slopes =
      optional_array<float>(function, "alibi_slopes", options.alibi_slopes, {{"N", call.N}});
}

}  // namespace treadle

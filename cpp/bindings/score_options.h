// The options that shape the scores of attention: every kind of call has them.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>
#include <utility>

#include "bindings/named_values.h"
#include "engine/attention/attention.h"

namespace treadle {

// An option that is not named keeps the value that it has here.
struct ScoreOptions {
  float scale = 1;
  std::pair<std::int64_t, std::int64_t> window{-1, -1};  // keys to the left and right; -1: all
  float softcap = 0;                                     // 0: no cap
  py::object alibi_slopes = py::none();                  // float32 [N], or None
};

ScoreOptions take_score_options(NamedValues& values);

// Checks the options and writes them into a call whose number of heads is known. The call refers to
// the slopes, so that `options` must live as long.
void set_scores(AttentionCall& call, const std::string& function, const ScoreOptions& options);

}  // namespace treadle

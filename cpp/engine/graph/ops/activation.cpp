#include "engine/graph/ops/activation.h"

#include <algorithm>

#include "engine/product/activation_name.h"
#include "runtime/isa.h"

namespace treadle::graph {

std::optional<Activation> activation_of(const NodeDescription& node) {
  if (!node.has("activation")) return std::nullopt;
  const std::string name = node.text("activation", "");
  const auto function = activation_named(name);
  if (!function) refuse("activation is '" + name + "', which is unknown");
  return Activation{*function, static_cast<float>(node.number("alpha", 0)),
                    static_cast<float>(node.number("beta", 0))};
}

void apply(Call& call, const Activation& f, const float* x, float* y, std::int64_t n) {
  constexpr std::int64_t kTask = 4096;
  constexpr double kWork = 10;  // an element takes about as long as so many multiply-adds
  const KernelTable& table = kernels();
  call.parallel_for((n + kTask - 1) / kTask, kWork * kTask, [&](std::int64_t task) {
    const std::int64_t first = task * kTask;
    table.apply(f, x + first, y + first, std::min(kTask, n - first));
  });
}

}  // namespace treadle::graph

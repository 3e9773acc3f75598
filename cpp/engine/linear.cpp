#include "engine/linear.h"

#include <algorithm>
#include <vector>

#include "engine/packed.h"
#include "runtime/flush_to_zero.h"

namespace weft {

void linear_product(const KernelTable& table, std::int64_t M, std::int64_t N, std::int64_t K,
                    const float* x, std::int64_t x_m, const float* weight, const float* bias,
                    float* out, Interrupt& interrupt) {
  if (M == 0 || N == 0) return;
  const FlushToZero guard;
  const Packed packed = Packed::plain(N, {{weight, K}}, table.lanes);
  const Buffer packed_bias = bias ? packed.pack_vector(bias) : Buffer();
  constexpr std::int64_t kRows = 240;  // at once: they and a panel stay in L2
  std::vector<const float*> from(kRows);
  std::vector<float*> to(kRows);
  for (std::int64_t row = 0; row < M && !interrupt.stopped(); row += kRows) {
    LinearArgs a{};
    a.rows = std::min(kRows, M - row);
    for (std::int64_t r = 0; r < a.rows; ++r) {
      from[r] = x + (row + r) * x_m;
      to[r] = out + (row + r) * N;
    }
    a.x = from.data();
    a.out = to.data();
    a.columns = N;
    a.k = K;
    a.weights = packed.weights();
    a.panel_stride = packed.panel_stride();
    a.bias = packed_bias.data();
    a.vectors = packed.vectors();
    for (a.panel_begin = 0; a.panel_begin < packed.panels() && !interrupt.stopped();
         ++a.panel_begin) {
      a.panel_end = a.panel_begin + 1;
      table.linear(a);
      interrupt.progress(static_cast<double>(a.rows) * K * packed.vectors() * table.lanes);
    }
  }
}

}  // namespace weft

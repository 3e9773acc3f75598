#include "engine/product/linear.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace treadle {
namespace {

// A task has at most so many rows, which stay in L2 beside a panel. The tasks of one panel follow
// each other, so that the panel comes from memory once.
constexpr std::int64_t kTaskRows = 96;
// With at most so many rows, a task takes several panels, since one would be too little work.
constexpr std::int64_t kFewRows = 8, kFewPanels = 2;
constexpr std::int64_t kEncodedRows = 32;  // rows that a task encodes

}  // namespace

Linear::Linear(const KernelTable& table, std::int64_t N, std::int64_t K, const StoredMatrix& weight,
               const float* bias)
    : table_(&table), N_(N), K_(K), packed_(PackedWeights::plain(N, {{weight, K}}, table.lanes)) {
  if (bias) bias_ = packed_.pack_vector(bias);
}

Linear::Linear(const KernelTable& table, std::int64_t N, PackedWeights packed)
    : table_(&table), N_(N), K_(packed.depth()), packed_(std::move(packed)) {}

Linear Linear::unpacked(const KernelTable& table, std::int64_t N, std::vector<const float*> rows) {
  const auto K = static_cast<std::int64_t>(rows.size());
  Linear linear(table, N, PackedWeights::plain(N, {{StoredMatrix(), K}}, table.lanes));
  linear.rows_ = std::move(rows);
  return linear;
}

LinearArgs Linear::args() const {
  LinearArgs a{};
  a.columns = N_;
  a.k = K_;
  a.weights = packed_.weights();
  a.panel_stride = packed_.panel_stride();
  a.bias = bias_.data();
  a.vectors = packed_.vectors();
  a.unpacked = rows_.empty() ? nullptr : rows_.data();
  return a;
}

bool Linear::run(Team::Member& member, const ProductRows& rows, const Linear* next) const {
  const ProductKernels& kernels = table_->of(dtype());
  const Word* const* x = rows.x;
  if (dtype() != Dtype::float32) {
    const std::int64_t tasks = rows.is_encoded ? 0 : (rows.count + kEncodedRows - 1) / kEncodedRows;
    if (tasks &&
        !member.parallel_for(tasks, static_cast<double>(kEncodedRows) * K_, [&](std::int64_t task) {
          const std::int64_t first = task * kEncodedRows;
          const std::int64_t count = std::min(kEncodedRows, rows.count - first);
          rows.encoded->encode(kernels, dtype(), rows.x, first, count, K_);
        })) {
      return false;
    }
    x = rows.encoded->rows();
  }
  const std::int64_t blocks = (rows.count + kTaskRows - 1) / kTaskRows;
  const std::int64_t strip = kUnpackedStrip / (packed_.vectors() * table_->lanes);
  const std::int64_t step = !rows_.empty() ? strip : rows.count <= kFewRows ? kFewPanels : 1;
  const std::int64_t pieces = (packed_.panels() + step - 1) / step;
  const std::int64_t tasks = blocks * pieces;
  return member.parallel_for(tasks, tasks ? work(rows.count) / tasks : 0, [&](std::int64_t task) {
    const std::int64_t block = task % blocks, panel = task / blocks * step;
    const std::int64_t first = rows.count * block / blocks;
    LinearArgs a = args();
    a.rows = rows.count * (block + 1) / blocks - first;
    a.x = x + first;
    a.out = rows.out + first;
    a.f = rows.f;
    a.residual = rows.residual ? rows.residual + first : nullptr;
    a.factor = rows.factor ? rows.factor + first : nullptr;
    a.panel_begin = panel;
    a.panel_end = std::min(packed_.panels(), panel + step);
    if (block == blocks - 1 && rows_.empty()) {
      a.next = a.panel_end < packed_.panels() ? a.weights + a.panel_end * a.panel_stride
               : next                         ? next->packed_.weights()
                                              : nullptr;
    }
    kernels.linear(a);
  });
}

void product(const Linear& linear, std::int64_t M, const float* x, std::int64_t x_m,
             const Activation* f, const float* residual, float* out, Interrupt& interrupt) {
  const std::int64_t N = linear.outputs();
  if (M == 0 || N == 0) return;
  constexpr std::int64_t kRows = 4096;  // at most so many row pointers are listed at once
  std::vector<const float*> from(std::min(M, kRows)), add(residual ? from.size() : 0);
  std::vector<float*> to(from.size());
  EncodedRows encoded;
  encoded.reserve(linear.dtype(), std::min(M, kRows), linear.inputs());
  for (std::int64_t first = 0; first < M && !interrupt.stopped(); first += kRows) {
    const std::int64_t count = std::min(kRows, M - first);
    for (std::int64_t r = 0; r < count; ++r) {
      from[r] = x + (first + r) * x_m;
      to[r] = out + (first + r) * N;
      if (residual) add[r] = residual + (first + r) * N;
    }
    Team team(linear.work(count), interrupt);
    team.run([&](Team::Member& member) {
      linear.run(member,
                 {count, from.data(), to.data(), f, residual ? add.data() : nullptr, &encoded});
    });
  }
}

}  // namespace treadle

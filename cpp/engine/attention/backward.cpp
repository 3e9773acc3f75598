#include "engine/attention/backward.h"

#include <algorithm>

#include "engine/attention/rows.h"

namespace treadle {
namespace {

// A block has so many queries. With kBackwardKeys keys it needs two matrices of 96 KiB, beside the
// packed keys and values.
constexpr std::int64_t kBackwardRows = AttentionRows::kMost;
// A part of a head has at least so many queries.
constexpr std::int64_t kPartQueries = 2 * kBackwardRows;
// Heads are not cut if each thread has so many tasks, since a part computes the scores again.
constexpr std::int64_t kTasksPerThread = 4;

// The rows of one product with a block of keys; the product is added to `out` if `add`.
LinearArgs product(std::int64_t rows, const float* const* x, float* const* out, std::int64_t k,
                   std::int64_t columns, const float* weights, int lanes, bool add) {
  const std::int64_t width = kAttentionVectors * lanes;
  LinearArgs a{};
  a.rows = rows;
  a.x = x;
  a.out = out;
  a.columns = columns;
  a.k = k;
  a.weights = weights;
  a.panel_stride = k * width;
  a.residual = add ? out : nullptr;
  a.vectors = kAttentionVectors;
  a.panel_end = (columns + width - 1) / width;
  return a;
}

}  // namespace

double AttentionBackward::work(const AttentionBackwardCall& backward) {
  return 2.5 * Attention::work(backward.call);  // five products instead of two
}

AttentionBackward::AttentionBackward(const KernelTable& table,
                                     const AttentionBackwardCall& backward, int threads)
    : table_(table), backward_(backward) {
  const AttentionCall& c = backward_.call;
  const std::int64_t heads = c.B * c.kv_heads;
  const bool whole = threads == 1 || heads % threads == 0 || heads >= kTasksPerThread * threads;
  const std::int64_t wanted =
      whole ? 1 : (kTasksPerThread * threads + heads - 1) / std::max<std::int64_t>(1, heads);
  const auto cut = [&](std::int64_t size, std::int64_t least, auto&& add) {
    const std::int64_t blocks = (size + least - 1) / least, parts = std::min(wanted, blocks);
    for (std::int64_t i = 0; i < parts; ++i) {
      add(blocks * i / parts * least, std::min(size, blocks * (i + 1) / parts * least));
    }
  };
  for (std::int64_t b = 0; b < c.B; ++b) {
    const std::int64_t S = c.queries(b), K = c.keys(b);
    if (S == 0 || K == 0) continue;
    for (std::int64_t head = 0; head < c.kv_heads; ++head) {
      if (whole) {
        tasks_.push_back({b, head, 0, K, 0, S, true, true});
        continue;
      }
      cut(S, kPartQueries, [&](std::int64_t begin, std::int64_t end) {
        tasks_.push_back({b, head, 0, K, begin, end, true, false});
      });
      cut(K, kBackwardKeys, [&](std::int64_t begin, std::int64_t end) {
        tasks_.push_back({b, head, begin, end, 0, S, false, true});
      });
    }
  }
  if (!tasks_.empty()) task_work_ = work(backward_) / static_cast<double>(tasks_.size());
}

AttentionBackward::Scratch AttentionBackward::scratch() const {
  const AttentionCall& c = backward_.call;
  const std::int64_t width = kAttentionVectors * table_.lanes;
  const auto padded = [&](std::int64_t n) { return (n + width - 1) / width * width; };
  std::int64_t most = 0, queries = 0;
  for (const Task& t : tasks_) {
    most = std::max(most, t.key_end - t.key_begin);
    queries = std::max(queries, t.query_end - t.query_begin);
  }
  const std::int64_t keys = padded(std::min(most, kBackwardKeys));
  const std::int64_t group = c.kv_heads ? c.N / c.kv_heads : 0;
  return {Buffer::uninitialized(keys * c.E),           Buffer::uninitialized(keys * c.F),
          Buffer::uninitialized(keys * padded(c.E)),   Buffer::uninitialized(kBackwardRows * keys),
          Buffer::uninitialized(kBackwardRows * keys), Buffer::uninitialized(group * queries)};
}

bool AttentionBackward::run(Team::Member& member, Scratch& scratch) const {
  return member.parallel_for(static_cast<std::int64_t>(tasks_.size()), task_work_,
                             [&](std::int64_t i) { task(tasks_[i], member, scratch); });
}

void AttentionBackward::task(const Task& task, Team::Member& member, Scratch& scratch) const {
  const AttentionCall& c = backward_.call;
  const float* k = c.key_head(c.k, task.b, task.kv_head);
  const float* v = c.key_head(c.v, task.b, task.kv_head);
  const std::int64_t group = c.N / c.kv_heads;
  for (std::int64_t key = task.key_begin; key < task.key_end; key += kBackwardKeys) {
    const std::int64_t size = std::min(task.key_end - key, kBackwardKeys);
    const float* const keys = k + key * c.k.s;
    const bool finite = !task.of_queries || !hides() || table_.is_finite({keys, size, c.E, c.k.s});
    const Block block{task,
                      key,
                      size,
                      scratch,
                      keys,
                      c.key_head(backward_.dk, task.b, task.kv_head) + key * backward_.dk.s,
                      c.key_head(backward_.dv, task.b, task.kv_head) + key * backward_.dv.s,
                      finite};
    const auto pack = [&](auto kernel, const float* from, std::int64_t size, std::int64_t stride,
                          Buffer& to) {
      kernel({from + key * stride, block.size, size, stride, to.data(), 0, block.size});
    };
    pack(table_.of(Dtype::float32).pack_keys, k, c.E, c.k.s, scratch.keys);
    pack(table_.of(Dtype::float32).pack_keys, v, c.F, c.v.s, scratch.values);
    if (task.of_queries) pack(table_.of(Dtype::float32).pack_values, k, c.E, c.k.s, scratch.rows);
    for (std::int64_t n = task.kv_head * group; n < (task.kv_head + 1) * group; ++n) {
      for (std::int64_t i = task.query_begin; i < task.query_end; i += kBackwardRows) {
        const std::int64_t count = std::min(task.query_end - i, kBackwardRows);
        rows(block, n, i, count);
        const double products = static_cast<double>(count) * block.size;
        if (!member.progress(products * 2.5 * (c.E + c.F))) return;
      }
    }
  }
}

// Computes the gradients from `count` queries of head n, from i on, and a block of keys.
void AttentionBackward::rows(const Block& block, std::int64_t n, std::int64_t i,
                             std::int64_t count) const {
  const AttentionCall& c = backward_.call;
  const Task& task = block.task;
  AttentionRows rows(c, task.b);
  const float *out[kBackwardRows], *dout[kBackwardRows];
  float *dq[kBackwardRows], *scores[kBackwardRows], *d[kBackwardRows];
  const std::int64_t stride = block.scratch.scores.size() / kBackwardRows;
  for (std::int64_t r = 0; r < count; ++r) {
    rows.add(n, i + r);
    out[r] = c.query_head(backward_.out, task.b, n) + (i + r) * backward_.out.s;
    dout[r] = c.query_head(backward_.dout, task.b, n) + (i + r) * backward_.dout.s;
    dq[r] = c.query_head(backward_.dq, task.b, n) + (i + r) * backward_.dq.s;
    scores[r] = block.scratch.scores.data() + r * stride;
    d[r] = block.scratch.d.data() + r * stride;
  }
  const std::int64_t head = n % (c.N / c.kv_heads), queries = task.query_end - task.query_begin;
  float* dot = block.scratch.dots.data() + head * queries + i - task.query_begin;
  if (block.first == task.key_begin) table_.row_dots({count, c.F, out, dout, dot});
  // The products go from the block's first key to the last key that a row sees, in whole panels.
  const Span seen = rows.keys();
  if (seen.end <= block.first || seen.begin >= block.first + block.size) return;
  const std::int64_t panel = kAttentionVectors * table_.lanes;
  const std::int64_t keys =
      std::min(block.size, (seen.end - block.first + panel - 1) / panel * panel);

  table_.of(Dtype::float32)
      .linear(product(count, rows.q(), scores, c.E, keys, block.scratch.keys.data(), table_.lanes,
                      false));
  table_.of(Dtype::float32)
      .linear(product(count, dout, d, c.F, keys, block.scratch.values.data(), table_.lanes, false));
  AttentionArgs args = rows.args();
  args.first = block.first;
  args.last = block.first + keys;
  table_.attention_backward({args, rows.lse(), dot, scores, d});
  const Queries queries_of{n, i, count, keys, rows.q(), dout, dq, scores, d};
  if (task.of_keys) add_key_grads(block, queries_of);
  if (task.of_queries) add_query_grads(block, queries_of);
}

bool AttentionBackward::is_finite(const HeadView<const float>& view, std::int64_t b,
                                  const Queries& queries, std::int64_t size) const {
  const float* const first = backward_.call.query_head(view, b, queries.n) + queries.i * view.s;
  return table_.is_finite({first, queries.count, size, view.s});
}

void AttentionBackward::add_key_grads(const Block& block, const Queries& queries) const {
  const AttentionCall& c = backward_.call;
  const std::int64_t b = block.task.b;
  if (!hides() || (is_finite(c.q, b, queries, c.E) && is_finite(backward_.dout, b, queries, c.F))) {
    multiply_key_grads(block, queries, queries.q, queries.dout, 0, queries.keys);
  } else {
    add_seen_key_grads(block, queries);
  }
}

void AttentionBackward::add_query_grads(const Block& block, const Queries& queries) const {
  if (block.finite) {
    multiply_query_grads(block, queries, 0, queries.count);
  } else {
    add_seen_query_grads(block, queries);
  }
}

void AttentionBackward::multiply_key_grads(const Block& block, const Queries& queries,
                                           const float* const* q, const float* const* dout,
                                           std::int64_t begin, std::int64_t end) const {
  const AttentionCall& c = backward_.call;
  const std::int64_t rows = queries.count;
  table_.outer({rows, queries.w, 0, dout, block.dv, backward_.dv.s, begin, end, 0, c.F, false});
  table_.outer({rows, queries.ds, 0, q, block.dk, backward_.dk.s, begin, end, 0, c.E, false});
}

void AttentionBackward::multiply_query_grads(const Block& block, const Queries& queries,
                                             std::int64_t begin, std::int64_t end) const {
  LinearArgs a = product(end - begin, queries.ds + begin, queries.dq + begin, queries.keys,
                         backward_.call.E, block.scratch.rows.data(), table_.lanes, true);
  // The last keys of the block may be left out.
  a.panel_stride = block.size * kAttentionVectors * table_.lanes;
  table_.of(Dtype::float32).linear(a);
}

void attend_backward(const KernelTable& table, const AttentionBackwardCall& backward,
                     Interrupt& interrupt) {
  Team team(AttentionBackward::work(backward), interrupt);
  const AttentionBackward pass(table, backward, team.size());
  std::vector<AttentionBackward::Scratch> scratch;
  for (int i = 0; i < team.size(); ++i) scratch.push_back(pass.scratch());
  team.run([&](Team::Member& member) { pass.run(member, scratch[member.index()]); });
}

}  // namespace treadle

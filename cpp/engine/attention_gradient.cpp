#include "engine/attention_gradient.h"

#include <algorithm>

#include "engine/attention_rows.h"

namespace treadle {
namespace {

// Queries of a block: with kBackKeys keys two matrices of 96 KiB, beside the packed keys and values.
constexpr std::int64_t kBackRows = AttentionRows::kMost;
// Queries of a part, where a head is cut.
constexpr std::int64_t kPartQueries = 2 * kBackRows;
// Tasks for each thread from which on heads are not cut: a part computes the scores again.
constexpr std::int64_t kTasksPerThread = 4;

// The rows of one product with a block of keys; out is added to where `add` says so.
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

// The keys that are at work, and what they are worked with.
struct AttentionGradient::Block {
  const Task& task;
  std::int64_t first, size;
  Scratch& scratch;
  float *dk, *dv;  // the rows of the block
};

double AttentionGradient::work(const AttentionBackCall& back) {
  return 2.5 * Attention::work(back.call);  // five products instead of two
}

AttentionGradient::AttentionGradient(const KernelTable& table, const AttentionBackCall& back,
                                     int threads)
    : table_(table), back_(back) {
  const AttentionCall& c = back_.call;
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
      cut(K, kBackKeys, [&](std::int64_t begin, std::int64_t end) {
        tasks_.push_back({b, head, begin, end, 0, S, false, true});
      });
    }
  }
  if (!tasks_.empty()) task_work_ = work(back_) / static_cast<double>(tasks_.size());
}

AttentionGradient::Scratch AttentionGradient::scratch() const {
  const AttentionCall& c = back_.call;
  const std::int64_t width = kAttentionVectors * table_.lanes;
  const auto padded = [&](std::int64_t n) { return (n + width - 1) / width * width; };
  std::int64_t most = 0, queries = 0;
  for (const Task& t : tasks_) {
    most = std::max(most, t.key_end - t.key_begin);
    queries = std::max(queries, t.query_end - t.query_begin);
  }
  const std::int64_t keys = padded(std::min(most, kBackKeys));
  const std::int64_t group = c.kv_heads ? c.N / c.kv_heads : 0;
  return {Buffer::uninitialized(keys * c.E),         Buffer::uninitialized(keys * c.F),
          Buffer::uninitialized(keys * padded(c.E)), Buffer::uninitialized(kBackRows * keys),
          Buffer::uninitialized(kBackRows * keys),   Buffer::uninitialized(group * queries)};
}

bool AttentionGradient::run(Team::Member& member, Scratch& scratch) const {
  return member.share(static_cast<std::int64_t>(tasks_.size()), task_work_,
                      [&](std::int64_t i) { task(tasks_[i], member, scratch); });
}

void AttentionGradient::task(const Task& task, Team::Member& member, Scratch& scratch) const {
  const AttentionCall& c = back_.call;
  const float* k = c.head(c.k, task.b, task.kv_head);
  const float* v = c.head(c.v, task.b, task.kv_head);
  const std::int64_t group = c.N / c.kv_heads;
  for (std::int64_t key = task.key_begin; key < task.key_end; key += kBackKeys) {
    const Block block{task,
                      key,
                      std::min(task.key_end - key, kBackKeys),
                      scratch,
                      c.head(back_.dk, task.b, task.kv_head) + key * back_.dk.s,
                      c.head(back_.dv, task.b, task.kv_head) + key * back_.dv.s};
    const auto pack = [&](auto kernel, const float* from, std::int64_t size, std::int64_t stride,
                          Buffer& to) {
      kernel({from + key * stride, block.size, size, stride, to.data(), 0, block.size});
    };
    pack(table_.of(Dtype::float32).pack_keys, k, c.E, c.k.s, scratch.keys);
    pack(table_.of(Dtype::float32).pack_keys, v, c.F, c.v.s, scratch.values);
    if (task.of_queries) pack(table_.of(Dtype::float32).pack_values, k, c.E, c.k.s, scratch.rows);
    for (std::int64_t n = task.kv_head * group; n < (task.kv_head + 1) * group; ++n) {
      for (std::int64_t i = task.query_begin; i < task.query_end; i += kBackRows) {
        const std::int64_t count = std::min(task.query_end - i, kBackRows);
        rows(block, n, i, count);
        const double products = static_cast<double>(count) * block.size;
        if (!member.progress(products * 2.5 * (c.E + c.F))) return;
      }
    }
  }
}

// `count` queries of head n from i on, and the keys of a block.
void AttentionGradient::rows(const Block& block, std::int64_t n, std::int64_t i,
                             std::int64_t count) const {
  const AttentionCall& c = back_.call;
  const Task& task = block.task;
  AttentionRows rows(c, task.b);
  const float *out[kBackRows], *dout[kBackRows];
  float *dq[kBackRows], *scores[kBackRows], *d[kBackRows];
  const std::int64_t stride = block.scratch.scores.size() / kBackRows;
  for (std::int64_t r = 0; r < count; ++r) {
    rows.add(n, i + r);
    out[r] = c.head(back_.out, task.b, n) + (i + r) * back_.out.s;
    dout[r] = c.head(back_.dout, task.b, n) + (i + r) * back_.dout.s;
    dq[r] = c.head(back_.dq, task.b, n) + (i + r) * back_.dq.s;
    scores[r] = block.scratch.scores.data() + r * stride;
    d[r] = block.scratch.d.data() + r * stride;
  }
  const std::int64_t head = n % (c.N / c.kv_heads), queries = task.query_end - task.query_begin;
  float* dot = block.scratch.dots.data() + head * queries + i - task.query_begin;
  if (block.first == task.key_begin) table_.row_dots({count, c.F, out, dout, dot});
  // From the first key of the block to the last that a row sees, whole panels.
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
  table_.attention_back({args, rows.lse(), dot, scores, d});
  if (task.of_keys) {
    table_.outer({count, scores, 0, dout, block.dv, back_.dv.s, 0, keys, 0, c.F});
    table_.outer({count, d, 0, rows.q(), block.dk, back_.dk.s, 0, keys, 0, c.E});
  }
  if (task.of_queries) {
    LinearArgs a = product(count, d, dq, keys, c.E, block.scratch.rows.data(), table_.lanes, true);
    a.panel_stride = block.size * panel;  // the last keys of the block may be left out
    table_.of(Dtype::float32).linear(a);
  }
}

void attend_back(const KernelTable& table, const AttentionBackCall& back, Interrupt& interrupt) {
  Team team(AttentionGradient::work(back), interrupt);
  const AttentionGradient gradient(table, back, team.size());
  std::vector<AttentionGradient::Scratch> scratch;
  for (int i = 0; i < team.size(); ++i) scratch.push_back(gradient.scratch());
  team.run([&](Team::Member& member) { gradient.run(member, scratch[member.index()]); });
}

}  // namespace treadle

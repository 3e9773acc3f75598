#include "engine/attention/attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/attention/rows.h"

namespace treadle {
namespace {

// One call of the attention kernel handles at most so many rows (queries of a head).
constexpr std::int64_t kRows = kAttentionRows;
static_assert(kRows <= AttentionRows::kMost);
// Where the keys are many, a call handles only so many rows, which is one tile on every ISA level.
constexpr std::int64_t kTileRows = 6;
// One call does at most about so many multiply-adds: some milliseconds between two looks at the
// interrupt.
constexpr double kCallWork = 2.5e8;
// A sequence of at most so many queries is cut by its keys.
constexpr std::int64_t kFewQueries = 4;
// A part of a head has at least so many queries, since each part packs the head's keys again.
constexpr std::int64_t kPartQueries = 192;
// Each thread gets about so many tasks, so that none waits long for the others.
constexpr std::int64_t kTasksPerThread = 4;

}  // namespace

// float32 rows of whole vectors without gaps are already as the kernel wants them.
bool Attention::packs_values() const {
  return stored() || call_.dtype != Dtype::float32 || call_.v.s != call_.F ||
         call_.F % table_.lanes != 0;
}

double Attention::work(const AttentionCall& c) {
  double pairs = 0;
  for (std::int64_t b = 0; b < c.B; ++b) {
    pairs += static_cast<double>(c.queries(b)) * c.keys(b);
  }
  return pairs * c.N * (c.E + c.F);
}

void Attention::plan(const AttentionCall& call, int threads) {
  call_ = call;
  tasks_.clear();
  split_keys_.clear();
  many_ = false;
  few_rows_ = most_keys_ = most_partial_ = 0;
  task_work_ = 0;
  const std::int64_t heads = call.B * call.kv_heads;
  const std::int64_t group = call.kv_heads ? call.N / call.kv_heads : 0;
  const std::int64_t wanted =
      threads == 1 || heads == 0 ? 1 : (kTasksPerThread * threads + heads - 1) / heads;
  joins_ = wanted == 1;
  std::int64_t partial = 0;
  for (std::int64_t b = 0; b < call.B; ++b) {
    const std::int64_t S = call.queries(b), K = call.keys(b);
    if (S == 0) continue;
    for (std::int64_t head = 0; head < call.kv_heads; ++head) {
      // The kernel for few queries reads stored or float32 keys where they lie.
      const bool as_they_are = stored() || call.dtype == Dtype::float32;
      if (as_they_are && S <= kFewQueries && S * group <= kChunkQueries && !call.probabilities &&
          call.dropout.threshold == 0) {
        // Only chunks of keys that some query sees are listed, which changes no bit.
        const std::int64_t first = call.query_offset ? call.query_offset[b] : 0;
        const std::int64_t begin = seen_keys(call, K, first).begin / kChunkKeys;
        const std::int64_t end =
            std::max(begin, (seen_keys(call, K, first + S - 1).end + kChunkKeys - 1) / kChunkKeys);
        const std::int64_t size = S * group * (call.F + 2);  // of a chunk's results
        few_rows_ = std::max(few_rows_, S * group);
        if (joins_) {
          tasks_.push_back({b, head, begin * kChunkKeys, std::min(K, end * kChunkKeys), 0});
          most_partial_ = std::max(most_partial_, (end - begin) * size);
          continue;
        }
        split_keys_.push_back({b, head, end - begin, partial});
        for (std::int64_t i = begin; i < end; ++i) {
          tasks_.push_back({b, head, i * kChunkKeys, std::min(K, (i + 1) * kChunkKeys), partial});
          partial += size;
        }
      } else {
        many_ = true;
        most_keys_ = std::max(most_keys_, K);
        const std::int64_t parts = std::max<std::int64_t>(1, std::min(wanted, S / kPartQueries));
        // The parts end where a kernel call ends anyway, whatever the number of threads.
        const auto end = [&](std::int64_t i) {
          return i == parts ? S : S * i / parts / kRows * kRows;
        };
        for (std::int64_t i = 0; i < parts; ++i) {
          tasks_.push_back({b, head, end(i), end(i + 1), -1});
        }
      }
    }
  }
  if (partial_.size() < partial) partial_ = Buffer::uninitialized(partial);
  if (!tasks_.empty()) task_work_ = work(call) / static_cast<double>(tasks_.size());
}

void Attention::reserve(Scratch& scratch) const {
  const std::int64_t lanes = table_.lanes;
  const auto padded = [&](std::int64_t n) { return (n + lanes - 1) / lanes * lanes; };
  const auto grow = [](Buffer& buffer, std::int64_t floats) {
    if (buffer.size() < floats) buffer = Buffer::uninitialized(floats);
  };
  grow(scratch.keys, padded(most_keys_) * words(call_.dtype, call_.E));
  if (packs_values()) grow(scratch.values, words(call_.dtype, most_keys_) * padded(call_.F));
  if (many_) scratch.queries.reserve(call_.dtype, kRows, call_.E);
  grow(scratch.partial, most_partial_);
  grow(scratch.kernel, many_ ? kAttentionScratch : chunk_scratch(few_rows_));
  if (stored()) grow(scratch.decoded, most_keys_ * (call_.E + call_.F));
}

bool Attention::run(Team::Member& member, Scratch& scratch) {
  const auto size = [](const auto& list) { return static_cast<std::int64_t>(list.size()); };
  const bool done = member.parallel_for(size(tasks_), task_work_, [&](std::int64_t i) {
    if (tasks_[i].partial < 0) {
      many_queries(tasks_[i], member, scratch);
    } else {
      few_queries(tasks_[i], member, scratch);
    }
  });
  if (!done || split_keys_.empty()) return done;
  return member.parallel_for(size(split_keys_), 0, [&](std::int64_t i) {
    const SplitKeys& j = split_keys_[i];
    join(few_rows(j.b, j.kv_head), j.chunks, partial_.data() + j.partial);
  });
}

Attention::Rows Attention::rows(const HeadView<const float>& view,
                                const HeadView<const std::uint8_t>& stored,
                                const HeadView<const float>& scale, const Task& task) const {
  if (!this->stored()) return {call_.key_head(view, task.b, task.kv_head), view.s, nullptr};
  const bool int8 = call_.stored.dtype == Dtype::int8;
  return {call_.key_head(stored, task.b, task.kv_head), stored.s / (int8 ? 1 : 2),
          int8 ? call_.key_head(scale, task.b, task.kv_head) : nullptr};
}

void Attention::many_queries(const Task& task, Team::Member& member, Scratch& scratch) const {
  const std::int64_t K = call_.keys(task.b), group = call_.N / call_.kv_heads;
  const ProductKernels& kernels = table_.of(call_.dtype);
  const auto pack_args = [&](const Rows& rows, std::int64_t size, float* decoded, Word* to) {
    if (stored()) return PackArgs{decoded, K, size, size, to, 0, 0};
    return PackArgs{static_cast<const float*>(rows.data), K, size, rows.stride, to, 0, 0};
  };
  float* const decoded = scratch.decoded.data();
  PackArgs k = pack_args(keys(task), call_.E, decoded, scratch.keys.data());
  PackArgs v = pack_args(values(task), call_.F, decoded + (stored() ? K * call_.E : 0),
                         scratch.values.data());
  const auto decode = [&](const Rows& rows, const PackArgs& a, float* to) {
    const std::int64_t size = call_.stored.dtype == Dtype::int8 ? 1 : 2;
    table_.of(call_.stored.dtype)
        .decode({static_cast<const std::uint8_t*>(rows.data) + a.begin * rows.stride * size,
                 a.end - a.begin, a.size, rows.stride, rows.scale ? rows.scale + a.begin : nullptr,
                 to + a.begin * a.size});
  };
  while (k.end < K) {
    k.begin = v.begin = k.end;
    k.end = v.end = std::min(K, k.begin + kPackRows);
    if (stored()) {
      decode(keys(task), k, decoded);
      decode(values(task), v, decoded + K * call_.E);
    }
    kernels.pack_keys(k);
    if (packs_values()) kernels.pack_values(v);
    if (!member.progress(static_cast<double>(k.end - k.begin) * (call_.E + call_.F))) return;
  }
  // The 1 stands for the work of a row itself, so that rows without keys count, too.
  const double row_work = static_cast<double>(K + 1) * (call_.E + call_.F);
  const std::int64_t most = row_work * kRows <= kCallWork ? kRows : kTileRows;
  // A query's rows of all heads of the group follow one another, since they read the same keys and
  // values.
  const std::int64_t all = group * (task.end - task.begin), first = task.kv_head * group;
  std::int64_t n = first, i = task.begin;
  for (std::int64_t done = 0; done < all;) {
    AttentionRows rows(call_, task.b);
    const std::int64_t end = std::min(all, done + most);
    for (; done < end; ++done) {
      rows.add(n, i);
      if (++n == first + group) n = first, ++i;
    }
    AttentionArgs a = rows.args();
    if (call_.dtype != Dtype::float32) {
      scratch.queries.encode(kernels, call_.dtype, rows.q(), 0, a.rows, call_.E);
      a.q = scratch.queries.rows();
    }
    a.scratch = scratch.kernel.data();
    a.k = k.to;
    a.v = packs_values() ? v.to : v.from;
    a.v_stride = packs_values() ? 0 : v.stride;
    kernels.attention(a);
    // The team reports this work again after the task. Counting it twice only makes the interrupt
    // look at the clock more often.
    if (!member.progress(a.rows * row_work)) return;
  }
}

// Returns the rows of all queries of a group's heads.
AttentionRows Attention::few_rows(std::int64_t b, std::int64_t kv_head) const {
  const std::int64_t group = call_.N / call_.kv_heads, S = call_.queries(b);
  AttentionRows rows(call_, b);
  for (std::int64_t n = kv_head * group; n < (kv_head + 1) * group; ++n) {
    for (std::int64_t i = 0; i < S; ++i) rows.add(n, i);
  }
  return rows;
}

void Attention::few_queries(const Task& task, Team::Member& member, Scratch& scratch) {
  const AttentionRows rows = few_rows(task.b, task.kv_head);
  AttentionArgs a = rows.args();
  const Rows k = keys(task), v = values(task);
  a.scratch = scratch.kernel.data();
  a.stored_k = k.data;
  a.stored_v = v.data;
  a.k_stride = k.stride;
  a.v_stride = v.stride;
  a.k_scale = k.scale;
  a.v_scale = v.scale;
  float* const partial = joins_ ? scratch.partial.data() : partial_.data() + task.partial;
  std::int64_t chunks = 0;
  for (std::int64_t key = task.begin; key < task.end; key += kChunkKeys, ++chunks) {
    a.first = key;
    a.last = std::min(task.end, key + kChunkKeys);
    a.partial = partial + chunks * a.rows * (call_.F + 2);
    table_.of(call_.stored.dtype).attention_chunk(a);
    if (!member.progress(static_cast<double>(a.rows * kChunkKeys) * (call_.E + call_.F))) return;
  }
  if (joins_) join(rows, chunks, partial);
}

void Attention::join(const AttentionRows& rows, std::int64_t chunks, const float* partial) const {
  table_.attention_join({rows.size(), chunks, call_.F, partial, rows.out(), rows.lse()});
}

void attend(const KernelTable& table, const AttentionCall& call, Interrupt& interrupt) {
  Team team(Attention::work(call), interrupt);
  Attention attention(table, call, team.size());
  std::vector<Attention::Scratch> scratch(team.size());
  for (Attention::Scratch& s : scratch) attention.reserve(s);
  team.run([&](Team::Member& member) { attention.run(member, scratch[member.index()]); });
  // Queries beyond a sequence's length give zeros.
  for (std::int64_t b = 0; call.query_lengths && b < call.B; ++b) {
    for (std::int64_t n = 0; n < call.N; ++n) {
      for (std::int64_t i = call.query_lengths[b]; i < call.S; ++i) {
        if (interrupt.stopped()) return;
        float* row = call.out.data + b * call.out.b + n * call.out.n + i * call.out.s;
        std::memset(row, 0, static_cast<std::size_t>(call.F) * sizeof(float));
        if (call.lse) call.lse[(b * call.N + n) * call.S + i] = -INFINITY;
        interrupt.progress(static_cast<double>(call.F) * 16);
      }
    }
  }
}

}  // namespace treadle

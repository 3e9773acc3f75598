#include "engine/transformer/encoder.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace treadle {
namespace {

// Tokens that go through a layer together: a group is full when it has so many. Its activations
// stay in L2, and the weights of a layer, read once for each group, in L3.
constexpr std::int64_t kGroupTokens = 128;
// Of a longer sequence, so many go through the feed-forward products together.
constexpr std::int64_t kForwardTokens = 192;
constexpr std::int64_t kNormRows = 16;  // of a task

}  // namespace

// Of one group at a time, but for `x`.
struct Encoder::Buffers {
  Buffer projected;         // [tokens, 3 * H]: q, k, v
  Buffer attended, summed;  // [tokens, H]
  Buffer forward;           // [tokens, F]
  std::vector<float*> projected_rows, attended_rows, summed_rows, forward_rows;
  std::vector<float*> x;  // the rows of all groups
  std::vector<Attention::Scratch> scratch;
  EncodedRows encoded;  // what a product reads, where weights are not float32

  static void list(std::vector<float*>& rows, float* data, std::int64_t count, std::int64_t size) {
    rows.resize(count);
    for (std::int64_t i = 0; i < count; ++i) rows[i] = data + i * size;
  }
  void reserve(std::int64_t tokens, std::int64_t H, std::int64_t F, Dtype dtype) {
    const auto grow = [](Buffer& buffer, std::vector<float*>& rows, std::int64_t count,
                         std::int64_t size) {
      if (buffer.size() < count * size) buffer = Buffer::uninitialized(count * size);
      list(rows, buffer.data(), count, size);
    };
    grow(projected, projected_rows, tokens, 3 * H);
    grow(attended, attended_rows, tokens, H);
    grow(summed, summed_rows, tokens, H);
    grow(forward, forward_rows, std::min(tokens, kForwardTokens), F);
    encoded.reserve(dtype, tokens, H);
    encoded.reserve(dtype, std::min(tokens, kForwardTokens), F);
  }
  std::int64_t bytes() const {
    std::int64_t floats = projected.size() + attended.size() + summed.size() + forward.size();
    floats += encoded.floats();
    for (const auto& s : scratch) {
      floats += s.keys.size() + s.values.size() + s.partial.size() + s.queries.floats();
    }
    return floats * static_cast<std::int64_t>(sizeof(float));
  }
};

// Some sequences; their hidden states lie in the call's output.
struct Encoder::Group {
  std::int64_t tokens;
  float* const* x;  // [tokens] rows of H
  Attention attention;
};

Encoder::Encoder(const KernelTable& table, const EncoderShape& shape, Dtype dtype)
    : table_(&table), shape_(shape), dtype_(dtype) {}

Encoder::~Encoder() { delete spare_.load(); }

Encoder::Norm Encoder::make_norm(const float* weight, const float* bias) const {
  const auto copy = [&](const float* from) {
    if (!from) return Buffer();
    Buffer buffer = Buffer::uninitialized(shape_.hidden);
    std::memcpy(buffer.data(), from, static_cast<std::size_t>(shape_.hidden) * sizeof(float));
    return buffer;
  };
  return {copy(weight), copy(bias)};
}

void Encoder::add_layer(const EncoderWeights& w) {
  const std::int64_t H = shape_.hidden, F = shape_.feed_forward;
  layers_.push_back({Linear(*table_, 3 * H, H, w.in_weight, w.in_bias),
                     Linear(*table_, H, H, w.out_weight, w.out_bias),
                     Linear(*table_, F, H, w.linear1_weight, w.linear1_bias),
                     Linear(*table_, H, F, w.linear2_weight, w.linear2_bias),
                     make_norm(w.norm1_weight, w.norm1_bias),
                     make_norm(w.norm2_weight, w.norm2_bias)});
}

std::int64_t Encoder::weight_bytes() const {
  std::int64_t bytes = 0;
  for (const Layer& l : layers_) {
    bytes += l.in.weight_bytes() + l.out.weight_bytes() + l.linear1.weight_bytes() +
             l.linear2.weight_bytes();
  }
  return bytes;
}

bool Encoder::norm(Team::Member& member, const Norm& norm, std::int64_t rows, const float* from,
                   float* to) const {
  const std::int64_t H = shape_.hidden, tasks = (rows + kNormRows - 1) / kNormRows;
  return member.parallel_for(tasks, static_cast<double>(kNormRows) * H, [&](std::int64_t task) {
    RowArgs a{};
    const std::int64_t first = task * kNormRows;
    a.rows = std::min(kNormRows, rows - first);
    a.size = a.x_stride = a.out_stride = H;
    a.x = from + first * H;
    a.out = to + first * H;
    a.weight = norm.weight.data();
    a.bias = norm.bias.data();
    a.eps = shape_.eps;
    table_->layer_norm(a);
  });
}

bool Encoder::copy(Team::Member& member, const Group& group, const EncoderCall& call) const {
  const std::int64_t H = shape_.hidden, tasks = (group.tokens + kNormRows - 1) / kNormRows;
  return member.parallel_for(tasks, static_cast<double>(kNormRows) * H, [&](std::int64_t task) {
    const std::int64_t first = task * kNormRows;
    const std::int64_t floats = std::min(kNormRows, group.tokens - first) * H;
    float* to = group.x[first];
    std::memcpy(to, call.x + (to - call.out), static_cast<std::size_t>(floats) * sizeof(float));
  });
}

bool Encoder::run_layer(Team::Member& member, const Layer& l, const Linear* next, Group& g,
                        Buffers& b) const {
  const std::int64_t n = g.tokens;
  float *const *projected = b.projected_rows.data(), *const *attended = b.attended_rows.data(),
               *const *summed = b.summed_rows.data();
  const bool first = shape_.norm_first;
  if (first && !norm(member, l.norm1, n, g.x[0], summed[0])) return false;
  if (!l.in.run(member, {n, first ? summed : g.x, projected, nullptr, nullptr, &b.encoded},
                &l.out)) {
    return false;
  }
  if (!g.attention.run(member, b.scratch[member.index()])) return false;
  if (!l.out.run(member, {n, attended, first ? g.x : summed, nullptr, g.x, &b.encoded},
                 &l.linear1)) {
    return false;
  }
  if (!norm(member, first ? l.norm2 : l.norm1, n, first ? g.x[0] : summed[0],
            first ? summed[0] : g.x[0])) {
    return false;
  }
  // Now the input of the feed-forward products is in `summed` with the norms first, else in x; the
  // sum with the residual x goes to the other one, which is x itself with the norms first.
  for (std::int64_t at = 0; at < n; at += kForwardTokens) {
    const std::int64_t count = std::min(kForwardTokens, n - at);
    float* const* forward = b.forward_rows.data();
    if (!l.linear1.run(
            member,
            {count, (first ? summed : g.x) + at, forward, &shape_.activation, nullptr, &b.encoded},
            &l.linear2) ||
        !l.linear2.run(member,
                       {count, forward, (first ? g.x : summed) + at, nullptr, g.x + at, &b.encoded},
                       at + count < n ? &l.linear1 : next)) {
      return false;
    }
  }
  return first || norm(member, l.norm2, n, summed[0], g.x[0]);
}

void Encoder::run(const EncoderCall& call, Interrupt& interrupt) const {
  constexpr std::int64_t kKeep = 32 << 20;  // bytes
  const std::int64_t H = shape_.hidden, F = shape_.feed_forward, N = shape_.heads, E = H / N;
  const std::int64_t M = call.offsets[call.B];
  if (M == 0 || call.first == call.last) return;
  std::unique_ptr<Buffers> buffers(spare_.exchange(nullptr, std::memory_order_acquire));
  if (!buffers) buffers = std::make_unique<Buffers>();
  Buffers::list(buffers->x, call.out, M, H);

  std::int64_t most = 0;  // tokens of a group
  double work = 0;
  std::vector<std::int64_t> bounds{0};  // sequences
  for (std::int64_t b = 0, first = 0; b < call.B; ++b) {
    const std::int64_t tokens = call.offsets[b + 1] - call.offsets[first];
    const double length = static_cast<double>(call.offsets[b + 1] - call.offsets[b]);
    work += length * (4.0 * H * H + 2.0 * H * F) + 2.0 * length * length * H;
    if (tokens < kGroupTokens && b + 1 < call.B) continue;
    most = std::max(most, tokens);
    bounds.push_back(first = b + 1);
  }
  buffers->reserve(most, H, F, dtype_);

  AttentionCall a{};
  // int8 is no format of attention probabilities; bfloat16 is at hand where it is.
  a.dtype = dtype_ == Dtype::float32 ? Dtype::float32 : Dtype::bfloat16;
  a.N = a.kv_heads = N;
  a.S = a.K = call.S;
  a.E = a.F = E;
  const float* projected = buffers->projected.data();
  a.q = {projected, 0, E, 3 * H};
  a.k = {projected + H, 0, E, 3 * H};
  a.v = {projected + 2 * H, 0, E, 3 * H};
  a.out = {buffers->attended.data(), 0, E, H};
  a.mask_adds = call.mask_adds;
  a.causal = call.causal;
  a.left = a.right = -1;
  a.scale = 1.0f / std::sqrt(static_cast<float>(E));

  Team team(work * static_cast<double>(call.last - call.first), interrupt);
  if (static_cast<int>(buffers->scratch.size()) < team.size()) buffers->scratch.resize(team.size());
  std::vector<std::int64_t> starts(call.B), lengths(call.B);
  std::vector<Group> groups;
  groups.reserve(bounds.size());
  for (std::size_t i = 0; i + 1 < bounds.size(); ++i) {
    const std::int64_t begin = bounds[i], end = bounds[i + 1], start = call.offsets[begin];
    for (std::int64_t b = begin; b < end; ++b) {
      starts[b] = call.offsets[b] - start;
      lengths[b] = call.offsets[b + 1] - call.offsets[b];
    }
    a.B = end - begin;
    a.starts = starts.data() + begin;
    a.query_lengths = a.key_lengths = lengths.data() + begin;
    a.mask = call.mask;
    if (a.mask.data) a.mask.data += begin * a.mask.b;
    if (call.probabilities) a.probabilities = call.probabilities + begin * N * call.S * call.S;
    const std::int64_t tokens = call.offsets[end] - start;
    if (tokens == 0) continue;
    groups.push_back({tokens, buffers->x.data() + start, Attention(*table_, a, team.size())});
    for (int t = 0; t < team.size(); ++t) groups.back().attention.reserve(buffers->scratch[t]);
  }
  // The hidden states enter in pieces, as the groups are taken up, to be seen by Ctrl-C.
  team.run([&](Team::Member& member) {
    for (std::int64_t i = call.first; i < call.last; ++i) {
      const Linear* after = i + 1 < call.last ? &layers_[i + 1].in : nullptr;
      for (Group& group : groups) {
        if (i == call.first && !copy(member, group, call)) return;
        const Linear* next = &group == &groups.back() ? after : &layers_[i].in;
        if (!run_layer(member, layers_[i], next, group, *buffers)) return;
      }
    }
  });
  if (buffers->bytes() <= kKeep) {
    buffers.reset(spare_.exchange(buffers.release(), std::memory_order_acq_rel));
  }
}

}  // namespace treadle

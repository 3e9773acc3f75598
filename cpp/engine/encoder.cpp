#include "engine/encoder.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace weft {
namespace {

// Tokens that go through the layers together, at least: enough that the weights, read once for
// them, cost little (42 MB of them from memory are 1.5 ms, 512 tokens of MiniLM 90 ms).
constexpr std::int64_t kGroupTokens = 512;
constexpr std::int64_t kNormRows = 16;  // of a task

}  // namespace

// Of a group of sequences. Row pointers begin with the first row of each buffer.
struct Encoder::Buffers {
  Buffer projected;         // [tokens, 3 * H]: q, k, v
  Buffer attended, summed;  // [tokens, H]
  Buffer forward;           // [tokens, F]
  std::vector<float*> x, projected_rows, attended_rows, summed_rows, forward_rows;
  std::vector<Attention::Scratch> scratch;

  static void list(std::vector<float*>& rows, float* data, std::int64_t count, std::int64_t size) {
    rows.resize(count);
    for (std::int64_t i = 0; i < count; ++i) rows[i] = data + i * size;
  }
  void reserve(std::int64_t tokens, std::int64_t H, std::int64_t F) {
    const auto grow = [&](Buffer& buffer, std::vector<float*>& rows, std::int64_t size) {
      if (buffer.size() < tokens * size) buffer = Buffer::uninitialized(tokens * size);
      list(rows, buffer.data(), tokens, size);
    };
    grow(projected, projected_rows, 3 * H);
    grow(attended, attended_rows, H);
    grow(summed, summed_rows, H);
    grow(forward, forward_rows, F);
  }
  std::int64_t bytes() const {
    std::int64_t floats = projected.size() + attended.size() + summed.size() + forward.size();
    for (const auto& s : scratch) floats += s.keys.size() + s.values.size();
    return floats * static_cast<std::int64_t>(sizeof(float));
  }
};

// A group on its way through the layers; its hidden state lies in the call's output.
struct Encoder::Group {
  std::int64_t tokens;
  float* x;
  Buffers& buffers;
  Attention& attention;
};

Encoder::Encoder(const KernelTable& table, const EncoderShape& shape)
    : table_(&table), shape_(shape) {}

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
  return member.share(tasks, static_cast<double>(kNormRows) * H, [&](std::int64_t task) {
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

bool Encoder::run_layer(Team::Member& member, const Layer& l, const Group& g) const {
  Buffers& b = g.buffers;
  const std::int64_t n = g.tokens;
  const auto product = [&](const Linear& linear, const std::vector<float*>& x,
                           const std::vector<float*>& out, const Activation* f,
                           const std::vector<float*>* residual) {
    return linear.run(member,
                      {n, x.data(), out.data(), f, residual ? residual->data() : nullptr});
  };
  const Activation* f = &shape_.activation;
  const auto attend = [&] { return g.attention.run(member, b.scratch[member.index()]); };
  if (shape_.norm_first) {
    return norm(member, l.norm1, n, g.x, b.summed.data()) &&
           product(l.in, b.summed_rows, b.projected_rows, nullptr, nullptr) && attend() &&
           product(l.out, b.attended_rows, b.x, nullptr, &b.x) &&
           norm(member, l.norm2, n, g.x, b.summed.data()) &&
           product(l.linear1, b.summed_rows, b.forward_rows, f, nullptr) &&
           product(l.linear2, b.forward_rows, b.x, nullptr, &b.x);
  }
  return product(l.in, b.x, b.projected_rows, nullptr, nullptr) && attend() &&
         product(l.out, b.attended_rows, b.summed_rows, nullptr, &b.x) &&
         norm(member, l.norm1, n, b.summed.data(), g.x) &&
         product(l.linear1, b.x, b.forward_rows, f, nullptr) &&
         product(l.linear2, b.forward_rows, b.summed_rows, nullptr, &b.x) &&
         norm(member, l.norm2, n, b.summed.data(), g.x);
}

void Encoder::run(const EncoderCall& call, Interrupt& interrupt) const {
  constexpr std::int64_t kKeep = 32 << 20;  // bytes
  const std::int64_t H = shape_.hidden, F = shape_.feed_forward, N = shape_.heads, E = H / N;
  std::unique_ptr<Buffers> buffers(spare_.exchange(nullptr, std::memory_order_acquire));
  if (!buffers) buffers = std::make_unique<Buffers>();
  for (std::int64_t begin = 0, end; begin < call.B && !interrupt.stopped(); begin = end) {
    const std::int64_t start = call.offsets[begin];
    for (end = begin + 1; end < call.B && call.offsets[end] - start < kGroupTokens;) ++end;
    const std::int64_t tokens = call.offsets[end] - start, B = end - begin;
    if (tokens == 0) continue;
    std::vector<std::int64_t> starts(B), lengths(B);
    for (std::int64_t i = 0; i < B; ++i) {
      starts[i] = call.offsets[begin + i] - start;
      lengths[i] = call.offsets[begin + i + 1] - call.offsets[begin + i];
    }
    float* x = call.out + start * H;
    std::memcpy(x, call.x + start * H, static_cast<std::size_t>(tokens * H) * sizeof(float));
    buffers->reserve(tokens, H, F);
    Buffers::list(buffers->x, x, tokens, H);

    AttentionCall a{};
    a.B = B;
    a.N = a.kv_heads = N;
    a.S = a.K = call.S;
    a.E = a.F = E;
    const float* projected = buffers->projected.data();
    a.q = {projected, 0, E, 3 * H};
    a.k = {projected + H, 0, E, 3 * H};
    a.v = {projected + 2 * H, 0, E, 3 * H};
    a.out = {buffers->attended.data(), 0, E, H};
    a.starts = starts.data();
    a.mask = call.mask;
    if (a.mask.data) a.mask.data += begin * a.mask.b;
    a.mask_adds = call.mask_adds;
    a.query_lengths = a.key_lengths = lengths.data();
    a.causal = call.causal;
    a.left = a.right = -1;
    a.scale = 1.0f / std::sqrt(static_cast<float>(E));
    if (call.weights) a.weights = call.weights + begin * N * call.S * call.S;

    const double weights = 4.0 * H * H + 2.0 * H * F;
    const double layers = static_cast<double>(call.last - call.first);
    Team team(layers * (weights * tokens + Attention::work(a)), interrupt);
    Attention attention(*table_, a, team.size());
    if (static_cast<int>(buffers->scratch.size()) < team.size()) {
      buffers->scratch.resize(team.size());
    }
    for (int i = 0; i < team.size(); ++i) attention.reserve(buffers->scratch[i]);
    const Group group{tokens, x, *buffers, attention};
    team.run([&](Team::Member& member) {
      for (std::int64_t i = call.first; i < call.last; ++i) {
        if (!run_layer(member, layers_[i], group)) return;
      }
    });
  }
  if (buffers->bytes() <= kKeep) {
    buffers.reset(spare_.exchange(buffers.release(), std::memory_order_acq_rel));
  }
}

}  // namespace weft

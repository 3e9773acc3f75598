#include "engine/transformer/block.h"

#include <algorithm>

namespace treadle {
namespace {

constexpr std::int64_t kPlacedRows = 8;  // rows whose tokens a task places
// So many rows go through the products of feed forward together.
constexpr std::int64_t kForwardRows = 192;

// Returns a matrix [.., K] without the rows before `first`.
StoredMatrix from_row(const StoredMatrix& matrix, std::int64_t first, std::int64_t K) {
  const std::int64_t size = static_cast<std::int64_t>(sizeof(Word)) / per_word(matrix.dtype);
  return {matrix.dtype, static_cast<const std::uint8_t*>(matrix.data) + first * K * size,
          matrix.scales ? matrix.scales + first * sum_blocks(K) : nullptr};
}

const float* from_element(const float* vector, std::int64_t first) {
  return vector ? vector + first : nullptr;
}

void grow(Buffer& buffer, std::vector<float*>& rows, std::int64_t count, std::int64_t size) {
  if (buffer.size() < count * size) buffer = Buffer::uninitialized(count * size);
  rows.resize(count);
  for (std::int64_t i = 0; i < count; ++i) rows[i] = buffer.data() + i * size;
}

// Applies a norm to rows that follow each other, as a phase of a team.
bool normalize(Team::Member& member, const Norm& norm, std::int64_t rows, const float* from,
               float* to) {
  return run_rows(member, norm.kernel(), norm.args(rows, from, to));
}

}  // namespace

void BlockBuffers::reserve(const BlockShape& shape, Dtype dtype, std::int64_t rows) {
  const std::int64_t H = shape.hidden, F = shape.feed_forward;
  const std::int64_t forward_count = std::min(rows, kForwardRows);
  grow(projected, projected_rows, rows, shape.projected());
  grow(attended, attended_rows, rows, shape.queries());
  grow(beside, beside_rows, rows, H);
  if (shape.parallel || shape.norm_place == NormPlace::both) grow(after, after_rows, rows, H);
  grow(forward, forward_rows, forward_count, F);
  if (shape.gated) grow(up, up_rows, forward_count, F);
  encoded.reserve(dtype, rows, std::max(H, shape.queries()));
  encoded.reserve(dtype, forward_count, F);
}

std::int64_t BlockBuffers::bytes() const {
  std::int64_t floats = projected.size() + attended.size() + beside.size() + after.size() +
                        forward.size() + up.size();
  floats += encoded.floats();
  for (const Attention::Scratch& s : scratch) {
    floats += s.keys.size() + s.values.size() + s.partial.size() + s.kernel.size();
    floats += s.queries.floats();
  }
  return floats * static_cast<std::int64_t>(sizeof(float));
}

TransformerBlock::TransformerBlock(const KernelTable& table, const BlockShape& shape,
                                   const BlockWeights& weights)
    : table_(&table), shape_(shape) {
  const std::int64_t H = shape.hidden, F = shape.feed_forward, Q = shape.queries();
  const auto make_norm = [&](const NormWeights& w) {
    return Norm(table, w, shape.norm, shape.eps, H);
  };
  const auto head_norm = [&](const float* weight) {
    return Norm(table, {weight, nullptr}, NormKind::rms, shape.eps, shape.head_size);
  };
  const AttentionWeights& self = weights.self_attention;
  self_ = {Linear(table, shape.projected(), H, self.in_weight, self.in_bias),
           Linear(table, H, Q, self.out_weight, self.out_bias),
           make_norm(self.norm),
           make_norm(self.after),
           head_norm(self.query_norm),
           head_norm(self.key_norm)};
  if (weights.cross_attention) {
    const AttentionWeights& cross = *weights.cross_attention;
    cross_ = {
        Linear(table, Q, H, cross.in_weight, cross.in_bias),
        Linear(table, 2 * Q, H, from_row(cross.in_weight, Q, H), from_element(cross.in_bias, Q)),
        Linear(table, H, Q, cross.out_weight, cross.out_bias), make_norm(cross.norm),
        make_norm(cross.after)};
  }
  const FeedForwardWeights& forward = weights.feed_forward;
  forward_ = {Linear(table, F, H, forward.weight1, forward.bias1),
              {},
              Linear(table, H, F, forward.weight2, forward.bias2),
              make_norm(forward.norm),
              make_norm(forward.after)};
  if (shape.gated) {
    forward_.up =
        Linear(table, F, H, from_row(forward.weight1, F, H), from_element(forward.bias1, F));
  }
}

std::int64_t TransformerBlock::weight_bytes() const {
  std::int64_t bytes = self_.in.weight_bytes() + self_.out.weight_bytes() +
                       forward_.in.weight_bytes() + forward_.up.weight_bytes() +
                       forward_.out.weight_bytes();
  if (cross_) {
    bytes += cross_->query.weight_bytes() + cross_->key_value.weight_bytes() +
             cross_->out.weight_bytes();
  }
  return bytes;
}

double TransformerBlock::work(std::int64_t rows) const {
  double work = self_.in.work(rows) + self_.out.work(rows) + forward_.in.work(rows) +
                forward_.up.work(rows) + forward_.out.work(rows);
  if (cross_) work += cross_->query.work(rows) + cross_->out.work(rows);
  return work;
}

// Computes x = x + norm(after).
bool TransformerBlock::add_normalized(Team::Member& member, const Norm& norm, const BlockRows& rows,
                                      BlockBuffers& b) const {
  const std::int64_t H = shape_.hidden, tasks = (rows.count + kPlacedRows - 1) / kPlacedRows;
  return member.parallel_for(tasks, static_cast<double>(kPlacedRows) * H, [&](std::int64_t task) {
    const std::int64_t first = task * kPlacedRows;
    float* const f = b.after_rows[first];
    float* const x = rows.x[first];
    const std::int64_t count = std::min(kPlacedRows, rows.count - first);
    norm.kernel()(norm.args(count, f, f));
    table_->binary({BinaryFunction::add, count, H, {x, H, 1}, {f, H, 1}, x});
  });
}

// Adds a function with its norms to x. function(from, to, residual) reads its input in the rows
// `from` and writes the sum of its result and the residual, which may be null, to the rows `to`,
// which may be those of the residual.
template <class Part, class Function>
bool TransformerBlock::add(Team::Member& member, const Part& part, const BlockRows& rows,
                           BlockBuffers& b, Function&& function) const {
  float* const* beside = b.beside_rows.data();
  switch (shape_.norm_place) {
    case NormPlace::before:
      return normalize(member, part.norm, rows.count, rows.x[0], beside[0]) &&
             function(beside, rows.x, rows.x);
    case NormPlace::after:
      return function(rows.x, beside, rows.x) &&
             normalize(member, part.norm, rows.count, beside[0], rows.x[0]);
    case NormPlace::both:
      break;
  }
  return normalize(member, part.norm, rows.count, rows.x[0], beside[0]) &&
         function(beside, b.after_rows.data(), nullptr) &&
         add_normalized(member, part.after, rows, b);
}

// Brings queries and keys to their positions, and keys and values to the cache.
bool TransformerBlock::place_tokens(Team::Member& member, const BlockRows& rows,
                                    const BlockPositions& p, BlockBuffers& b) const {
  if (!p.cache && !p.turns && !shape_.head_norm) return true;
  const std::int64_t N = shape_.heads, G = shape_.kv_heads, E = shape_.head_size;
  const std::int64_t tasks = (rows.count + kPlacedRows - 1) / kPlacedRows;
  const double work = static_cast<double>(kPlacedRows * shape_.projected());
  const auto norm_heads = [](const Norm& norm, float* heads, std::int64_t count) {
    norm.kernel()(norm.args(count, heads, heads));
  };
  return member.parallel_for(tasks, work, [&](std::int64_t task) {
    const std::int64_t end = std::min(rows.count, (task + 1) * kPlacedRows);
    for (std::int64_t i = task * kPlacedRows; i < end; ++i) {
      float *const queries = b.projected_rows[i], *const keys = queries + N * E;
      if (shape_.head_norm) {
        norm_heads(self_.query_norm, queries, N);
        norm_heads(self_.key_norm, keys, G);
      }
      if (p.turns) {
        table_->rotate({N + G, E, p.half, queries, p.turns + p.position[i] * 2 * p.half});
      }
      if (p.cache) p.cache->put(p.row[i], p.position[i], {p.first_head, G}, keys, keys + G * E);
    }
  });
}

bool TransformerBlock::self_attention(Team::Member& member, const BlockRows& rows,
                                      Attention& attention, const BlockPositions& positions,
                                      BlockBuffers& b) const {
  const std::int64_t n = rows.count;
  float *const *projected = b.projected_rows.data(), *const *attended = b.attended_rows.data();
  const Linear& next = cross_ ? cross_->query : forward_.first();
  // What follows in a parallel block reads x, too, before it changes.
  if (shape_.parallel && !normalize(member, forward_.norm, n, rows.x[0], b.after_rows[0])) {
    return false;
  }
  return add(member, self_, rows, b, [&](float* const* from, float* const* to, float* const* x) {
    return self_.in.run(member, {n, from, projected, nullptr, nullptr, &b.encoded}, &self_.out) &&
           place_tokens(member, rows, positions, b) &&
           attention.run(member, b.scratch[member.index()]) &&
           self_.out.run(member, {n, attended, to, nullptr, x, &b.encoded}, &next);
  });
}

bool TransformerBlock::cross_attention(Team::Member& member, const BlockRows& rows,
                                       Attention& attention, BlockBuffers& b) const {
  const std::int64_t n = rows.count;
  float *const *queries = b.projected_rows.data(), *const *attended = b.attended_rows.data();
  return add(member, *cross_, rows, b, [&](float* const* from, float* const* to, float* const* x) {
    return cross_->query.run(member, {n, from, queries, nullptr, nullptr, &b.encoded},
                             &cross_->out) &&
           attention.run(member, b.scratch[member.index()]) &&
           cross_->out.run(member, {n, attended, to, nullptr, x, &b.encoded}, &forward_.first());
  });
}

bool TransformerBlock::feed_forward(Team::Member& member, const BlockRows& rows, BlockBuffers& b,
                                    const Linear* next) const {
  float *const *forward = b.forward_rows.data(), *const *up = b.up_rows.data();
  const auto function = [&](float* const* from, float* const* to, float* const* x) {
    for (std::int64_t at = 0; at < rows.count; at += kForwardRows) {
      const std::int64_t n = std::min(kForwardRows, rows.count - at);
      const Linear* after = at + n < rows.count ? &forward_.first() : next;
      ProductRows in{n, from + at, forward, &shape_.activation, nullptr, &b.encoded};
      if (shape_.gated) {
        if (!forward_.up.run(member, {n, from + at, up, nullptr, nullptr, &b.encoded},
                             &forward_.in)) {
          return false;
        }
        in.factor = up;
        in.is_encoded = true;
      }
      if (!forward_.in.run(member, in, &forward_.out) ||
          !forward_.out.run(
              member, {n, forward, to + at, nullptr, x ? x + at : nullptr, &b.encoded}, after)) {
        return false;
      }
    }
    return true;
  };
  if (shape_.parallel) return function(b.after_rows.data(), rows.x, rows.x);
  return add(member, forward_, rows, b, function);
}

AttentionCall self_call(const BlockShape& shape, Dtype dtype, BlockBuffers& buffers) {
  const std::int64_t E = shape.head_size, P = shape.projected();
  const float* const keys = buffers.projected.data() + shape.queries();
  AttentionCall a{};
  // Rounding to int8 would spoil attention probabilities, so an int8 block attends in bfloat16.
  a.dtype = dtype == Dtype::float32 ? Dtype::float32 : Dtype::bfloat16;
  a.N = shape.heads;
  a.kv_heads = shape.kv_heads;
  a.E = a.F = E;
  a.q = {buffers.projected.data(), 0, E, P};
  a.k = {keys, 0, E, P};
  a.v = {keys + shape.keys(), 0, E, P};
  a.out = {buffers.attended.data(), 0, E, shape.queries()};
  a.left = shape.left;
  a.right = -1;
  a.scale = shape.scale;
  a.softcap = shape.softcap;
  return a;
}

AttentionCall cross_call(const BlockShape& shape, Dtype dtype, BlockBuffers& buffers,
                         const float* keys_values) {
  const std::int64_t E = shape.head_size, Q = shape.queries();
  AttentionCall a = self_call(shape, dtype, buffers);
  a.kv_heads = shape.heads;
  a.k = {keys_values, 0, E, 2 * Q};
  a.v = {keys_values + Q, 0, E, 2 * Q};
  a.left = -1;
  return a;
}

}  // namespace treadle

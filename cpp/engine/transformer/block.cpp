#include "engine/transformer/block.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/product/rows.h"

namespace treadle {
namespace {

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

}  // namespace

void BlockBuffers::reserve(const BlockShape& shape, Dtype dtype, std::int64_t rows) {
  const std::int64_t H = shape.hidden, F = shape.feed_forward;
  grow(projected, projected_rows, rows, 3 * H);
  grow(attended, attended_rows, rows, H);
  grow(beside, beside_rows, rows, H);
  grow(forward, forward_rows, std::min(rows, kForwardRows), F);
  encoded.reserve(dtype, rows, H);
  encoded.reserve(dtype, std::min(rows, kForwardRows), F);
}

std::int64_t BlockBuffers::bytes() const {
  std::int64_t floats = projected.size() + attended.size() + beside.size() + forward.size();
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
  const std::int64_t H = shape.hidden, F = shape.feed_forward;
  const AttentionWeights& self = weights.self_attention;
  self_ = {Linear(table, 3 * H, H, self.in_weight, self.in_bias),
           Linear(table, H, H, self.out_weight, self.out_bias), make_norm(self.norm)};
  if (weights.cross_attention) {
    const AttentionWeights& cross = *weights.cross_attention;
    cross_ = {
        Linear(table, H, H, cross.in_weight, cross.in_bias),
        Linear(table, 2 * H, H, from_row(cross.in_weight, H, H), from_element(cross.in_bias, H)),
        Linear(table, H, H, cross.out_weight, cross.out_bias), make_norm(cross.norm)};
  }
  const FeedForwardWeights& forward = weights.feed_forward;
  forward_ = {Linear(table, F, H, forward.weight1, forward.bias1),
              Linear(table, H, F, forward.weight2, forward.bias2), make_norm(forward.norm)};
}

TransformerBlock::Norm TransformerBlock::make_norm(const NormWeights& weights) const {
  const auto copy = [&](const float* from) {
    if (!from) return Buffer();
    Buffer buffer = Buffer::uninitialized(shape_.hidden);
    std::memcpy(buffer.data(), from, static_cast<std::size_t>(shape_.hidden) * sizeof(float));
    return buffer;
  };
  return {copy(weights.weight), copy(weights.bias)};
}

std::int64_t TransformerBlock::weight_bytes() const {
  std::int64_t bytes = self_.in.weight_bytes() + self_.out.weight_bytes() +
                       forward_.in.weight_bytes() + forward_.out.weight_bytes();
  if (cross_) {
    bytes += cross_->query.weight_bytes() + cross_->key_value.weight_bytes() +
             cross_->out.weight_bytes();
  }
  return bytes;
}

bool TransformerBlock::normalize(Team::Member& member, const Norm& norm, std::int64_t rows,
                                 const float* from, float* to) const {
  RowArgs a{};
  a.rows = rows;
  a.size = a.x_stride = a.out_stride = shape_.hidden;
  a.x = from;
  a.out = to;
  a.weight = norm.weight.data();
  a.bias = norm.bias.data();
  a.eps = shape_.eps;
  return run_rows(member, table_->layer_norm, a);
}

// Computes x = x + f(norm(x)) or x = norm(x + f(x)). function(from, to) reads its input in the rows
// `from` and writes the sum of its result and x to the rows `to`, which may be the rows of x.
template <class Function>
bool TransformerBlock::add(Team::Member& member, const Norm& norm, const BlockRows& rows,
                           BlockBuffers& buffers, Function&& function) const {
  float* const* beside = buffers.beside_rows.data();
  if (shape_.norm_first) {
    return normalize(member, norm, rows.count, rows.x[0], beside[0]) && function(beside, rows.x);
  }
  return function(rows.x, beside) && normalize(member, norm, rows.count, beside[0], rows.x[0]);
}

bool TransformerBlock::self_attention(Team::Member& member, const BlockRows& rows,
                                      Attention& attention, BlockBuffers& b) const {
  const std::int64_t n = rows.count;
  float *const *projected = b.projected_rows.data(), *const *attended = b.attended_rows.data();
  const Linear& next = cross_ ? cross_->query : forward_.in;
  return add(member, self_.norm, rows, b, [&](float* const* from, float* const* to) {
    return self_.in.run(member, {n, from, projected, nullptr, nullptr, &b.encoded}, &self_.out) &&
           attention.run(member, b.scratch[member.index()]) &&
           self_.out.run(member, {n, attended, to, nullptr, rows.x, &b.encoded}, &next);
  });
}

bool TransformerBlock::cross_attention(Team::Member& member, const BlockRows& rows,
                                       Attention& attention, BlockBuffers& b) const {
  const std::int64_t n = rows.count;
  float *const *queries = b.projected_rows.data(), *const *attended = b.attended_rows.data();
  return add(member, cross_->norm, rows, b, [&](float* const* from, float* const* to) {
    return cross_->query.run(member, {n, from, queries, nullptr, nullptr, &b.encoded},
                             &cross_->out) &&
           attention.run(member, b.scratch[member.index()]) &&
           cross_->out.run(member, {n, attended, to, nullptr, rows.x, &b.encoded}, &forward_.in);
  });
}

bool TransformerBlock::feed_forward(Team::Member& member, const BlockRows& rows, BlockBuffers& b,
                                    const Linear* next) const {
  float* const* forward = b.forward_rows.data();
  return add(member, forward_.norm, rows, b, [&](float* const* from, float* const* to) {
    for (std::int64_t at = 0; at < rows.count; at += kForwardRows) {
      const std::int64_t n = std::min(kForwardRows, rows.count - at);
      const Linear* after = at + n < rows.count ? &forward_.in : next;
      if (!forward_.in.run(member, {n, from + at, forward, &shape_.activation, nullptr, &b.encoded},
                           &forward_.out) ||
          !forward_.out.run(member, {n, forward, to + at, nullptr, rows.x + at, &b.encoded},
                            after)) {
        return false;
      }
    }
    return true;
  });
}

AttentionCall attention_call(const BlockShape& shape, Dtype dtype, BlockBuffers& buffers,
                             const float* keys_values, std::int64_t stride) {
  const std::int64_t H = shape.hidden, E = H / shape.heads;
  AttentionCall a{};
  // Rounding to int8 would spoil attention probabilities, so an int8 block attends in bfloat16.
  a.dtype = dtype == Dtype::float32 ? Dtype::float32 : Dtype::bfloat16;
  a.N = a.kv_heads = shape.heads;
  a.E = a.F = E;
  a.q = {buffers.projected.data(), 0, E, 3 * H};
  a.k = {keys_values, 0, E, stride};
  a.v = {keys_values + H, 0, E, stride};
  a.out = {buffers.attended.data(), 0, E, H};
  a.left = a.right = -1;
  a.scale = 1.0f / std::sqrt(static_cast<float>(E));
  return a;
}

}  // namespace treadle

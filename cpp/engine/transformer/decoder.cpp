#include "engine/transformer/decoder.h"

#include <algorithm>
#include <utility>

#include "engine/transformer/decoder_call.h"

namespace treadle {
namespace {

// The keys and values of so many rows of a memory are computed before they are put in their places.
constexpr std::int64_t kMemoryRows = 512;
constexpr std::int64_t kKeep = 32 << 20;  // larger buffers, in bytes, are not kept

}  // namespace

Decoder::Decoder(const KernelTable& table, const DecoderShape& shape, DecoderWeights weights)
    : table_(&table),
      shape_(shape),
      embed_(std::move(weights.shared)),
      positions_(copied(weights.positions, shape.positions * shape.hidden)),
      distances_(std::move(weights.distances)),
      cap_{ActivationFunction::scaled_tanh, shape.logit_softcap, 1 / shape.logit_softcap} {
  const std::int64_t H = shape.hidden;
  const auto pack = [&](const StoredMatrix& matrix, const float* bias) {
    return std::make_shared<const Linear>(table, shape.vocabulary, H, matrix, bias);
  };
  if (weights.head) {
    head_ = pack(weights.head, weights.head_bias);
    if (!embed_) embed_ = pack(weights.embed, nullptr);
  } else {
    if (!embed_) embed_ = pack(weights.embed, weights.head_bias);
    head_ = embed_;
  }
  const auto norm = [&](const NormWeights& w, NormKind kind, float eps) -> std::optional<Norm> {
    if (!w.weight) return std::nullopt;
    return Norm(table, w, kind, eps, H);
  };
  embed_norm_ = norm(weights.embed_norm, NormKind::layer, shape.embed_eps);
  final_norm_ = norm(weights.final_norm, shape.final_norm, shape.final_eps);
}

void Decoder::add_layer(TransformerBlock block, const LayerPositions& positions) {
  int turns = -1;
  if (positions.turns) {
    const auto same = std::find(turns_.begin(), turns_.end(), *positions.turns);
    turns = static_cast<int>(same - turns_.begin());
    if (same == turns_.end()) turns_.push_back(*positions.turns);
  }
  blocks_.push_back(std::move(block));
  layers_.push_back({positions.causal, positions.distances, turns});
}

bool Decoder::causal() const {
  return std::all_of(layers_.begin(), layers_.end(), [](const Layer& l) { return l.causal; });
}

std::int64_t Decoder::weight_bytes() const {
  std::int64_t bytes = head_->weight_bytes() + (embed_ == head_ ? 0 : embed_->weight_bytes());
  for (const TransformerBlock& block : blocks_) bytes += block.weight_bytes();
  return bytes;
}

std::shared_ptr<const DecoderMemory> Decoder::remember(const RaggedBatch& batch, const float* rows,
                                                       Dtype dtype, Interrupt& interrupt) const {
  const std::int64_t H = shape_.hidden, N = layer_shape().heads, E = layer_shape().head_size;
  const std::int64_t M = batch.rows(), heads = layers() * N;
  auto memory = std::make_shared<DecoderMemory>(
      DecoderMemory{{dtype, heads, M, E, 1}, {dtype, heads, M, E, 1}, {}, {}});
  for (std::int64_t b = 0; b < batch.B; ++b) {
    memory->starts.push_back(batch.offsets[b]);
    memory->lengths.push_back(batch.length(b));
  }
  if (M == 0) return memory;
  const std::int64_t most = std::min(M, kMemoryRows);
  Buffer projected = Buffer::uninitialized(most * 2 * N * E);
  std::vector<const float*> from(most);
  std::vector<float*> to(most);
  for (std::int64_t i = 0; i < most; ++i) to[i] = projected.data() + i * 2 * N * E;
  EncodedRows encoded;
  encoded.reserve(blocks_[0].dtype(), most, H);
  for (std::int64_t first = 0; first < M; first += most) {
    const std::int64_t count = std::min(most, M - first);
    for (std::int64_t i = 0; i < count; ++i) from[i] = rows + (first + i) * H;
    const double work = blocks_[0].memory_product().work(count) * static_cast<double>(layers());
    Team team(work, interrupt);
    team.run([&](Team::Member& member) {
      for (std::int64_t layer = 0; layer < layers(); ++layer) {
        const Linear& product = blocks_[layer].memory_product();
        if (!product.run(member, {count, from.data(), to.data(), nullptr, nullptr, &encoded}) ||
            !member.parallel_for(N, static_cast<double>(count * 2 * E), [&](std::int64_t n) {
              float* const key = projected.data() + n * E;
              memory->keys.put(0, layer * N + n, first, key, 2 * N * E, count);
              memory->values.put(0, layer * N + n, first, key + N * E, 2 * N * E, count);
            })) {
          return;
        }
      }
    });
    if (interrupt.stopped()) return nullptr;
  }
  return memory;
}

void Decoder::run(const DecoderCall& call, DecoderBuffers& buffers, Interrupt& interrupt) const {
  if (call.batch.rows() == 0) return;
  list_rows(call, buffers);
  if (!grow_tables(call, buffers, interrupt)) return;
  Team team(work(call), interrupt);
  plan(call, buffers, team.size());
  team.run([&](Team::Member& member) {
    if (!embed(member, call, buffers) || !keep_states(member, call, buffers, 0)) return;
    for (std::int64_t layer = 0; layer < layers(); ++layer) {
      if (!run_layer(member, call, buffers, layer) ||
          !keep_states(member, call, buffers, layer + 1)) {
        return;
      }
    }
    finish(member, call, buffers);
  });
}

void Decoder::run(const DecoderCall& call, Interrupt& interrupt) const {
  std::unique_ptr<DecoderBuffers> buffers(spare_.exchange(nullptr, std::memory_order_acquire));
  if (!buffers) buffers = std::make_unique<DecoderBuffers>();
  run(call, *buffers, interrupt);
  if (buffers->bytes() <= kKeep) {
    buffers.reset(spare_.exchange(buffers.release(), std::memory_order_acq_rel));
  }
}

// Reads the tokens' embeddings, for as many rows as a task has.
bool Decoder::embed(Team::Member& member, const DecoderCall& call, DecoderBuffers& b) const {
  const std::int64_t H = shape_.hidden;
  const PackedWeights& weights = embed_->packed();
  return rows_in_tasks(member, call.batch.rows(), H, [&](std::int64_t first, std::int64_t count) {
    for (std::int64_t i = first; i < first + count; ++i) {
      float* const x = b.x.data() + i * H;
      weights.read(call.tokens[i], H, x);
      if (shape_.embed_scale != 1) {
        table_->apply({ActivationFunction::affine, shape_.embed_scale, 0}, x, x, H);
      }
      if (shape_.positions) {
        const float* const position = positions_.data() + b.positions[i] * H;
        table_->binary({BinaryFunction::add, 1, H, {x, H, 1}, {position, H, 1}, x});
      }
    }
    float* const x = b.x.data() + first * H;
    if (embed_norm_) embed_norm_->kernel()(embed_norm_->args(count, x, x));
  });
}

// Copies the hidden states after so many layers to where the call wants them.
bool Decoder::keep_states(Team::Member& member, const DecoderCall& call, const DecoderBuffers& b,
                          std::int64_t layer) const {
  if (!call.states) return true;
  const std::int64_t H = shape_.hidden, M = call.batch.rows();
  float* const to = call.states + layer * M * H;
  return rows_in_tasks(member, M, H, [&](std::int64_t first, std::int64_t count) {
    std::copy_n(b.x.data() + first * H, count * H, to + first * H);
  });
}

bool Decoder::run_layer(Team::Member& member, const DecoderCall& call, DecoderBuffers& b,
                        std::int64_t i) const {
  const TransformerBlock& block = blocks_[i];
  const std::int64_t groups = static_cast<std::int64_t>(b.bounds.size()) - 1;
  BlockPositions p;
  p.cache = call.cache;
  p.first_head = i * block.shape().kv_heads;
  if (layers_[i].turns >= 0) {
    p.turns = b.turns[layers_[i].turns].numbers.data();
    p.half = turns_[layers_[i].turns].half();
  }
  for (std::int64_t g = 0; g < groups; ++g) {
    const std::int64_t start = call.batch.offsets[b.bounds[g]];
    const BlockRows rows{call.batch.offsets[b.bounds[g + 1]] - start,
                         b.block.x_rows.data() + start};
    if (rows.count == 0) continue;
    p.row = b.sequences.data() + start;
    p.position = b.positions.data() + start;
    const Linear* next = g + 1 < groups             ? &block.first_product()
                         : i + 1 < layers()         ? &blocks_[i + 1].first_product()
                         : call.logits || call.best ? head_.get()
                                                    : nullptr;
    const std::int64_t at = i * groups + g;
    if (!block.self_attention(member, rows, b.self[at], p, b.block) ||
        (call.memory && !block.cross_attention(member, rows, b.cross[at], b.block)) ||
        !block.feed_forward(member, rows, b.block, next)) {
      return false;
    }
  }
  return true;
}

// Computes the final norm, and what the call asks for.
bool Decoder::finish(Team::Member& member, const DecoderCall& call, DecoderBuffers& b) const {
  const std::int64_t H = shape_.hidden, V = shape_.vocabulary, M = call.batch.rows();
  float* const hidden = call.hidden ? call.hidden : b.hidden.data();
  const bool scored = call.logits || call.best;
  if (!rows_in_tasks(member, M, H, [&](std::int64_t first, std::int64_t count) {
        const float* const from = b.x.data() + first * H;
        float* const to = hidden + first * H;
        if (final_norm_) {
          final_norm_->kernel()(final_norm_->args(count, from, to));
        } else {
          std::copy_n(from, count * H, to);
        }
        if (scored && shape_.logit_scale != 1) {
          table_->apply({ActivationFunction::affine, shape_.logit_scale, 0}, to, to, count * H);
        }
      })) {
    return false;
  }
  if (!scored) return true;
  if (!head_->run(member,
                  {M, b.hidden_rows.data(), b.logit_rows.data(), cap(), nullptr, &b.encoded})) {
    return false;
  }
  if (!call.best) return true;
  const BestTokens& best = *call.best;
  return member.parallel_for(M, 4.0 * static_cast<double>(V), [&](std::int64_t i) {
    table_->best({V, best.k, b.logit_rows[i], best.values + i * best.k, best.ids + i * best.k,
                  best.lse + i});
  });
}

void Decoder::logits(const float* hidden, std::int64_t count, float* logits,
                     Interrupt& interrupt) const {
  const std::int64_t H = shape_.hidden;
  Buffer scaled;
  if (shape_.logit_scale != 1) {
    scaled = Buffer::uninitialized(count * H);
    table_->apply({ActivationFunction::affine, shape_.logit_scale, 0}, hidden, scaled.data(),
                  count * H);
    hidden = scaled.data();
  }
  product(*head_, count, hidden, H, cap(), nullptr, logits, interrupt);
}

}  // namespace treadle

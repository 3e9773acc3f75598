// What a call of a stack needs before its phases begin: rows, tables, memory, tasks of attention.
#include <algorithm>

#include "engine/transformer/decoder.h"

namespace treadle {
namespace {

void grow(Buffer& buffer, std::int64_t floats) {
  if (buffer.size() < floats) buffer = Buffer::uninitialized(floats);
}

// Returns the dtype of products of many queries with keys in the dtype of a cache.
Dtype product_dtype(const AttentionCall& call) {
  return call.stored.dtype == Dtype::float32 ? Dtype::float32 : Dtype::bfloat16;
}

// Lists the queries of each sequence of a group, and the memory that they see, from `begin` on in
// the buffers' lists. Returns how many there are. In a step, rows of one token that follow each
// other and see the same memory (beams) are listed as one sequence: its keys are read once. Four
// queries have the same bits together as alone, more would not.
std::int64_t list_memory(const DecoderCall& call, DecoderBuffers& b, std::int64_t begin,
                         std::int64_t end) {
  constexpr std::int64_t kTogether = 4;
  std::int64_t count = 0, source = -1;
  for (std::int64_t s = begin; s < end; ++s) {
    const std::int64_t at = begin + count;
    const bool joins = call.batch.longest == 1 && !call.cross_attentions && b.lengths[s] == 1 &&
                       source == call.sources[s] && b.cross_lengths[at - 1] < kTogether;
    if (joins) {
      ++b.cross_lengths[at - 1];
      continue;
    }
    source = b.lengths[s] == 1 ? call.sources[s] : -1;
    b.cross_starts[at] = b.starts[s];
    b.cross_lengths[at] = b.lengths[s];
    b.memory_starts[at] = call.memory->starts[call.sources[s]];
    b.memory_lengths[at] = call.memory->lengths[call.sources[s]];
    ++count;
  }
  return count;
}

}  // namespace

std::int64_t DecoderBuffers::bytes() const {
  std::int64_t floats = x.size() + hidden.size() + logits.size() + encoded.floats();
  for (const Turns::Table& table : turns) floats += table.numbers.size();
  floats += distances.numbers.size();
  return block.bytes() + floats * static_cast<std::int64_t>(sizeof(float));
}

// Lists the sequence and the position of each row, and where each sequence ends.
void Decoder::list_rows(const DecoderCall& call, DecoderBuffers& b) const {
  const RaggedBatch& batch = call.batch;
  b.sequences.clear();
  b.positions.clear();
  b.ends.clear();
  for (std::int64_t s = 0; s < batch.B; ++s) {
    for (std::int64_t i = 0; i < batch.length(s); ++i) {
      b.sequences.push_back(s);
      b.positions.push_back(call.past[s] + i);
    }
    b.ends.push_back(call.past[s] + batch.length(s));
  }
  group_sequences(batch, b.bounds);
}

bool Decoder::grow_tables(const DecoderCall& call, DecoderBuffers& b, Interrupt& interrupt) const {
  std::int64_t longest = 0;
  for (std::int64_t s = 0; s < call.batch.B; ++s) longest = std::max(longest, b.ends[s]);
  b.turns.resize(turns_.size());
  for (std::size_t i = 0; i < turns_.size(); ++i) {
    if (!turns_[i].grow(b.turns[i], longest, interrupt)) return false;
  }
  if (distances_) distances_->grow(b.distances, longest);
  return true;
}

double Decoder::work(const DecoderCall& call) const {
  const std::int64_t M = call.batch.rows();
  double work = 0, pairs = 0;
  for (const TransformerBlock& block : blocks_) work += block.work(M);
  for (std::int64_t s = 0; s < call.batch.B; ++s) {
    std::int64_t keys = call.past[s] + call.batch.length(s);
    if (call.memory) keys += call.memory->lengths[call.sources[s]];
    pairs += static_cast<double>(call.batch.length(s)) * static_cast<double>(keys);
  }
  if (layers()) work += pairs * static_cast<double>(2 * layer_shape().queries() * layers());
  return call.logits || call.best ? work + head_->work(M) : work;
}

// Makes room for the call, and cuts its attention into tasks.
void Decoder::plan(const DecoderCall& call, DecoderBuffers& b, int threads) const {
  const std::int64_t H = shape_.hidden, V = shape_.vocabulary, M = call.batch.rows();
  const std::int64_t groups = static_cast<std::int64_t>(b.bounds.size()) - 1;
  grow(b.x, M * H);
  if (!call.hidden) grow(b.hidden, M * H);
  b.block.x_rows.resize(static_cast<std::size_t>(M));
  for (std::int64_t i = 0; i < M; ++i) b.block.x_rows[i] = b.x.data() + i * H;
  if (call.logits || call.best) {
    if (!call.logits) grow(b.logits, M * V);
    const float* const hidden = call.hidden ? call.hidden : b.hidden.data();
    float* const logits = call.logits ? call.logits : b.logits.data();
    b.hidden_rows.resize(static_cast<std::size_t>(M));
    b.logit_rows.resize(static_cast<std::size_t>(M));
    for (std::int64_t i = 0; i < M; ++i) {
      b.hidden_rows[i] = hidden + i * H;
      b.logit_rows[i] = logits + i * V;
    }
    b.encoded.reserve(dtype(), M, H);
  }
  if (layers() == 0) return;
  std::int64_t most = 0;
  for (std::int64_t g = 0; g < groups; ++g) {
    most = std::max(most, call.batch.offsets[b.bounds[g + 1]] - call.batch.offsets[b.bounds[g]]);
  }
  b.block.reserve(layer_shape(), dtype(), most);
  if (static_cast<int>(b.block.scratch.size()) < threads) b.block.scratch.resize(threads);
  while (static_cast<std::int64_t>(b.self.size()) < groups * layers()) b.self.emplace_back(*table_);
  while (call.memory && static_cast<std::int64_t>(b.cross.size()) < groups * layers()) {
    b.cross.emplace_back(*table_);
  }
  for (auto* list : {&b.starts, &b.lengths, &b.cross_starts, &b.cross_lengths, &b.memory_starts,
                     &b.memory_lengths}) {
    list->resize(static_cast<std::size_t>(call.batch.B));
  }
  for (std::int64_t g = 0; g < groups; ++g) plan_group(call, b, g, threads);
}

void Decoder::plan_group(const DecoderCall& call, DecoderBuffers& b, std::int64_t g,
                         int threads) const {
  const std::int64_t begin = b.bounds[g], end = b.bounds[g + 1], N = layer_shape().heads;
  const std::int64_t groups = static_cast<std::int64_t>(b.bounds.size()) - 1;
  for (std::int64_t s = begin; s < end; ++s) {
    b.starts[s] = call.batch.offsets[s] - call.batch.offsets[begin];
    b.lengths[s] = call.batch.length(s);
  }
  const std::int64_t seen = call.memory ? list_memory(call, b, begin, end) : 0;
  const auto sequences = [&](AttentionCall& a, std::int64_t B, const std::int64_t* starts,
                             const std::int64_t* lengths) {
    a.B = B;
    a.query_starts = starts + begin;
    a.query_lengths = lengths + begin;
    a.S = *std::max_element(a.query_lengths, a.query_lengths + a.B);
    a.K = *std::max_element(a.key_lengths, a.key_lengths + a.B);
  };
  const auto keep = [&](AttentionCall& a, float* all, std::int64_t keys, std::int64_t layer) {
    if (!all) return;
    a.S = call.batch.longest;
    a.K = keys;
    a.probabilities = all + (layer * call.batch.B + begin) * N * a.S * a.K;
  };
  const auto make = [&](Attention& attention, const AttentionCall& a) {
    attention.plan(a, threads);
    for (int t = 0; t < threads; ++t) attention.reserve(b.block.scratch[t]);
  };
  for (std::int64_t i = 0; i < layers(); ++i) {
    const BlockShape& shape = blocks_[i].shape();
    AttentionCall a = self_call(shape, blocks_[i].dtype(), b.block);
    a.key_starts = b.starts.data() + begin;
    if (call.cache) {
      call.cache->describe(a, begin, i * shape.kv_heads);
      a.dtype = product_dtype(a);
    }
    a.key_lengths = b.ends.data() + begin;
    a.query_offset = call.past + begin;
    a.causal = layers_[i].causal;
    if (layers_[i].distances) {
      a.distances = b.distances.zero();
      a.distance_stride = b.distances.stride();
    }
    sequences(a, end - begin, b.starts.data(), b.lengths.data());
    keep(a, call.attentions, call.keys, i);
    make(b.self[i * groups + g], a);
    if (!call.memory) continue;
    AttentionCall c = cross_call(shape, blocks_[i].dtype(), b.block, nullptr);
    call.memory->describe(c, i * N);
    c.dtype = product_dtype(c);
    c.key_starts = b.memory_starts.data() + begin;
    c.key_lengths = b.memory_lengths.data() + begin;
    sequences(c, seen, b.cross_starts.data(), b.cross_lengths.data());
    keep(c, call.cross_attentions, call.memory_keys, i);
    make(b.cross[i * groups + g], c);
  }
}

}  // namespace treadle

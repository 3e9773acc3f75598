#include "engine/product/packed_weights.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "engine/schedule/interrupt.h"

namespace treadle {
namespace {

// Floats are packed in blocks of so many along k, so that a block's rows and panel stay in L1.
constexpr std::int64_t kPackBlock = 64;
constexpr float kZeros[kPackBlock] = {};

// Writes `count` numbers as words that lie `step` apart. The last word is filled up with zeros.
template <class T>
void pack_words(const T* w, std::int64_t count, Word* to, std::int64_t step) {
  constexpr std::int64_t kPerWord = sizeof(Word) / sizeof(T);
  const std::int64_t whole = count / kPerWord, rest = count % kPerWord;
  for (std::int64_t i = 0; i < whole; ++i)
    std::memcpy(to + i * step, w + i * kPerWord, sizeof(Word));
  if (!rest) return;
  to[whole * step] = 0;
  std::memcpy(to + whole * step, w + whole * kPerWord, static_cast<std::size_t>(rest) * sizeof(T));
}

// Writes the weights of one output in one block, in a format of low precision, as words that lie
// `step` apart.
void pack_block(const Operand& operand, std::int64_t output, std::int64_t begin, std::int64_t count,
                Word* to, std::int64_t step) {
  const std::int64_t at = output * operand.row_stride + begin;
  const StoredMatrix& m = operand.weights;
  if (m.dtype == Dtype::bfloat16) {
    return pack_words(static_cast<const std::uint16_t*>(m.data) + at, count, to, step);
  }
  const std::int8_t* w = static_cast<const std::int8_t*>(m.data) + at;
  pack_words(w, count, to, step);
  to += words(Dtype::int8, count) * step;
  to[0] = m.scales[output * operand.scale_stride + begin / kSumBlock];
  // The sum is at most 256 x 128, which a float holds exactly.
  to[step] = static_cast<float>(std::accumulate(w, w + count, 0));
}

}  // namespace

void PackedWeights::shape_plain(std::int64_t outputs, const std::vector<Operand>& operands,
                                int lanes) {
  outputs_ = outputs;
  lanes_ = lanes;
  vectors_ = kPlainVectors;
  total_vectors_ = (outputs + lanes - 1) / lanes;
  panels_ = (total_vectors_ + vectors_ - 1) / vectors_;
  allocate(operands);
}

void PackedWeights::allocate(const std::vector<Operand>& operands) {
  dtype_ = operands.begin()->weights.dtype;
  for (const Operand& operand : operands) depth_ += row_words(dtype_, operand.k);
  panel_stride_ = depth_ * vectors_ * lanes_;
  if (operands.begin()->weights) weights_ = Buffer::uninitialized(total_vectors_ * lanes_ * depth_);
}

PackedWeights PackedWeights::plain(std::int64_t outputs, const std::vector<Operand>& operands,
                                   int lanes) {
  PackedWeights p;
  p.shape_plain(outputs, operands, lanes);
  p.pack(operands);
  return p;
}

PackedWeights PackedWeights::transposed(std::int64_t outputs, const std::vector<Operand>& operands,
                                        int lanes) {
  PackedWeights p;
  p.shape_plain(outputs, operands, lanes);
  for (std::int64_t panel = 0; panel < p.panels_; ++panel) {
    float* to = p.weights_.data() + panel * p.panel_stride_;
    const std::int64_t step = static_cast<std::int64_t>(p.vectors_of(panel)) * lanes;
    const std::int64_t first = panel * p.vectors_ * lanes;
    const std::int64_t columns = std::min(step, outputs - first);
    for (const Operand& operand : operands) {
      for (std::int64_t k = 0; k < operand.k; ++k, to += step) {
        std::copy_n(operand.weights.floats() + k * outputs + first, columns, to);
        std::fill(to + columns, to + step, 0.0f);
      }
      throw_if_stopped(static_cast<double>(operand.k * step));
    }
  }
  return p;
}

PackedWeights PackedWeights::gated(std::int64_t units, std::vector<int> gates,
                                   const std::vector<Operand>& operands, int lanes, bool share) {
  PackedWeights p;
  p.outputs_ = units;
  p.lanes_ = lanes;
  p.vectors_ = static_cast<int>(gates.size());
  p.gates_ = std::move(gates);
  p.panels_ = (units + lanes - 1) / lanes;
  p.shared_vectors_ = share ? treadle::shared_vectors(units, lanes) : 0;
  p.total_vectors_ =
      p.shared_vectors_ ? (p.panels_ - 1) * p.vectors_ + p.shared_vectors_ : p.panels_ * p.vectors_;
  p.allocate(operands);
  p.pack(operands);
  return p;
}

int PackedWeights::vectors_of(std::int64_t panel) const {
  return static_cast<int>(std::min<std::int64_t>(vectors_, total_vectors_ - panel * vectors_));
}

std::int64_t PackedWeights::output(std::int64_t panel, int vector, int lane) const {
  if (gates_.empty()) {
    const std::int64_t output = (panel * vectors_ + vector) * lanes_ + lane;
    return output < outputs_ ? output : -1;
  }
  int gate = vector;
  std::int64_t unit = panel * lanes_ + lane;
  if (shared_vectors_ && panel == panels_ - 1) {
    const int width = shared_vectors_ * lanes_ / kSharedGates, column = vector * lanes_ + lane;
    gate = column / width;
    unit = panel * lanes_ + column % width;
    if (gate >= vectors_) return -1;
  }
  return unit < outputs_ ? gates_[gate] * outputs_ + unit : -1;
}

void PackedWeights::pack(const std::vector<Operand>& operands) {
  if (!operands.begin()->weights) return;
  // Each block of int8 along k has its own scales.
  const std::int64_t most = dtype_ == Dtype::int8 ? kSumBlock : kPackBlock;
  for (std::int64_t panel = 0; panel < panels_; ++panel) {
    Word* block = weights_.data() + panel * panel_stride_;
    // Packing of floats writes the zeros beyond the outputs, too; packing of other formats does
    // not.
    const std::int64_t panel_words = depth_ * vectors_of(panel) * lanes_;
    if (dtype_ != Dtype::float32) std::fill_n(block, panel_words, Word{0});
    throw_if_stopped(static_cast<double>(panel_words));
    for (const Operand& operand : operands) {
      for (std::int64_t begin = 0; begin < operand.k; begin += most) {
        const std::int64_t count = std::min(operand.k - begin, most);
        if (dtype_ == Dtype::float32) {
          pack_floats(operand, panel, begin, count, block);
        } else {
          pack_low_precision(operand, panel, begin, count, block);
        }
        block += row_words(dtype_, count) * vectors_of(panel) * lanes_;
      }
    }
  }
}

// The rows of a vector are read side by side. If they were read one after another, each number
// would be written to another cache line.
void PackedWeights::pack_floats(const Operand& operand, std::int64_t panel, std::int64_t begin,
                                std::int64_t count, float* block) const {
  const int vectors = vectors_of(panel);
  for (int vector = 0; vector < vectors; ++vector) {
    const float* rows[kMostLanes];
    for (int lane = 0; lane < lanes_; ++lane) {
      const std::int64_t from = output(panel, vector, lane);
      rows[lane] = from < 0 ? kZeros : operand.weights.floats() + from * operand.row_stride + begin;
    }
    float* to = block + vector * lanes_;
    for (std::int64_t k = 0; k < count; ++k, to += vectors * lanes_) {
      for (int lane = 0; lane < lanes_; ++lane) to[lane] = rows[lane][k];
    }
  }
}

void PackedWeights::pack_low_precision(const Operand& operand, std::int64_t panel,
                                       std::int64_t begin, std::int64_t count, Word* block) const {
  const std::int64_t step = static_cast<std::int64_t>(vectors_of(panel)) * lanes_;
  for (std::int64_t column = 0; column < step; ++column) {
    const auto vector = static_cast<int>(column / lanes_), lane = static_cast<int>(column % lanes_);
    const std::int64_t from = output(panel, vector, lane);
    if (from >= 0) pack_block(operand, from, begin, count, block + column, step);
  }
}

void PackedWeights::read(std::int64_t output, std::int64_t K, float* to) const {
  const std::int64_t width = static_cast<std::int64_t>(vectors_) * lanes_, panel = output / width;
  const std::int64_t step = static_cast<std::int64_t>(vectors_of(panel)) * lanes_;
  const Word* from = weights_.data() + panel * panel_stride_ + output % width;
  if (dtype_ == Dtype::float32) {
    for (std::int64_t k = 0; k < K; ++k) to[k] = from[k * step];
    return;
  }
  const auto bits = [&](std::int64_t word) {
    std::uint32_t found;
    std::memcpy(&found, from + word * step, sizeof found);
    return found;
  };
  if (dtype_ == Dtype::bfloat16) {
    for (std::int64_t k = 0; k < K; ++k) {
      const std::uint32_t upper = k % 2 ? bits(k / 2) & 0xFFFF0000u : bits(k / 2) << 16;
      std::memcpy(to + k, &upper, sizeof upper);
    }
    return;
  }
  for (std::int64_t begin = 0; begin < K; begin += kSumBlock) {
    const std::int64_t count = std::min(K - begin, kSumBlock);
    const float scale = from[words(Dtype::int8, count) * step];
    for (std::int64_t k = 0; k < count; ++k) {
      const auto integer = static_cast<std::int8_t>(bits(k / 4) >> (k % 4 * 8));
      to[begin + k] = scale * static_cast<float>(integer);
    }
    from += row_words(Dtype::int8, count) * step;
  }
}

Buffer PackedWeights::pack_vector(const float* values) const {
  Buffer packed(total_vectors_ * lanes_);
  const std::vector<std::int64_t> from = outputs();
  for (std::size_t i = 0; i < from.size(); ++i) {
    if (from[i] >= 0) packed.data()[i] = values[from[i]];
  }
  return packed;
}

std::vector<std::int64_t> PackedWeights::outputs() const {
  std::vector<std::int64_t> found;
  found.reserve(sums());
  for (std::int64_t vector = 0; vector < total_vectors_; ++vector) {
    const std::int64_t panel = vector / vectors_;
    for (int lane = 0; lane < lanes_; ++lane) {
      found.push_back(output(panel, static_cast<int>(vector - panel * vectors_), lane));
    }
  }
  return found;
}

}  // namespace treadle

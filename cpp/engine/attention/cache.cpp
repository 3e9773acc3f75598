#include "engine/attention/cache.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>

namespace treadle {
namespace {

std::int64_t bytes_of(Dtype dtype) {
  return dtype == Dtype::float32 ? 4 : dtype == Dtype::bfloat16 ? 2 : 1;
}

std::uint32_t bits_of(float x) {
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}
float float_of(std::uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

// An order that moves so many bytes is made in place, which takes some 10 ms at most. A larger one
// is made in other memory if there is any, so that Ctrl-C may end it.
constexpr std::int64_t kReorderAtOnce = 64 << 20;

constexpr std::uint32_t kMagnitude = 0x7FFFFFFF, kInfinity = 0x7F800000;  // bits of a float32

// Rounds the bits of a float32 to their upper half: to the nearest, ties to even; NaN stays NaN.
void round_to_bfloat16(const float* x, std::int64_t n, std::uint16_t* out) {
  for (std::int64_t i = 0; i < n; ++i) {
    const std::uint32_t bits = bits_of(x[i]), upper = bits >> 16;
    const std::uint32_t rounded = (bits + 0x7FFF + (upper & 1)) >> 16;
    out[i] = static_cast<std::uint16_t>((bits & kMagnitude) > kInfinity ? upper | 0x40 : rounded);
  }
}

// Writes a vector as integers -127 to 127 and returns their scale max |x| / 127. A scale below the
// smallest normal number counts as zero. A vector that is not finite has the scale NaN, so that all
// of it reads as NaN.
float quantize(const float* x, std::int64_t n, std::int8_t* out) {
  // Magnitudes and their bits have the same order, and compilers vectorize a maximum of integers.
  std::int32_t most = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    most = std::max(most, static_cast<std::int32_t>(bits_of(x[i]) & kMagnitude));
  }
  const bool finite = static_cast<std::uint32_t>(most) < kInfinity;
  const float scale = finite ? float_of(static_cast<std::uint32_t>(most)) / 127 : std::nanf("");
  if (!(scale >= 0x1p-126f)) {
    std::fill_n(out, n, std::int8_t{0});
    return finite ? 0 : scale;
  }
  // The floats between 2^23 and 2^24 are integers, so this sum rounds to the nearest, ties to even.
  // The quotient of the largest magnitude may round to slightly more than 127.
  constexpr float kIntegers = 0x1.8p23f;
  for (std::int64_t i = 0; i < n; ++i) {
    const float rounded = (x[i] / scale + kIntegers) - kIntegers;
    out[i] = static_cast<std::int8_t>(std::min(127.0f, std::max(-127.0f, rounded)));
  }
  return scale;
}

}  // namespace

CachedRows::CachedRows(Dtype dtype, std::int64_t heads, std::int64_t capacity, std::int64_t size,
                       std::int64_t batch)
    : dtype_(dtype),
      heads_(heads),
      capacity_(capacity),
      size_(size),
      numbers_(Buffer::uninitialized((batch * heads * capacity * size * bytes_of(dtype) + 3) / 4)),
      scales_(Buffer::uninitialized(dtype == Dtype::int8 ? batch * heads * capacity : 0)) {}

const std::uint8_t* CachedRows::vector(std::int64_t b, std::int64_t head, std::int64_t at) const {
  return reinterpret_cast<const std::uint8_t*>(numbers_.data()) +
         index(b, head, at) * size_ * bytes_of(dtype_);
}

const float* CachedRows::scale(std::int64_t b, std::int64_t head, std::int64_t at) const {
  return dtype_ == Dtype::int8 ? scales_.data() + index(b, head, at) : nullptr;
}

// Calls piece(head, first, tokens) for pieces of the tokens of all heads, until interrupted.
template <class Piece>
void CachedRows::in_pieces(std::int64_t count, Interrupt& interrupt, Piece&& piece) {
  constexpr std::int64_t kPieceFloats = 1 << 18;
  const std::int64_t most = std::max<std::int64_t>(1, kPieceFloats / size_);
  for (std::int64_t head = 0; head < heads_; ++head) {
    for (std::int64_t first = 0; first < count && !interrupt.stopped(); first += most) {
      const std::int64_t tokens = std::min(most, count - first);
      piece(head, first, tokens);
      interrupt.progress(static_cast<double>(tokens * size_));
    }
  }
}

void CachedRows::store(std::int64_t b, std::int64_t at, const float* x, std::int64_t head_stride,
                       std::int64_t token_stride, std::int64_t count, Interrupt& interrupt) {
  // Where there is nothing to be stored, x may be null, which memcpy must not get.
  in_pieces(count, interrupt, [&](std::int64_t head, std::int64_t first, std::int64_t tokens) {
    put(b, head, at + first, x + head * head_stride + first * token_stride, token_stride, tokens);
  });
}

void CachedRows::put(std::int64_t b, std::int64_t head, std::int64_t at, const float* from,
                     std::int64_t token_stride, std::int64_t count) {
  const std::int64_t vector_bytes = size_ * bytes_of(dtype_);
  auto* to = const_cast<std::uint8_t*>(vector(b, head, at));
  auto* scale_to = const_cast<float*>(scale(b, head, at));
  if (dtype_ == Dtype::float32 && token_stride == size_) {
    std::memcpy(to, from, static_cast<std::size_t>(count * vector_bytes));
    return;
  }
  for (std::int64_t t = 0; t < count; ++t, to += vector_bytes, from += token_stride) {
    switch (dtype_) {
      case Dtype::float32:
        std::memcpy(to, from, static_cast<std::size_t>(vector_bytes));
        break;
      case Dtype::bfloat16:
        round_to_bfloat16(from, size_, reinterpret_cast<std::uint16_t*>(to));
        break;
      case Dtype::int8:
        scale_to[t] = quantize(from, size_, reinterpret_cast<std::int8_t*>(to));
        break;
    }
  }
}

void CachedRows::copy(std::int64_t target, const CachedRows& from, std::int64_t source,
                      std::int64_t count, Interrupt& interrupt) {
  in_pieces(count, interrupt, [&](std::int64_t head, std::int64_t first, std::int64_t tokens) {
    std::memcpy(const_cast<std::uint8_t*>(vector(target, head, first)),
                from.vector(source, head, first),
                static_cast<std::size_t>(tokens * size_ * bytes_of(dtype_)));
    if (dtype_ == Dtype::int8) {
      std::memcpy(const_cast<float*>(scale(target, head, first)), from.scale(source, head, first),
                  static_cast<std::size_t>(tokens) * sizeof(float));
    }
  });
}

void describe_heads(AttentionCall& call, const CachedRows& keys, const CachedRows& values,
                    std::int64_t head) {
  const Dtype dtype = keys.dtype();
  const std::int64_t size = keys.size(), capacity = keys.capacity();
  call.E = size;
  call.F = values.size();
  call.stored.dtype = dtype;
  const auto floats = [&](const CachedRows& rows) {
    return HeadView<const float>{reinterpret_cast<const float*>(rows.vector(0, head, 0)), 0,
                                 capacity * rows.size(), rows.size()};
  };
  const auto stored = [&](const CachedRows& rows) {
    const std::int64_t bytes = rows.size() * bytes_of(dtype);
    return HeadView<const std::uint8_t>{rows.vector(0, head, 0), 0, capacity * bytes, bytes};
  };
  if (dtype == Dtype::float32) {
    call.k = floats(keys);
    call.v = floats(values);
    return;
  }
  call.stored.k = stored(keys);
  call.stored.v = stored(values);
  call.stored.k_scale = {keys.scale(0, head, 0), 0, capacity, 1};
  call.stored.v_scale = {values.scale(0, head, 0), 0, capacity, 1};
}

namespace {

std::shared_ptr<KeyValueCache::Storage> make_storage(const KeyValueCache::Shape& s,
                                                     std::int64_t capacity, std::int64_t batch) {
  return std::make_shared<KeyValueCache::Storage>(
      KeyValueCache::Storage{CachedRows(s.dtype, s.heads, capacity, s.key_size, batch),
                             CachedRows(s.dtype, s.heads, capacity, s.value_size, batch)});
}

void copy_sequence(KeyValueCache::Storage& to, std::int64_t target,
                   const KeyValueCache::Storage& from, std::int64_t source, std::int64_t length,
                   Interrupt& interrupt) {
  to.keys.copy(target, from.keys, source, length, interrupt);
  to.values.copy(target, from.values, source, length, interrupt);
}

}  // namespace

KeyValueCache::KeyValueCache(const Shape& shape, std::int64_t capacity)
    : shape_(shape),
      capacity_(capacity),
      storage_(make_storage(shape, capacity, shape.batch)),
      lengths_(static_cast<std::size_t>(shape.batch), 0) {}

KeyValueCache::KeyValueCache(const KeyValueCache& other, Interrupt& interrupt)
    : shape_(other.shape_),
      capacity_(other.capacity_),
      storage_(make_storage(shape_, capacity_, shape_.batch)),
      lengths_(other.lengths_) {
  for (std::int64_t b = 0; b < shape_.batch; ++b) {
    copy_sequence(*storage_, b, *other.storage_, b, lengths_[b], interrupt);
  }
}

std::int64_t KeyValueCache::longest() const {
  return *std::max_element(lengths_.begin(), lengths_.end());
}

bool KeyValueCache::reserve(std::int64_t tokens, Interrupt& interrupt) {
  if (tokens <= capacity_) return true;
  const std::int64_t capacity = std::max(tokens, 2 * capacity_);
  auto larger = make_storage(shape_, capacity, shape_.batch);
  for (std::int64_t b = 0; b < shape_.batch; ++b) {
    copy_sequence(*larger, b, *storage_, b, lengths_[b], interrupt);
  }
  if (interrupt.stopped()) return false;
  storage_ = std::move(larger);
  capacity_ = capacity;
  return true;
}

void KeyValueCache::append(const HeadView<const float>& keys, const HeadView<const float>& values,
                           const std::int64_t* counts, Interrupt& interrupt) {
  std::int64_t most = 0;
  for (std::int64_t b = 0; b < shape_.batch; ++b) most = std::max(most, lengths_[b] + counts[b]);
  if (!reserve(most, interrupt)) return;
  for (std::int64_t b = 0; b < shape_.batch; ++b) {
    storage_->keys.store(b, lengths_[b], keys.data + b * keys.b, keys.n, keys.s, counts[b],
                         interrupt);
    storage_->values.store(b, lengths_[b], values.data + b * values.b, values.n, values.s,
                           counts[b], interrupt);
  }
  // The new tokens exist from here on, those of all sequences together.
  if (interrupt.stopped()) return;
  for (std::int64_t b = 0; b < shape_.batch; ++b) lengths_[b] += counts[b];
}

void KeyValueCache::truncate(const std::int64_t* lengths) {
  std::copy_n(lengths, shape_.batch, lengths_.begin());
}

void KeyValueCache::reorder(const std::int64_t* sources, Interrupt& interrupt) {
  const std::int64_t B = shape_.batch;
  std::vector<std::int64_t> lengths(B);
  std::int64_t tokens = 0;
  for (std::int64_t b = 0; b < B; ++b) {
    lengths[b] = lengths_[sources[b]];
    if (sources[b] != b) tokens += lengths[b];
  }
  const std::int64_t vectors = shape_.heads * (shape_.key_size + shape_.value_size);
  std::shared_ptr<Storage> other;
  if (tokens * vectors * bytes_of(shape_.dtype) > kReorderAtOnce) {
    try {
      other = make_storage(shape_, capacity_, B);
    } catch (const std::bad_alloc&) {  // Ctrl-C then has to wait
    }
  }
  if (other) {
    for (std::int64_t b = 0; b < B; ++b) {
      copy_sequence(*other, b, *storage_, sources[b], lengths[b], interrupt);
    }
    if (interrupt.stopped()) return;
    storage_ = std::move(other);
  } else {
    reorder_in_place(sources, lengths);
  }
  lengths_ = std::move(lengths);
}

void KeyValueCache::reorder_in_place(const std::int64_t* sources,
                                     const std::vector<std::int64_t>& lengths) {
  const std::int64_t B = shape_.batch;
  // A sequence may be overwritten when no other is still to be copied from it. The copies that then
  // remain form circles, of each of which one sequence waits in `aside`.
  std::vector<std::int64_t> readers(B, 0), ready;
  std::vector<bool> done(B);
  ready.reserve(B);
  for (std::int64_t b = 0; b < B; ++b) {
    done[b] = sources[b] == b;
    if (!done[b]) ++readers[sources[b]];
  }
  std::vector<std::int64_t> left = readers;
  for (std::int64_t b = 0; b < B; ++b) {
    if (!done[b] && left[b] == 0) ready.push_back(b);
  }
  // The order of copies and the room for a circle are made before anything changes.
  std::vector<bool> pending(B);
  for (std::int64_t b = 0; b < B; ++b) pending[b] = !done[b];
  for (std::size_t i = 0; i < ready.size(); ++i) {
    const std::int64_t b = ready[i], source = sources[b];
    pending[b] = false;
    if (--left[source] == 0 && pending[source]) ready.push_back(source);
  }
  const auto circle = std::find(pending.begin(), pending.end(), true);
  std::shared_ptr<Storage> aside;
  if (circle != pending.end()) aside = make_storage(shape_, longest(), 1);

  Interrupt never(nullptr);  // an order of which a part is done would be neither old nor new
  const auto copy = [&](Storage& to, std::int64_t target, const Storage& from, std::int64_t source,
                        std::int64_t length) {
    copy_sequence(to, target, from, source, length, never);
  };
  for (const std::int64_t b : ready) copy(*storage_, b, *storage_, sources[b], lengths[b]);
  for (std::int64_t first = 0; first < B; ++first) {
    if (!pending[first]) continue;
    copy(*aside, 0, *storage_, first, lengths_[first]);
    std::int64_t b = first;
    for (; sources[b] != first; b = sources[b]) {
      copy(*storage_, b, *storage_, sources[b], lengths[b]);
      pending[b] = false;
    }
    copy(*storage_, b, *aside, 0, lengths[b]);
    pending[b] = false;
  }
}

void KeyValueCache::describe(AttentionCall& call) const {
  call.kv_heads = shape_.heads;
  call.K = longest();
  call.E = shape_.key_size;
  call.F = shape_.value_size;
  call.key_lengths = lengths_.data();
  const auto heads = [&](const CachedRows& rows) {
    const std::int64_t token = rows.size() * bytes_of(shape_.dtype), head = token * capacity_;
    return HeadView<const std::uint8_t>{rows.vector(0, 0, 0), head * shape_.heads, head, token};
  };
  const HeadView<const std::uint8_t> keys = heads(storage_->keys), values = heads(storage_->values);
  if (shape_.dtype == Dtype::float32) {
    const auto floats = [](const HeadView<const std::uint8_t>& view) {
      return HeadView<const float>{reinterpret_cast<const float*>(view.data), view.b / 4,
                                   view.n / 4, view.s / 4};
    };
    call.k = floats(keys);
    call.v = floats(values);
    call.stored.dtype = Dtype::float32;
  } else {
    const std::int64_t row = capacity_ * shape_.heads;
    call.stored = {shape_.dtype,
                   keys,
                   values,
                   {storage_->keys.scale(0, 0, 0), row, capacity_, 1},
                   {storage_->values.scale(0, 0, 0), row, capacity_, 1}};
  }
}

}  // namespace treadle

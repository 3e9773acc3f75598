// Keys and values of the tokens of each sequence so far, as incremental decoding carries them.
//
// Each of B sequences has keys [N, K, E] and values [N, K, F] with a length of its own, K being the
// capacity. They are stored as float32, as bfloat16 (rounded to the nearest, even in the middle) or
// as int8, where a vector x has the scale s = max |x| / 127 and the integers round(x / s). A call
// of attention reads them as they lie.
//
// A call that throws changes nothing. The cache is not thread-safe; its owner sees to that.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/attention/attention.h"
#include "kernels/table.h"
#include "runtime/buffer.h"

namespace treadle {

// Vectors [B, N, K, size] of a cache, contiguous, and the scales [B, N, K] of int8.
class CachedRows {
 public:
  CachedRows(Dtype dtype, std::int64_t heads, std::int64_t capacity, std::int64_t size,
             std::int64_t batch);

  // Stores the vectors x[h, 0 .. count) of sequence b at positions from `at` on; x has a stride for
  // heads and one for tokens, in floats.
  void store(std::int64_t b, std::int64_t at, const float* x, std::int64_t head_stride,
             std::int64_t token_stride, std::int64_t count);
  // Copies the first `count` vectors of every head from sequence `source` of `from` to `target`.
  void copy(std::int64_t target, const CachedRows& from, std::int64_t source, std::int64_t count);

  Dtype dtype() const { return dtype_; }
  std::int64_t capacity() const { return capacity_; }
  std::int64_t size() const { return size_; }
  // The first vector of a head; strides follow from the shape.
  const std::uint8_t* vector(std::int64_t b, std::int64_t head, std::int64_t at) const;
  const float* scale(std::int64_t b, std::int64_t head, std::int64_t at) const;

 private:
  std::int64_t index(std::int64_t b, std::int64_t head, std::int64_t at) const {
    return (b * heads_ + head) * capacity_ + at;
  }

  Dtype dtype_;
  std::int64_t heads_, capacity_, size_;
  Buffer numbers_, scales_;
};

class KeyValueCache {
 public:
  struct Shape {
    std::int64_t batch, heads, key_size, value_size;
    Dtype dtype;
  };
  // Keys and values that somebody may look at after the cache has grown and let go of them.
  struct Storage {
    CachedRows keys, values;
  };

  KeyValueCache(const Shape& shape, std::int64_t capacity);
  KeyValueCache(const KeyValueCache& other);  // with memory of its own, of the same capacity
  KeyValueCache& operator=(const KeyValueCache&) = delete;

  const Shape& shape() const { return shape_; }
  std::int64_t capacity() const { return capacity_; }
  const std::vector<std::int64_t>& lengths() const { return lengths_; }
  std::int64_t longest() const;
  const std::shared_ptr<Storage>& storage() const { return storage_; }

  // Makes room for sequences of so many tokens: at least twice the capacity of before, if that is
  // too little.
  void reserve(std::int64_t tokens);
  // Puts the first counts[b] of the new tokens, keys [B, N, S, E] and values [B, N, S, F], behind
  // those of sequence b.
  void append(const HeadView<const float>& keys, const HeadView<const float>& values,
              const std::int64_t* counts);
  // Sequence b keeps its first lengths[b] tokens, at most as many as it has.
  void truncate(const std::int64_t* lengths);
  // Sequence b becomes what sequence sources[b] was. Sequences that stay are not touched, and each
  // other one is copied once.
  void reorder(const std::int64_t* sources);

  // Lets queries attend to the cache: fills in the keys, the values and their lengths.
  void describe(AttentionCall& call) const;

 private:
  Shape shape_;
  std::int64_t capacity_;
  std::vector<std::int64_t> lengths_;
  std::shared_ptr<Storage> storage_;
};

}  // namespace treadle

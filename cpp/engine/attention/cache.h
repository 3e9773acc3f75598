// A cache holds the keys and values of each sequence's tokens so far, for incremental decoding.
//
// Each of B sequences has keys [N, K, E] and values [N, K, F] and its length, K being the capacity
// of all. They are stored as float32, as bfloat16 (rounded to the nearest, ties to even) or
// as int8, where a vector x has the scale s = max |x| / 127 and the integers round(x / s). A call
// of attention reads them as they lie.
//
// A call that throws changes nothing. The cache is not thread-safe; its owner sees to that.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/attention/attention.h"
#include "engine/schedule/interrupt.h"
#include "kernels/table.h"
#include "runtime/buffer.h"

namespace treadle {

// The contiguous vectors [B, N, K, size] of a cache, and the scales [B, N, K] of int8.
class CachedRows {
 public:
  CachedRows(Dtype dtype, std::int64_t heads, std::int64_t capacity, std::int64_t size,
             std::int64_t batch);

  // Stores the vectors x[h, 0 .. count) of sequence b at positions from `at` on. The strides of x
  // for heads and for tokens count floats.
  void store(std::int64_t b, std::int64_t at, const float* x, std::int64_t head_stride,
             std::int64_t token_stride, std::int64_t count, Interrupt& interrupt);
  // Stores `count` vectors of one head, at positions from `at` on.
  void put(std::int64_t b, std::int64_t head, std::int64_t at, const float* x,
           std::int64_t token_stride, std::int64_t count);
  // Copies the first `count` vectors of every head from sequence `source` of `from` to `target`.
  // Both leave early when interrupted.
  void copy(std::int64_t target, const CachedRows& from, std::int64_t source, std::int64_t count,
            Interrupt& interrupt);

  Dtype dtype() const { return dtype_; }
  std::int64_t capacity() const { return capacity_; }
  std::int64_t size() const { return size_; }
  std::int64_t bytes() const {
    return (numbers_.size() + scales_.size()) * static_cast<std::int64_t>(sizeof(float));
  }
  // Return the vector, and its scale, at position `at` of a head; strides follow from the shape.
  const std::uint8_t* vector(std::int64_t b, std::int64_t head, std::int64_t at) const;
  const float* scale(std::int64_t b, std::int64_t head, std::int64_t at) const;

 private:
  std::int64_t index(std::int64_t b, std::int64_t head, std::int64_t at) const {
    return (b * heads_ + head) * capacity_ + at;
  }
  template <class Piece>
  void in_pieces(std::int64_t count, Interrupt& interrupt, Piece&& piece);

  Dtype dtype_;
  std::int64_t heads_, capacity_, size_;
  Buffer numbers_, scales_;
};

// Lets queries attend to keys and values of the heads from `head` on, those of sequence 0. A caller
// who sets key_starts finds the others: a sequence has heads * capacity vectors.
void describe_heads(AttentionCall& call, const CachedRows& keys, const CachedRows& values,
                    std::int64_t head);

class KeyValueCache {
 public:
  struct Shape {
    std::int64_t batch, heads, key_size, value_size;
    Dtype dtype;
  };
  // Somebody may still look at these keys and values after the cache has grown and dropped them.
  struct Storage {
    CachedRows keys, values;
  };

  KeyValueCache(const Shape& shape, std::int64_t capacity);
  // Copies all memory and keeps the capacity. The copy is incomplete when interrupted.
  KeyValueCache(const KeyValueCache& other, Interrupt& interrupt);
  KeyValueCache& operator=(const KeyValueCache&) = delete;

  const Shape& shape() const { return shape_; }
  std::int64_t capacity() const { return capacity_; }
  const std::vector<std::int64_t>& lengths() const { return lengths_; }
  std::int64_t longest() const;
  const std::shared_ptr<Storage>& storage() const { return storage_; }

  // An interrupt ends these calls before anything has changed.

  // Makes room for sequences of so many tokens. If the capacity is too small, it at least doubles.
  // Returns false when interrupted.
  bool reserve(std::int64_t tokens, Interrupt& interrupt);
  // Puts the first counts[b] of the new tokens, keys [B, N, S, E] and values [B, N, S, F], behind
  // those of sequence b.
  void append(const HeadView<const float>& keys, const HeadView<const float>& values,
              const std::int64_t* counts, Interrupt& interrupt);
  // Sequence b keeps its first lengths[b] tokens, at most as many as it has.
  void truncate(const std::int64_t* lengths);
  // Replaces sequence b by a copy of what sequence sources[b] was. Sequences that stay are not
  // touched, and each other sequence is copied once. Where these have many bytes and there is
  // memory, all sequences are copied to other memory, which an interrupt may end.
  void reorder(const std::int64_t* sources, Interrupt& interrupt);

  // Lets queries attend to the cache: fills in the keys, the values and their lengths.
  void describe(AttentionCall& call) const;

 private:
  void reorder_in_place(const std::int64_t* sources, const std::vector<std::int64_t>& lengths);

  Shape shape_;
  std::int64_t capacity_;
  std::shared_ptr<Storage> storage_;  // first: where it finds no memory, nothing was written to
  std::vector<std::int64_t> lengths_;
};

}  // namespace treadle

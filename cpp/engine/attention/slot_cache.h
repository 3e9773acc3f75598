// A SlotCache holds the keys and values of live sequences that a search reorders at every step.
//
// Each row of a batch has a slot, where the vectors of all its heads lie: keys and values [heads,
// capacity, E]. A row that moves keeps its slot, and one that is repeated is copied to a slot that
// nobody has any more. A stack of layers has one cache for the heads of all of them, so that a call
// that fails leaves no layer ahead of the others.
//
// A call that throws, or is interrupted, changes nothing. The cache is not thread-safe; its owner
// sees to that.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/attention/cache.h"

namespace treadle {

class SlotCache {
 public:
  struct Shape {
    std::int64_t heads, size;  // of all layers; E
    Dtype dtype;
  };

  // Makes `rows` rows without a token.
  SlotCache(const Shape& shape, std::int64_t rows, std::int64_t capacity);
  // Copies the first lengths[row] tokens of all rows. The copy is incomplete when interrupted.
  SlotCache(const SlotCache& other, const std::int64_t* lengths, Interrupt& interrupt);
  SlotCache& operator=(const SlotCache&) = delete;

  std::int64_t rows() const { return static_cast<std::int64_t>(slots_.size()); }
  std::int64_t capacity() const { return keys_.capacity(); }  // tokens of a row
  std::int64_t bytes() const { return keys_.bytes() + values_.bytes(); }

  // Makes room for rows of so many tokens, of which the first lengths[row] are kept. Where there is
  // not enough, it at least doubles. Returns false when interrupted.
  bool reserve(std::int64_t tokens, const std::int64_t* lengths, Interrupt& interrupt);
  // Stores the vectors of a token, keys and values [heads, E] of some heads. Several threads may
  // store different tokens at once.
  struct Heads {
    std::int64_t first, count;
  };
  void put(std::int64_t row, std::int64_t at, const Heads& heads, const float* keys,
           const float* values);
  // Row r becomes what row sources[r] was, and there are `count` rows; lengths[row] are the tokens
  // of the old rows. Returns false when interrupted.
  bool reorder(const std::int64_t* sources, std::int64_t count, const std::int64_t* lengths,
               Interrupt& interrupt);

  // Lets the rows from `row` on attend to the heads from `head` on: fills in keys and values. The
  // caller sets their numbers.
  void describe(AttentionCall& call, std::int64_t row, std::int64_t head) const;

 private:
  // Moves all rows to memory for so many slots and tokens.
  bool move(std::int64_t room, std::int64_t capacity, const std::int64_t* lengths,
            Interrupt& interrupt);
  void set_starts();

  Shape shape_;
  std::int64_t room_;  // slots
  CachedRows keys_, values_;
  std::vector<std::int64_t> slots_;   // [rows]
  std::vector<std::int64_t> starts_;  // [rows]: vectors before those of a row
};

}  // namespace treadle

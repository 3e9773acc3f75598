// Tables of what positions do to a block's queries, keys and scores. They grow with the longest
// sequence so far, and the numbers of a position do not depend on how far they have grown.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "engine/schedule/interrupt.h"
#include "runtime/buffer.h"

namespace treadle {

// Turns are the cosines and sines of rotary positions: those of position * frequency, times a
// factor. The angle is rounded to float32, as the models that were trained with it had it.
class Turns {
 public:
  Turns(std::vector<float> frequencies, float factor)
      : frequencies_(std::move(frequencies)), factor_(factor) {}

  bool operator==(const Turns& other) const {
    return frequencies_ == other.frequencies_ && factor_ == other.factor_;
  }
  std::int64_t half() const { return static_cast<std::int64_t>(frequencies_.size()); }

  // A Table holds the turns of the first positions, [positions, 2 * half].
  struct Table {
    Buffer numbers;
    std::int64_t positions = 0;
  };
  // Makes the table as long as so many positions. Returns false when interrupted.
  bool grow(Table& table, std::int64_t positions, Interrupt& interrupt) const;

 private:
  std::vector<float> frequencies_;
  float factor_;
};

// Distances are T5's relative positions: a number for each head and distance from query to key.
class Distances {
 public:
  // `numbers` [heads, 2 * reach + 1] are those of the distances -reach to reach; farther keys have
  // the same number as the last.
  Distances(std::int64_t heads, std::int64_t reach, const float* numbers);

  std::int64_t heads() const { return heads_; }

  // A Table holds the numbers of all distances between the first positions, [heads, stride], that
  // of distance 0 at `positions - 1`.
  struct Table {
    Buffer numbers;
    std::int64_t positions = 0;

    std::int64_t stride() const { return 2 * positions - 1; }
    const float* zero() const { return numbers.data() + positions - 1; }
  };
  void grow(Table& table, std::int64_t positions) const;

 private:
  std::int64_t heads_, reach_;
  Buffer numbers_;
};

}  // namespace treadle

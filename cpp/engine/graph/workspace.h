// A Workspace is the memory of one running call of a program: blocks that values share, and that
// serve the next values when nobody needs them any more.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/graph/tensor.h"

namespace treadle::graph {

// A Block is memory on a cache line that `users` values share.
struct Block {
  char* data;
  int size_class;
  int users;
};

class Workspace {
 public:
  Workspace() = default;
  ~Workspace();
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  // Sets how many bytes the blocks may have together; take() throws std::bad_alloc beyond.
  void limit(std::int64_t bytes) { limit_ = bytes; }

  // Returns a block of at least so many bytes, with one user.
  Block* take(std::int64_t bytes);
  void share(Block* block) { ++block->users; }
  void release(Block* block);

  // Gives memory back to the system if there is much of it: a program shall not hold the memory of
  // its longest call for ever. No block is in use.
  void trim();

  std::int64_t bytes() const { return bytes_; }

 private:
  static int size_class(std::int64_t bytes);
  static std::int64_t class_bytes(int size_class);

  // Sizes grow by quarters of a power of two, so that at most a fifth of a block is unused.
  static constexpr int kClasses = 4 * 50;
  static constexpr std::int64_t kLeast = 256, kKept = std::int64_t{64} << 20;

  std::vector<Block*> free_[kClasses];
  std::vector<std::unique_ptr<Block>> blocks_;
  std::int64_t bytes_ = 0, limit_ = INT64_MAX;
};

}  // namespace treadle::graph

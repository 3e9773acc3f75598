#include "engine/graph/workspace.h"

#include <new>

#include "runtime/aligned_memory.h"

namespace treadle::graph {

Workspace::~Workspace() {
  for (const auto& block : blocks_) free_aligned(block->data);
}

std::int64_t Workspace::class_bytes(int size_class) {
  return (kLeast + kLeast / 4 * (size_class % 4)) << (size_class / 4);
}

int Workspace::size_class(std::int64_t bytes) {
  if (bytes <= kLeast) return 0;
  const int power = 63 - __builtin_clzll(static_cast<unsigned long long>(bytes - 1)) - 8;
  int size_class = 4 * power;  // class_bytes(size_class) < bytes <= twice as much
  while (class_bytes(size_class) < bytes) ++size_class;
  return size_class;
}

Block* Workspace::take(std::int64_t bytes) {
  if (bytes > (std::int64_t{1} << 56)) throw std::bad_alloc();
  const int wanted = size_class(bytes);
  std::vector<Block*>& free = free_[wanted];
  if (!free.empty()) {
    Block* block = free.back();
    free.pop_back();
    block->users = 1;
    return block;
  }
  const std::int64_t size = class_bytes(wanted);
  if (size > limit_ - bytes_) throw std::bad_alloc();
  blocks_.reserve(blocks_.size() + 1);
  free.reserve(blocks_.size() + 1);  // so that release() never fails
  auto block = std::make_unique<Block>();
  block->data = static_cast<char*>(allocate_aligned(64, static_cast<std::size_t>(size)));
  block->size_class = wanted;
  block->users = 1;
  bytes_ += size;
  blocks_.push_back(std::move(block));
  return blocks_.back().get();
}

void Workspace::release(Block* block) {
  if (--block->users == 0) free_[block->size_class].push_back(block);
}

void Workspace::trim() {
  if (bytes_ <= kKept) return;
  for (auto& free : free_) free.clear();
  for (const auto& block : blocks_) free_aligned(block->data);
  blocks_.clear();
  bytes_ = 0;
}

}  // namespace treadle::graph

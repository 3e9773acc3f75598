// EncodedRows holds rows of floats as the words of a format (kernels/table.h), as a product reads
// them.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/table.h"
#include "runtime/buffer.h"

namespace treadle {

class EncodedRows {
 public:
  // Makes room for `rows` rows of `size` floats. float32 needs none: its words are the floats.
  void reserve(Dtype dtype, std::int64_t rows, std::int64_t size) {
    if (dtype == Dtype::float32) return;
    const std::int64_t words = rows * row_words(dtype, size);
    if (words_.size() < words) words_ = Buffer::uninitialized(words);
    if (static_cast<std::int64_t>(rows_.size()) < rows) rows_.resize(rows);
  }

  // Encodes the rows [first, first + count) of x, of `size` floats each, into the rows of the same
  // numbers. `kernels` are those of `dtype`.
  void encode(const ProductKernels& kernels, Dtype dtype, const float* const* x, std::int64_t first,
              std::int64_t count, std::int64_t size) {
    const std::int64_t stride = row_words(dtype, size);
    Word* to = words_.data() + first * stride;
    for (std::int64_t r = 0; r < count; ++r) rows_[first + r] = to + r * stride;
    kernels.encode({count, size, x + first, to, stride});
  }

  const Word* const* rows() const { return rows_.data(); }
  std::int64_t floats() const { return words_.size(); }

 private:
  Buffer words_;
  std::vector<const Word*> rows_;
};

}  // namespace treadle

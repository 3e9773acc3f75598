// The checks that all objects made of transformer blocks share: sizes, weights by name, ragged
// batches.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bindings/arrays.h"
#include "bindings/named_values.h"
#include "engine/transformer/block_call.h"

namespace treadle {

// Returns the shape of a block as torch.nn.TransformerEncoderLayer has it. Throws ValueError unless
// its sizes are such that the engine's sums of them stay in 64 bits, and heads divide `hidden` into
// sizes that attention takes.
BlockShape check_plain_shape(const std::string& function, std::int64_t hidden, std::int64_t heads,
                             std::int64_t feed_forward, const py::object& activation,
                             bool norm_first, float eps);

// Reads the weights of a block by the names of torch.nn.TransformerEncoderLayer's state dict or,
// with cross attention, TransformerDecoderLayer's. A bias and an array of a norm may be left out.
// Throws TypeError or ValueError for anything else. `values` must outlive the result.
BlockWeights check_block_weights(const std::string& function, NamedValues& values,
                                 const BlockShape& shape, Dtype dtype, bool cross_attention);

// A copy of the offsets of sequences whose rows lie one after the other: no other Python thread can
// change it while a call runs.
class CheckedBatch {
 public:
  // Throws TypeError or ValueError unless the offsets [B + 1], int64, rise from 0 to `rows`. Errors
  // call the argument `name`.
  CheckedBatch(const std::string& function, const char* name, const py::object& offsets,
               std::int64_t rows);

  // The result refers to this object.
  RaggedBatch batch() const;

 private:
  std::vector<std::int64_t> offsets_;
};

}  // namespace treadle

#include "bindings/block.h"

#include <algorithm>
#include <utility>

#include "bindings/activation.h"
#include "bindings/dtype.h"

namespace treadle {
namespace {

// Takes the weights of one block by their names.
class BlockReader {
 public:
  BlockReader(const std::string& function, NamedValues& values, const BlockShape& shape,
              Dtype dtype)
      : function_(function),
        values_(values),
        H_(shape.hidden),
        F_(shape.feed_forward),
        dtype_(dtype) {}

  AttentionWeights attention(const std::string& prefix, const std::string& norm) {
    const Axis H{"H", H_}, H3{"3*H", 3 * H_};
    return {matrix(prefix + ".in_proj_weight", H3, H), vector(prefix + ".in_proj_bias", H3),
            matrix(prefix + ".out_proj.weight", H, H), vector(prefix + ".out_proj.bias", H),
            this->norm(norm)};
  }

  FeedForwardWeights feed_forward(const std::string& norm) {
    const Axis H{"H", H_}, F{"F", F_};
    return {matrix("linear1.weight", F, H), vector("linear1.bias", F),
            matrix("linear2.weight", H, F), vector("linear2.bias", H), this->norm(norm)};
  }

 private:
  NormWeights norm(const std::string& prefix) {
    const Axis H{"H", H_};
    return {vector(prefix + ".weight", H), vector(prefix + ".bias", H)};
  }
  StoredMatrix matrix(const std::string& name, Axis rows, Axis columns) {
    return check_weight(function_, name.c_str(), values_.take(name), dtype_, rows, columns).matrix;
  }
  const float* vector(const std::string& name, Axis size) {
    return optional_array<float>(function_, name.c_str(), values_.take(name), {size});
  }

  const std::string& function_;
  NamedValues& values_;
  const std::int64_t H_, F_;
  const Dtype dtype_;
};

}  // namespace

BlockShape check_plain_shape(const std::string& f, std::int64_t hidden, std::int64_t heads,
                             std::int64_t feed_forward, const py::object& activation,
                             bool norm_first, float eps) {
  for (const auto& [name, size] : {std::pair{"hidden", hidden}, std::pair{"num_heads", heads},
                                   std::pair{"feed_forward", feed_forward}}) {
    if (size < 1 || size > INT32_MAX / 4) {
      throw py::value_error(f + ": " + name + " is " + std::to_string(size) +
                            ", expected 1 to 2**29");
    }
  }
  if (hidden % heads != 0 || hidden / heads > kMostHeadSize) {
    throw py::value_error(f + ": hidden is " + std::to_string(hidden) + " for " +
                          std::to_string(heads) + " heads, expected a multiple and at most " +
                          std::to_string(kMostHeadSize) + " for each");
  }
  return plain_shape(hidden, heads, feed_forward, parse_activation(f, activation), norm_first, eps);
}

BlockWeights check_block_weights(const std::string& f, NamedValues& values, const BlockShape& shape,
                                 Dtype dtype, bool cross_attention) {
  BlockReader reader(f, values, shape, dtype);
  BlockWeights w{};
  w.self_attention = reader.attention("self_attn", "norm1");
  if (cross_attention) w.cross_attention = reader.attention("multihead_attn", "norm2");
  w.feed_forward = reader.feed_forward(cross_attention ? "norm3" : "norm2");
  values.finish();
  return w;
}

CheckedBatch::CheckedBatch(const std::string& f, const char* name, const py::object& offsets,
                           std::int64_t rows) {
  const auto list =
      check_array<std::int64_t>(f, name, offsets, {{"B+1", kAny}}, Layout::contiguous);
  offsets_.assign(list.data, list.data + list.shape[0]);
  if (offsets_.empty() || offsets_.front() != 0 || offsets_.back() != rows ||
      !std::is_sorted(offsets_.begin(), offsets_.end())) {
    throw py::value_error(f + ": " + name + " do not rise from 0 to M = " + std::to_string(rows));
  }
}

RaggedBatch CheckedBatch::batch() const {
  RaggedBatch batch{static_cast<std::int64_t>(offsets_.size()) - 1, 0, offsets_.data()};
  for (std::int64_t b = 0; b < batch.B; ++b) {
    batch.longest = std::max(batch.longest, batch.length(b));
  }
  return batch;
}

}  // namespace treadle

// The layers of a transformer encoder over a ragged batch (Vaswani et al., arXiv:1706.03762).
//
// The tokens of all sequences lie one after the other; nothing is padded. Sequences go through a
// layer in groups whose activations stay in the cache, in phases that the threads share:
//
//     q, k, v = x W_in + b_in;  a = attention;  x = norm1(x + a W_out + b_out)
//     x = norm2(x + f(x W_1 + b_1) W_2 + b_2)
//
// or with the norms before the products (norm_first).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/attention/attention.h"
#include "engine/product/linear.h"

namespace treadle {

struct EncoderShape {
  std::int64_t hidden, heads, feed_forward;  // H, N, F
  Activation activation;
  bool norm_first;
  float eps;
};

// Row-major, as in PyTorch; biases and the arrays of a norm may be null. The matrices have the
// encoder's dtype.
struct EncoderWeights {
  StoredMatrix in_weight;  // [3 * H, H]: q, k, v
  const float* in_bias;
  StoredMatrix out_weight;  // [H, H]
  const float* out_bias;
  const float *norm1_weight, *norm1_bias;
  StoredMatrix linear1_weight;  // [F, H]
  const float* linear1_bias;
  StoredMatrix linear2_weight;  // [H, F]
  const float* linear2_bias;
  const float *norm2_weight, *norm2_bias;
};

struct EncoderCall {
  std::int64_t B, S;                  // sequences, the longest
  const std::int64_t* offsets;        // [B + 1]
  const float* x;                     // [offsets[B], H]
  float* out;                         // the same shape
  HeadView<const std::uint8_t> mask;  // as in AttentionCall
  bool mask_adds, causal;
  std::int64_t first, last;  // layers
  float* probabilities;      // [B, N, S, S], zeroed, of the one layer; or null
};

class Encoder {
 public:
  Encoder(const KernelTable& table, const EncoderShape& shape, Dtype dtype = Dtype::float32);
  ~Encoder();

  void add_layer(const EncoderWeights& weights);

  const EncoderShape& shape() const { return shape_; }
  Dtype dtype() const { return dtype_; }
  const char* isa() const { return table_->of(dtype_).isa; }  // the level of the products
  std::int64_t layers() const { return static_cast<std::int64_t>(layers_.size()); }
  std::int64_t weight_bytes() const;

  // Everything in `call` has been checked.
  void run(const EncoderCall& call, Interrupt& interrupt) const;

 private:
  struct Norm {
    Buffer weight, bias;
  };
  struct Layer {
    Linear in, out, linear1, linear2;
    Norm norm1, norm2;
  };
  struct Buffers;
  struct Group;

  Norm make_norm(const float* weight, const float* bias) const;
  bool norm(Team::Member& member, const Norm& norm, std::int64_t rows, const float* from,
            float* to) const;
  bool copy(Team::Member& member, const Group& group, const EncoderCall& call) const;
  // `next` is the product that comes after the layer, or null.
  bool run_layer(Team::Member& member, const Layer& layer, const Linear* next, Group& group,
                 Buffers& buffers) const;

  const KernelTable* table_;
  EncoderShape shape_;
  Dtype dtype_;  // of the products' weights
  std::vector<Layer> layers_;
  // Buffers of the last call, as in RecurrentStack.
  mutable std::atomic<Buffers*> spare_{nullptr};
};

}  // namespace treadle

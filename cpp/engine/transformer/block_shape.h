// The sizes, the options and the weights of a block of a transformer (block.h).
#pragma once

#include <cmath>
#include <cstdint>
#include <optional>

#include "engine/product/packed_weights.h"
#include "kernels/table.h"

namespace treadle {

enum class NormKind { layer, rms };
// x + f(norm(x)), norm(x + f(x)), or x + norm'(f(norm(x))).
enum class NormPlace { before, after, both };

struct BlockShape {
  std::int64_t hidden, heads, kv_heads, head_size, feed_forward;  // H, N, G, E, F
  Activation activation;
  NormPlace norm_place;
  float eps;    // the norms add it to the variance
  float scale;  // of scores
  NormKind norm = NormKind::layer;
  bool gated = false;      // feed forward is W_2 (act(W_1 x) * (W_3 x))
  bool parallel = false;   // x + attention(norm(x)) + feed_forward(norm'(x)), with norms before
  bool head_norm = false;  // rms norm of every head of queries and keys
  float softcap = 0;       // of scores; 0 caps nothing
  std::int64_t left = -1;  // tokens before its own that a query sees; -1: all of them

  std::int64_t queries() const { return heads * head_size; }
  std::int64_t keys() const { return kv_heads * head_size; }
  std::int64_t projected() const { return queries() + 2 * keys(); }
};

// Returns the shape of a block as torch.nn.TransformerEncoderLayer has it.
inline BlockShape plain_shape(std::int64_t hidden, std::int64_t heads, std::int64_t feed_forward,
                              const Activation& activation, bool norm_first, float eps) {
  const std::int64_t E = hidden / heads;
  return {hidden,
          heads,
          heads,
          E,
          feed_forward,
          activation,
          norm_first ? NormPlace::before : NormPlace::after,
          eps,
          1.0f / std::sqrt(static_cast<float>(E))};
}

// All matrices are row-major, as in PyTorch, and have the same dtype; biases and the arrays of a
// norm may be null.
struct NormWeights {
  const float *weight, *bias;  // [H]
};
struct AttentionWeights {
  StoredMatrix in_weight;   // [(N + 2 G) E, H]: queries, keys, values
  const float* in_bias;     // [(N + 2 G) E]
  StoredMatrix out_weight;  // [H, N E]
  const float* out_bias;    // [H]
  NormWeights norm;
  NormWeights after{};                                     // with NormPlace::both
  const float *query_norm = nullptr, *key_norm = nullptr;  // [E], with head_norm
};
struct FeedForwardWeights {
  StoredMatrix weight1;  // [F, H]; gated: [2 F, H], W_1 and W_3
  const float* bias1;    // [F] or [2 F]
  StoredMatrix weight2;  // [H, F]
  const float* bias2;    // [H]
  NormWeights norm;
  NormWeights after{};  // with NormPlace::both
};
struct BlockWeights {
  AttentionWeights self_attention;
  std::optional<AttentionWeights> cross_attention;  // its keys have N heads, too
  FeedForwardWeights feed_forward;
};

}  // namespace treadle

// Random transformer blocks, encoders of them, and their definition: one sequence at a time, in
// double.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/transformer/block.h"
#include "engine/transformer/encoder.h"

namespace treadle {

using Matrix = std::vector<std::vector<double>>;  // [tokens][size]

// The weights of one attention with its norm, and of feed forward with its own. Biases and norms
// may be empty: there are none.
struct AttentionNet {
  std::vector<float> in, in_bias, out, out_bias, norm, norm_bias;
};
struct ForwardNet {
  std::vector<float> linear1, bias1, linear2, bias2, norm, norm_bias;
};
struct BlockNet {
  AttentionNet self, cross;  // cross only in a net that has it
  ForwardNet forward;
};

struct EncoderNet {
  std::int64_t H = 24, N = 3, F = 40;
  float eps = 1e-5f;
  bool norm_first = false, bias = true, causal = false, cross = false;
  ActivationFunction function = ActivationFunction::gelu;
  std::vector<BlockNet> layers;

  explicit EncoderNet(int count) : layers(count) {}
  void fill();  // with random weights
};

BlockShape shape(const EncoderNet& net);
BlockWeights weights(const EncoderNet& net, const BlockNet& block);
std::unique_ptr<Encoder> pack(const KernelTable& table, const EncoderNet& net);

Matrix rows(const float* x, std::int64_t count, std::int64_t size);

// How the queries of one sequence see its keys. The mask is [N, S, K], or null; the probabilities,
// where they are asked for, are those of the last layer, [N][S * K].
struct View {
  const std::uint8_t* mask = nullptr;
  Matrix* probabilities = nullptr;
};

// One sequence through all layers; a net with cross attention sees the memory, too.
Matrix definition(const EncoderNet& net, Matrix x, const View& self = {}, const Matrix& memory = {},
                  const View& cross = {});

}  // namespace treadle

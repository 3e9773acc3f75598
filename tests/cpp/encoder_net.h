// Random transformer encoders and their definition: one sequence at a time, in double.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/transformer/encoder.h"

namespace treadle {

using Matrix = std::vector<std::vector<double>>;  // [tokens][size]

struct LayerWeights {
  std::vector<float> in, in_bias, out, out_bias, norm1, norm1_bias, linear1, linear1_bias, linear2,
      linear2_bias, norm2, norm2_bias;
};

struct EncoderNet {
  std::int64_t H = 24, N = 3, F = 40;
  float eps = 1e-5f;
  bool norm_first = false, bias = true, causal = false;
  ActivationFunction function = ActivationFunction::gelu;
  std::vector<LayerWeights> layers;

  explicit EncoderNet(int count) : layers(count) {}
  void fill();  // with random weights
};

std::unique_ptr<Encoder> pack(const KernelTable& table, const EncoderNet& net);

Matrix rows(const float* x, std::int64_t count, std::int64_t size);

// One sequence. The mask is [N, S, S], or null; the probabilities, where asked for, are those of
// the last layer, [N][S * S].
Matrix definition(const EncoderNet& net, Matrix x, const std::uint8_t* mask = nullptr,
                  Matrix* probabilities = nullptr);

}  // namespace treadle

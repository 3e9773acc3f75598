#include "encoder_net.h"

#include <algorithm>
#include <cmath>

#include "values.h"

namespace treadle {
namespace {

const float* or_null(const std::vector<float>& v) { return v.empty() ? nullptr : v.data(); }

Matrix linear(const Matrix& x, const std::vector<float>& w, const std::vector<float>& bias,
              std::int64_t outputs) {
  Matrix y;
  for (const auto& row : x) {
    y.emplace_back(outputs);
    for (std::int64_t n = 0; n < outputs; ++n) {
      double sum = bias.empty() ? 0 : bias[n];
      for (std::size_t k = 0; k < row.size(); ++k) sum += row[k] * w[n * row.size() + k];
      y.back()[n] = sum;
    }
  }
  return y;
}

Matrix norm(const EncoderNet& net, Matrix x, const std::vector<float>& weight,
            const std::vector<float>& bias) {
  for (auto& row : x) {
    double mean = 0, variance = 0;
    for (const double v : row) mean += v / row.size();
    for (const double v : row) variance += (v - mean) * (v - mean) / row.size();
    for (std::size_t i = 0; i < row.size(); ++i) {
      row[i] = (row[i] - mean) / std::sqrt(variance + net.eps) * (weight.empty() ? 1 : weight[i]) +
               (bias.empty() ? 0 : bias[i]);
    }
  }
  return x;
}

Matrix sum(Matrix a, const Matrix& b) {
  for (std::size_t t = 0; t < a.size(); ++t) {
    for (std::size_t i = 0; i < a[t].size(); ++i) a[t][i] += b[t][i];
  }
  return a;
}

// `probabilities`, where asked for: [N][S * S].
Matrix attention(const EncoderNet& net, const Matrix& x, const LayerWeights& l,
                 const std::uint8_t* mask, Matrix* probabilities) {
  const std::int64_t S = x.size(), E = net.H / net.N;
  const Matrix projected = linear(x, l.in, l.in_bias, 3 * net.H);
  Matrix a(S, std::vector<double>(net.H));
  for (std::int64_t n = 0; n < net.N; ++n) {
    if (probabilities) probabilities->emplace_back(S * S);
    for (std::int64_t i = 0; i < S; ++i) {
      std::vector<double> p(S);
      double total = 0;
      for (std::int64_t j = 0; j < S; ++j) {
        double score = 0;
        for (std::int64_t e = 0; e < E; ++e) {
          score += projected[i][n * E + e] * projected[j][net.H + n * E + e];
        }
        const bool hidden = (net.causal && j > i) || (mask && !mask[(n * S + i) * S + j]);
        total += p[j] = hidden ? 0 : std::exp(score / std::sqrt(static_cast<double>(E)));
      }
      for (std::int64_t j = 0; j < S && total > 0; ++j) {
        if (probabilities) probabilities->back()[i * S + j] = p[j] / total;
        for (std::int64_t e = 0; e < E; ++e) {
          a[i][n * E + e] += p[j] / total * projected[j][2 * net.H + n * E + e];
        }
      }
    }
  }
  return linear(a, l.out, l.out_bias, net.H);
}

Matrix feed_forward(const EncoderNet& net, const Matrix& x, const LayerWeights& l) {
  Matrix h = linear(x, l.linear1, l.linear1_bias, net.F);
  for (auto& row : h) {
    for (double& v : row) {
      v = net.function == ActivationFunction::relu ? std::max(v, 0.0)
                                                   : v / 2 * (1 + std::erf(v / std::sqrt(2.0)));
    }
  }
  return linear(h, l.linear2, l.linear2_bias, net.H);
}

}  // namespace

void EncoderNet::fill() {
  unsigned seed = 10;
  // As layers are initialised, so that sums are of size one.
  const auto matrix = [&](std::int64_t rows, std::int64_t columns) {
    return random_floats(rows * columns, ++seed, 1.7f / std::sqrt(static_cast<float>(columns)));
  };
  const auto vector = [&](std::int64_t size) {
    return bias ? random_floats(size, ++seed, 0.5f) : std::vector<float>();
  };
  const auto scale = [&] {
    std::vector<float> s = vector(H);
    for (float& x : s) x += 1;
    return s;
  };
  for (LayerWeights& l : layers) {
    l = {matrix(3 * H, H), vector(3 * H), matrix(H, H), vector(H), scale(), vector(H),
         matrix(F, H),     vector(F),     matrix(H, F), vector(H), scale(), vector(H)};
  }
}

std::unique_ptr<Encoder> pack(const KernelTable& table, const EncoderNet& net) {
  auto encoder = std::make_unique<Encoder>(
      table, EncoderShape{net.H, net.N, net.F, {net.function, 0, 0}, net.norm_first, net.eps});
  for (const LayerWeights& l : net.layers) {
    encoder->add_layer({l.in.data(), or_null(l.in_bias), l.out.data(), or_null(l.out_bias),
                        or_null(l.norm1), or_null(l.norm1_bias), l.linear1.data(),
                        or_null(l.linear1_bias), l.linear2.data(), or_null(l.linear2_bias),
                        or_null(l.norm2), or_null(l.norm2_bias)});
  }
  return encoder;
}

Matrix rows(const float* x, std::int64_t count, std::int64_t size) {
  Matrix m;
  for (std::int64_t i = 0; i < count; ++i) m.emplace_back(x + i * size, x + (i + 1) * size);
  return m;
}

Matrix definition(const EncoderNet& net, Matrix x, const std::uint8_t* mask,
                  Matrix* probabilities) {
  for (const LayerWeights& l : net.layers) {
    if (probabilities) probabilities->clear();
    if (net.norm_first) {
      x = sum(x, attention(net, norm(net, x, l.norm1, l.norm1_bias), l, mask, probabilities));
      x = sum(x, feed_forward(net, norm(net, x, l.norm2, l.norm2_bias), l));
    } else {
      x = norm(net, sum(x, attention(net, x, l, mask, probabilities)), l.norm1, l.norm1_bias);
      x = norm(net, sum(x, feed_forward(net, x, l)), l.norm2, l.norm2_bias);
    }
  }
  return x;
}

}  // namespace treadle

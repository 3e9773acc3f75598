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

// The rows [first, first + count) of a matrix of weights [.., K], or of a vector with K = 1.
std::vector<float> part(const std::vector<float>& w, std::int64_t first, std::int64_t count,
                        std::int64_t K) {
  if (w.empty()) return {};
  return {w.begin() + first * K, w.begin() + (first + count) * K};
}

// Queries from x, keys and values from the memory, which is x itself in self attention.
Matrix attention(const EncoderNet& net, const Matrix& x, const Matrix& memory,
                 const AttentionNet& l, bool causal, const View& view) {
  const std::int64_t S = x.size(), K = memory.size(), H = net.H, E = H / net.N;
  const auto projected = [&](const Matrix& rows, std::int64_t i) {
    return linear(rows, part(l.in, i * H, H, H), part(l.in_bias, i * H, H, 1), H);
  };
  const Matrix q = projected(x, 0), k = projected(memory, 1), v = projected(memory, 2);
  Matrix a(S, std::vector<double>(H));
  if (view.probabilities) view.probabilities->clear();
  for (std::int64_t n = 0; n < net.N; ++n) {
    if (view.probabilities) view.probabilities->emplace_back(S * K);
    for (std::int64_t i = 0; i < S; ++i) {
      std::vector<double> p(K);
      double total = 0;
      for (std::int64_t j = 0; j < K; ++j) {
        double score = 0;
        for (std::int64_t e = n * E; e < (n + 1) * E; ++e) score += q[i][e] * k[j][e];
        const bool hidden = (causal && j > i) || (view.mask && !view.mask[(n * S + i) * K + j]);
        total += p[j] = hidden ? 0 : std::exp(score / std::sqrt(static_cast<double>(E)));
      }
      for (std::int64_t j = 0; j < K && total > 0; ++j) {
        if (view.probabilities) view.probabilities->back()[i * K + j] = p[j] / total;
        for (std::int64_t e = n * E; e < (n + 1) * E; ++e) a[i][e] += p[j] / total * v[j][e];
      }
    }
  }
  return linear(a, l.out, l.out_bias, H);
}

Matrix feed_forward(const EncoderNet& net, const Matrix& x, const ForwardNet& l) {
  Matrix h = linear(x, l.linear1, l.bias1, net.F);
  for (auto& row : h) {
    for (double& v : row) {
      v = net.function == ActivationFunction::relu ? std::max(v, 0.0)
                                                   : v / 2 * (1 + std::erf(v / std::sqrt(2.0)));
    }
  }
  return linear(h, l.linear2, l.bias2, net.H);
}

AttentionWeights weights(const AttentionNet& l) {
  return {l.in.data(),
          or_null(l.in_bias),
          l.out.data(),
          or_null(l.out_bias),
          {or_null(l.norm), or_null(l.norm_bias)}};
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
  const auto attention = [&] {
    return AttentionNet{matrix(3 * H, H), vector(3 * H), matrix(H, H),
                        vector(H),        scale(),       vector(H)};
  };
  for (BlockNet& l : layers) {
    l.self = attention();
    if (cross) l.cross = attention();
    l.forward = {matrix(F, H), vector(F), matrix(H, F), vector(H), scale(), vector(H)};
  }
}

BlockShape shape(const EncoderNet& net) {
  return plain_shape(net.H, net.N, net.F, {net.function, 0, 0}, net.norm_first, net.eps);
}

BlockWeights weights(const EncoderNet& net, const BlockNet& block) {
  BlockWeights w{};
  w.self_attention = weights(block.self);
  if (net.cross) w.cross_attention = weights(block.cross);
  const ForwardNet& f = block.forward;
  w.feed_forward = {f.linear1.data(),
                    or_null(f.bias1),
                    f.linear2.data(),
                    or_null(f.bias2),
                    {or_null(f.norm), or_null(f.norm_bias)}};
  return w;
}

std::unique_ptr<Encoder> pack(const KernelTable& table, const EncoderNet& net) {
  auto encoder = std::make_unique<Encoder>(table, shape(net));
  for (const BlockNet& block : net.layers) encoder->add_layer(weights(net, block));
  return encoder;
}

Matrix rows(const float* x, std::int64_t count, std::int64_t size) {
  Matrix m;
  for (std::int64_t i = 0; i < count; ++i) m.emplace_back(x + i * size, x + (i + 1) * size);
  return m;
}

Matrix definition(const EncoderNet& net, Matrix x, const View& self, const Matrix& memory,
                  const View& cross) {
  // x + f(norm(x)), or norm(x + f(x))
  const auto add = [&](const auto& l, const auto& f) {
    x = net.norm_first ? sum(x, f(norm(net, x, l.norm, l.norm_bias)))
                       : norm(net, sum(x, f(x)), l.norm, l.norm_bias);
  };
  for (const BlockNet& l : net.layers) {
    add(l.self, [&](const Matrix& y) { return attention(net, y, y, l.self, net.causal, self); });
    if (net.cross) {
      add(l.cross,
          [&](const Matrix& y) { return attention(net, y, memory, l.cross, false, cross); });
    }
    add(l.forward, [&](const Matrix& y) { return feed_forward(net, y, l.forward); });
  }
  return x;
}

}  // namespace treadle

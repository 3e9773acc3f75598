// ConvInteger and QLinearConv: convolutions of int8 and uint8 whose sums are exact. The numbers
// under the taps of a position become a row, and the rows are multiplied by the weights.
#include <vector>

#include "engine/graph/ops/families.h"
#include "engine/graph/ops/integer_product.h"
#include "engine/graph/ops/quantize.h"
#include "engine/graph/ops/windows.h"
#include "runtime/isa.h"

namespace treadle::graph {
namespace {

// An Axis has the sizes along one spatial axis.
struct Axis {
  ConvAxis window;
  std::int64_t size, positions;
};

std::vector<Axis> axes_of(const Windows& windows, const Shape& x, const Shape& w) {
  const int rank = x.rank(), spatial = rank - 2;
  if (spatial < 1 || w.rank() != rank) {
    refuse("shapes " + x.text() + " and " + w.text() + " have no convolution");
  }
  windows.check(static_cast<std::size_t>(spatial));
  windows.check_weight(w);
  std::vector<Axis> axes;
  for (int i = 0; i < spatial; ++i) {
    const std::int64_t size = checked_size("the shape of x", x[i + 2], 0);
    const std::int64_t taps = checked_size("the weight", w[i + 2], 1);
    const ConvAxis window = windows.at(static_cast<std::size_t>(i), taps, size);
    const std::int64_t positions = window.outputs(size);
    if (positions < 1) refuse("a kernel of " + w.text() + " does not fit into " + x.text());
    axes.push_back({window, size, positions});
  }
  return axes;
}

// Writes where the taps of a position find their numbers within a channel, -1 for none.
void places_of(const std::vector<Axis>& axes, std::int64_t position, std::int64_t taps,
               std::int64_t* to) {
  std::int64_t first[kMaxRank];
  const int spatial = static_cast<int>(axes.size());
  for (int i = spatial - 1; i >= 0; --i) {
    const ConvAxis& window = axes[i].window;
    first[i] = position % axes[i].positions * window.stride - window.before;
    position /= axes[i].positions;
  }
  for (std::int64_t t = 0; t < taps; ++t) {
    std::int64_t rest = t, place = 0, stride = 1;
    for (int i = spatial - 1; i >= 0; --i) {
      const ConvAxis& window = axes[i].window;
      const std::int64_t at = first[i] + rest % window.taps * window.dilation;
      rest /= window.taps;
      place = at < 0 || at >= axes[i].size || place < 0 ? -1 : place + at * stride;
      stride *= axes[i].size;
    }
    to[t] = place;
  }
}

class Conv {
 public:
  Conv(const NodeDescription& node, int w, int w_zero)
      : windows_(node),
        groups_(checked_size("group", node.integer("group", 1), 1)),
        w_(w),
        w_zero_(w_zero),
        table_(&kernels()) {
    const Tensor* weight = node.constant(w);
    const Tensor* zero = node.constant(w_zero);
    const bool has_zero = static_cast<int>(node.constants.size()) > w_zero;
    if (!weight || weight->shape.rank() < 1 || (!zero && has_zero)) return;
    check_bytes(*weight, w);
    const std::int64_t D = weight->shape[0];
    if (D % groups_ == 0) packed_ = pack(*weight, zero_point(zero, weight->type, D));
  }

  // Calls put(channel's place in the output, its number, sum) for all numbers of the output, which
  // make(shape) has made.
  template <class Make, class Put>
  void run(Call& call, int x_zero, Make&& make, Put&& put) const {
    const Tensor &x = call.input(0), &w = call.input(w_);
    check_bytes(x, 0);
    check_bytes(w, w_);
    const std::vector<Axis> axes = axes_of(windows_, x.shape, w.shape);
    const std::int64_t B = x.shape[0], C = x.shape[1], D = w.shape[0], groups = groups_;
    if (D % groups != 0 || C % groups != 0 || w.shape[1] != C / groups) {
      refuse("shapes " + x.shape.text() + " and " + w.shape.text() + " have no convolution in " +
             std::to_string(groups) + " groups");
    }
    std::vector<std::int64_t> sizes{B, D};
    for (const Axis& axis : axes) sizes.push_back(axis.positions);
    const Shape shape(sizes.data(), sizes.size());
    const ZeroPoint w_zero = zero_point(call, w_zero_, w.type, D);
    const float zero = zero_point(call, x_zero, x.type, 1).of(0);
    make(shape, D);
    if (shape.count() == 0) return;
    const std::vector<IntegerProduct>& products = packed_;
    std::vector<IntegerProduct> own;
    if (products.empty()) own = pack(w, w_zero);
    float* numbers = call.scratch_floats(x.count());
    constexpr std::int64_t kPiece = 4096;
    call.parallel_for((x.count() + kPiece - 1) / kPiece, kPiece * 10, [&](std::int64_t piece) {
      const std::int64_t end = std::min(x.count(), (piece + 1) * kPiece);
      for (std::int64_t i = piece * kPiece; i < end; ++i) numbers[i] = integer_at(x, i) - zero;
    });
    const std::int64_t c = C / groups, d = D / groups, P = shape.count(2, shape.rank());
    const std::int64_t taps = w.shape.count(2, w.shape.rank()), K = c * taps;
    const std::int64_t channel = x.shape.count(2, x.shape.rank());
    const std::int64_t block =
        std::min(P, std::max<std::int64_t>(16, (1 << 16) / std::max<std::int64_t>(K, 1)));
    auto* places = reinterpret_cast<std::int64_t*>(call.scratch(Shape{block, taps, 8}.count()));
    float* rows = call.scratch_floats(Shape{block, K}.count());
    auto* sums = reinterpret_cast<std::int32_t*>(call.scratch(Shape{block, d, 4}.count()));
    for (std::int64_t begin = 0; begin < P; begin += block) {
      const std::int64_t count = std::min(block, P - begin);
      call.parallel_for(count, static_cast<double>(taps) * 100, [&](std::int64_t p) {
        places_of(axes, begin + p, taps, places + p * taps);
      });
      for (std::int64_t bg = 0; bg < B * groups; ++bg) {
        const float* from = numbers + bg * c * channel;
        call.parallel_for(count, static_cast<double>(K) * 20, [&](std::int64_t p) {
          const std::int64_t* at = places + p * taps;
          for (std::int64_t i = 0; i < c; ++i) {
            float* row = rows + p * K + i * taps;
            const float* numbers_of = from + i * channel;
            for (std::int64_t t = 0; t < taps; ++t) row[t] = at[t] < 0 ? 0 : numbers_of[at[t]];
          }
        });
        (products.empty() ? own : products)[bg % groups].run(call, count, rows, sums);
        call.parallel_for(d, static_cast<double>(count) * 20, [&](std::int64_t n) {
          const std::int64_t first = bg * d + n;
          for (std::int64_t p = 0; p < count; ++p) {
            put(first * P + begin + p, first % D, sums[p * d + n]);
          }
        });
      }
    }
  }

 private:
  // Packs the weight [D, C / groups, taps..], less its zero points, one product for each group.
  std::vector<IntegerProduct> pack(const Tensor& w, const ZeroPoint& zero) const {
    const std::int64_t d = w.shape[0] / groups_, K = w.shape.count(1, w.shape.rank());
    std::vector<IntegerProduct> products;
    std::vector<float> weights(static_cast<std::size_t>(d * K));
    for (std::int64_t n = 0; n < w.shape[0]; ++n) {
      for (std::int64_t k = 0; k < K; ++k) {
        weights[n % d * K + k] = integer_at(w, n * K + k) - zero.of(n);
      }
      if (n % d == d - 1) products.emplace_back(*table_, d, K, weights.data());
    }
    return products;
  }

  Windows windows_;
  std::int64_t groups_;
  int w_, w_zero_;
  const KernelTable* table_;
  std::vector<IntegerProduct> packed_;
};

std::unique_ptr<Operator> make_conv_integer(const NodeDescription& node) {
  auto conv = std::make_shared<const Conv>(node, 1, 3);
  return make_operator([conv](Call& call) {
    std::int32_t* y = nullptr;
    conv->run(
        call, 2,
        [&](const Shape& shape, std::int64_t) {
          y = call.output(0, Type::int32, shape).as<std::int32_t>();
        },
        [&](std::int64_t at, std::int64_t, std::int32_t sum) { y[at] = sum; });
  });
}

// QLinearConv: y = saturate(round((sum + bias) (x scale * w scale / y scale)) + y zero).
std::unique_ptr<Operator> make_qlinear_conv(const NodeDescription& node) {
  auto conv = std::make_shared<const Conv>(node, 3, 5);
  return make_operator([conv](Call& call) {
    const Tensor &zero = call.input(7), &w_scale = call.input(4, Type::float32);
    check_bytes(zero, 7);
    if (zero.count() != 1) refuse("input 7 has not one element");
    const auto x_scale = static_cast<float>(call.number(1));
    const auto y_scale = static_cast<float>(call.number(6));
    const std::int32_t* bias = nullptr;
    std::vector<float> scales;
    char* y = nullptr;
    conv->run(
        call, 2,
        [&](const Shape& shape, std::int64_t D) {
          if (w_scale.count() != 1 && w_scale.count() != D) {
            refuse("there are " + std::to_string(w_scale.count()) + " scales of the weight");
          }
          if (call.has(8)) {
            if (call.input(8, Type::int32, 1).count() != D) refuse("the bias has another size");
            bias = call.input(8).as<std::int32_t>();
          }
          for (std::int64_t n = 0; n < D; ++n) {
            const float scale = w_scale.floats()[w_scale.count() == 1 ? 0 : n];
            scales.push_back(x_scale * scale / y_scale);
          }
          y = call.output(0, zero.type, shape).data;
        },
        [&](std::int64_t at, std::int64_t n, std::int32_t sum) {
          const std::int64_t all = static_cast<std::int64_t>(sum) + (bias ? bias[n] : 0);
          put_quantized(zero, static_cast<float>(all) * scales[static_cast<std::size_t>(n)],
                        y + at);
        });
  });
}

}  // namespace

void list_quantized_conv(OperatorTable& table) {
  table["ConvInteger"] = make_conv_integer;
  table["QLinearConv"] = make_qlinear_conv;
}

}  // namespace treadle::graph

// MatMulInteger and QLinearMatMul: products of int8 and uint8 whose sums are exact.
#include <optional>

#include "engine/graph/ops/families.h"
#include "engine/graph/ops/integer_product.h"
#include "engine/graph/ops/quantize.h"
#include "runtime/isa.h"

namespace treadle::graph {
namespace {

// Places say which inputs a, b and their zero points are.
struct Places {
  int a, a_zero, b, b_zero;
};

// Sizes are those of a product a [.., M, K] b [.., K, N], by NumPy's rules of vectors and batches.
struct Sizes {
  std::int64_t M, N, K, batches;
  Shape result, a_batch, b_batch, batch;
};

Shape leading(const Shape& shape) {
  return shape.rank() <= 2 ? Shape{}
                           : Shape(shape.begin(), static_cast<std::size_t>(shape.rank() - 2));
}

Sizes sizes_of(const Shape& a, const Shape& b) {
  if (a.rank() < 1 || b.rank() < 1) refuse("a product has an operand without axes");
  Sizes s;
  s.M = a.rank() == 1 ? 1 : a[a.rank() - 2];
  s.K = a[a.rank() - 1];
  s.N = b.rank() == 1 ? 1 : b[b.rank() - 1];
  if (s.K != b[b.rank() == 1 ? 0 : b.rank() - 2]) {
    refuse("shapes " + a.text() + " and " + b.text() + " have no product");
  }
  s.a_batch = leading(a);
  s.b_batch = leading(b);
  s.batch = broadcast(s.a_batch, s.b_batch);
  s.batches = s.batch.count();
  std::vector<std::int64_t> result(s.batch.begin(), s.batch.end());
  if (a.rank() > 1) result.push_back(s.M);
  if (b.rank() > 1) result.push_back(s.N);
  s.result = Shape(result.data(), result.size());
  return s;
}

// Packs matrix b [K, N], from its element `first` on, less its zero points.
IntegerProduct pack(const KernelTable& table, const Tensor& b, std::int64_t first, std::int64_t K,
                    std::int64_t N, const ZeroPoint& zero) {
  std::vector<float> weights(static_cast<std::size_t>(N * K));
  for (std::int64_t k = 0; k < K; ++k) {
    for (std::int64_t n = 0; n < N; ++n) {
      weights[n * K + k] = integer_at(b, first + k * N + n) - zero.of(n);
    }
  }
  return IntegerProduct(table, N, K, weights.data());
}

class Matmul {
 public:
  Matmul(const NodeDescription& node, const Places& places) : places_(places), table_(&kernels()) {
    const Tensor* b = node.constant(places.b);
    const Tensor* zero = node.constant(places.b_zero);
    if (!b || b->shape.rank() != 2 || (!zero && has_zero(node))) return;
    check_bytes(*b, places.b);
    const std::int64_t K = b->shape[0], N = b->shape[1];
    packed_ = pack(*table_, *b, 0, K, N, zero_point(zero, b->type, N));
    packs_ = true;
  }

  // Returns the sums, in scratch or in an output that `make` makes of the result's shape.
  template <class Make>
  std::int32_t* run(Call& call, Make&& make, Sizes& s) const {
    const Tensor &a = call.input(places_.a), &b = call.input(places_.b);
    check_bytes(a, places_.a);
    check_bytes(b, places_.b);
    s = sizes_of(a.shape, b.shape);
    const ZeroPoint b_zero = zero_point(call, places_.b_zero, b.type, s.N);
    const ZeroPoint a_zero = zero_point(call, places_.a_zero, a.type, s.M);
    std::int32_t* sums = make(s.result);
    if (s.result.count() == 0) return sums;
    const std::int64_t rows = a.count() / std::max<std::int64_t>(s.K, 1);
    float* x = call.scratch_floats(a.count());
    call.parallel_for(s.K ? rows : 0, static_cast<double>(s.K) * 10, [&](std::int64_t r) {
      const float zero = a_zero.of(r % s.M);
      for (std::int64_t k = r * s.K; k < (r + 1) * s.K; ++k) x[k] = integer_at(a, k) - zero;
    });
    if (packs_) {
      packed_.run(call, s.batches * s.M, x, sums);
      return sums;
    }
    if (b.shape.rank() <= 2) {
      pack(*table_, b, 0, s.K, s.N, b_zero).run(call, s.batches * s.M, x, sums);
      return sums;
    }
    const Shape batch = s.batch;
    const auto loop = broadcast_loop(batch, {&batch, &s.a_batch, &s.b_batch});
    std::vector<std::int64_t> at;
    const std::int64_t a_row = loop.row_step(1), a_step = loop.step(1);
    const std::int64_t b_row = loop.row_step(2), b_step = loop.step(2);
    loop.run_in_order(call, 1,
                      [&](const std::int64_t (&o)[3], std::int64_t many, std::int64_t columns) {
                        for (std::int64_t r = 0; r < many; ++r) {
                          for (std::int64_t c = 0; c < columns; ++c) {
                            at.push_back(o[1] + r * a_row + c * a_step);
                            at.push_back(o[2] + r * b_row + c * b_step);
                          }
                        }
                      });
    for (std::int64_t i = 0; i < s.batches; ++i) {
      pack(*table_, b, at[2 * i + 1] * s.K * s.N, s.K, s.N, b_zero)
          .run(call, s.M, x + at[2 * i] * s.M * s.K, sums + i * s.M * s.N);
    }
    return sums;
  }

 private:
  bool has_zero(const NodeDescription& node) const {
    return static_cast<int>(node.constants.size()) > places_.b_zero;
  }

  Places places_;
  const KernelTable* table_;
  bool packs_ = false;
  IntegerProduct packed_;
};

std::unique_ptr<Operator> make_matmul_integer(const NodeDescription& node) {
  auto product = std::make_shared<const Matmul>(node, Places{0, 2, 1, 3});
  return make_operator([product](Call& call) {
    Sizes sizes;
    product->run(
        call,
        [&](const Shape& shape) { return call.output(0, Type::int32, shape).as<std::int32_t>(); },
        sizes);
  });
}

// QLinearMatMul: y = saturate(round(sum (a scale * b scale / y scale)) + y zero).
std::unique_ptr<Operator> make_qlinear_matmul(const NodeDescription& node) {
  auto product = std::make_shared<const Matmul>(node, Places{0, 2, 3, 5});
  return make_operator([product](Call& call) {
    Sizes sizes;
    const std::int32_t* sums = product->run(
        call,
        [&](const Shape& shape) {
          return reinterpret_cast<std::int32_t*>(call.scratch(shape.count() * 4));
        },
        sizes);
    const Tensor& zero = call.input(7);
    check_bytes(zero, 7);
    const Tensor &a = call.input(1, Type::float32), &b = call.input(4, Type::float32);
    const float y_scale = static_cast<float>(call.number(6));
    const std::int64_t N = sizes.N, M = sizes.M;
    if (zero.count() != 1 || (a.count() != 1 && a.count() != M) ||
        (b.count() != 1 && b.count() != N)) {
      refuse("scales or zero points have other sizes than the operands");
    }
    char* y = call.output(0, zero.type, sizes.result).data;
    const std::int64_t rows = N ? sizes.result.count() / N : 0;
    call.parallel_for(rows, static_cast<double>(N) * 30, [&](std::int64_t r) {
      const float a_scale = a.floats()[a.count() == 1 ? 0 : r % M];
      for (std::int64_t n = 0; n < N; ++n) {
        const float scale = a_scale * b.floats()[b.count() == 1 ? 0 : n] / y_scale;
        put_quantized(zero, static_cast<float>(sums[r * N + n]) * scale, y + r * N + n);
      }
    });
  });
}

}  // namespace

void list_quantized_matmul(OperatorTable& table) {
  table["MatMulInteger"] = make_matmul_integer;
  table["QLinearMatMul"] = make_qlinear_matmul;
}

}  // namespace treadle::graph

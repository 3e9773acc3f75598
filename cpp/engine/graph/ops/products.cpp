// Products of matrices: with weights that were packed once (treadle.Linear), and of two values.
//
//     treadle.Linear   y [..., N] = f(x [..., K] W^T + b + residual [..., N])
//     MatMul           y [..., M, N] = a [..., M, K] b [..., K, N], as numpy.matmul
//     Gemm             y [M, N] = alpha A B + beta C, A and B perhaps transposed
#include <algorithm>
#include <atomic>
#include <new>
#include <optional>
#include <vector>

#include "engine/graph/ops/activation.h"
#include "engine/graph/ops/families.h"
#include "engine/product/linear.h"
#include "engine/product/transpose.h"
#include "runtime/isa.h"

namespace treadle::graph {
namespace {

std::unique_ptr<Operator> make_linear(const NodeDescription& node) {
  const auto linear = node.native<Linear>("linear");
  const auto f = activation_of(node);
  return make_operator([linear, f](Call& call) {
    const Tensor& x = call.input(0, Type::float32);
    const int last = x.shape.rank() - 1;
    if (last < 0 || x.shape[last] != linear->inputs()) {
      refuse("input 0 has shape " + x.shape.text() + ", expected a last axis of " +
             std::to_string(linear->inputs()));
    }
    const Shape shape = x.shape.with(last, linear->outputs());
    const float* residual = nullptr;
    if (call.has(1)) {
      const Tensor& added = call.input(1, Type::float32);
      if (added.shape != shape) refuse("the residual has shape " + added.shape.text());
      residual = added.floats();
    }
    Tensor& y = call.output(0, Type::float32, shape);
    // The kernel adds a residual behind the function, which comes last here.
    const Activation* inside = f && !residual ? &*f : nullptr;
    product(*linear, x.shape.count(0, last), x.floats(), linear->inputs(), inside, residual,
            y.floats(), call.interrupt());
    if (f && residual) apply(call, *f, y.floats(), y.floats(), y.count());
    stop_if_interrupted(call);
  });
}

// Factors are those of a product of a batch: a [M, K] times b [K, N] or, transposed, [N, K].
struct Factors {
  std::int64_t M, K, N;
  bool b_transposed = false;
};

// y [M, N] = a b, of one matrix each. The packed copy of b is the call's.
void multiply(const Factors& size, const float* a, const float* b, float* y, Interrupt& interrupt) {
  if (size.M == 0 || size.N == 0) return;
  const KernelTable& table = kernels();
  const StoredMatrix matrix(b);
  PackedWeights packed = size.b_transposed
                             ? PackedWeights::plain(size.N, {{matrix, size.K}}, table.lanes)
                             : PackedWeights::transposed(size.N, {{matrix, size.K}}, table.lanes);
  const Linear linear(table, size.N, std::move(packed));
  product(linear, size.M, a, size.K, nullptr, nullptr, y, interrupt);
}

// The generic product, of any type: sums go up over k.
template <class T>
void multiply(const Factors& size, const T* a, const T* b, T* y, Interrupt& interrupt) {
  using Sum = std::conditional_t<std::is_integral_v<T>, std::uint64_t, T>;  // wraps around
  for (std::int64_t m = 0; m < size.M && !interrupt.stopped(); ++m) {
    T* row = y + m * size.N;
    std::fill(row, row + size.N, T{});
    for (std::int64_t k = 0; k < size.K; ++k) {
      const Sum left = static_cast<Sum>(a[m * size.K + k]);
      for (std::int64_t n = 0; n < size.N; ++n) {
        const T right = size.b_transposed ? b[n * size.K + k] : b[k * size.N + n];
        row[n] = static_cast<T>(static_cast<Sum>(row[n]) + left * static_cast<Sum>(right));
      }
      interrupt.progress(static_cast<double>(size.N));
    }
  }
}

// Calls f with a value of the type, which must be one that products have.
template <class F>
void with_number(Type type, F&& f) {
  switch (type) {
    case Type::float32:
      return f(float{});
    case Type::float64:
      return f(double{});
    case Type::int32:
      return f(std::int32_t{});
    case Type::int64:
      return f(std::int64_t{});
    case Type::uint32:
      return f(std::uint32_t{});
    case Type::uint64:
      return f(std::uint64_t{});
    default:
      refuse(std::string("a product of ") + name_of(type) + " is not supported");
  }
}

// The places of the matrices of a batch, where either side may have an axis of size 1 that repeats.
struct Batch {
  std::vector<std::int64_t> sizes, a_steps, b_steps;
  std::int64_t count = 1;

  // Returns the numbers of the matrices of a and b that make matrix i.
  std::pair<std::int64_t, std::int64_t> at(std::int64_t i) const {
    std::int64_t a = 0, b = 0;
    for (std::size_t axis = sizes.size(); axis-- > 0;) {
      a += i % sizes[axis] * a_steps[axis];
      b += i % sizes[axis] * b_steps[axis];
      i /= sizes[axis];
    }
    return {a, b};
  }
};

Batch broadcast_batch(const Shape& a, const Shape& b, std::vector<std::int64_t>& shape) {
  Batch batch;
  const int rank = std::max(a.rank(), b.rank()) - 2;
  std::int64_t a_step = 1, b_step = 1;
  const auto size_at = [rank](const Shape& s, int axis) {
    const int own = axis - (rank - (s.rank() - 2));
    return own < 0 ? std::int64_t{1} : s[own];
  };
  batch.sizes.resize(rank);
  batch.a_steps.resize(rank);
  batch.b_steps.resize(rank);
  for (int axis = rank - 1; axis >= 0; --axis) {
    const std::int64_t of_a = size_at(a, axis), of_b = size_at(b, axis);
    if (of_a != of_b && of_a != 1 && of_b != 1) {
      refuse("shapes " + a.text() + " and " + b.text() + " do not broadcast");
    }
    batch.sizes[axis] = of_a == 1 ? of_b : of_a;
    batch.a_steps[axis] = of_a == 1 ? 0 : a_step;
    batch.b_steps[axis] = of_b == 1 ? 0 : b_step;
    a_step *= of_a;
    b_step *= of_b;
  }
  for (const std::int64_t size : batch.sizes) batch.count *= size;
  shape = batch.sizes;
  return batch;
}

// A batch of products of floats: small ones are shared out, a large one is shared itself.
void multiply_batch(Call& call, const Batch& batch, const Factors& size, const float* a,
                    const float* b, float* y) {
  const double work = static_cast<double>(size.M) * size.N * size.K +
                      static_cast<double>(size.N) * size.K;  // packing
  const std::int64_t left = size.M * size.K, right = size.K * size.N, out = size.M * size.N;
  constexpr double kLargeWork = 4e6;
  if (batch.count == 1 || work > kLargeWork) {
    for (std::int64_t i = 0; i < batch.count; ++i) {
      const auto [from_a, from_b] = batch.at(i);
      multiply(size, a + from_a * left, b + from_b * right, y + i * out, call.interrupt());
      stop_if_interrupted(call);
    }
    return;
  }
  std::atomic<bool> no_memory{false};  // tasks must not throw
  call.parallel_for(batch.count, work, [&](std::int64_t i) {
    const auto [from_a, from_b] = batch.at(i);
    Interrupt never(nullptr);
    try {
      multiply(size, a + from_a * left, b + from_b * right, y + i * out, never);
    } catch (const std::bad_alloc&) {
      no_memory = true;
    } catch (const Interrupted&) {  // by a signal, which parallel_for sees, too
    }
  });
  if (no_memory) throw std::bad_alloc();
}

std::unique_ptr<Operator> make_matmul(const NodeDescription&) {
  return make_operator([](Call& call) {
    const Tensor &a = call.input(0), &b = call.input(1, a.type);
    if (a.shape.rank() == 0 || b.shape.rank() == 0) refuse("a factor is a scalar");
    const Shape left = a.shape.rank() == 1 ? a.shape.inserted(0, 1) : a.shape;
    const Shape right = b.shape.rank() == 1 ? b.shape.inserted(1, 1) : b.shape;
    const int a_last = left.rank() - 1, b_last = right.rank() - 1;
    Factors size{left[a_last - 1], left[a_last], right[b_last]};
    if (right[b_last - 1] != size.K) {
      refuse("shapes " + a.shape.text() + " and " + b.shape.text() + " do not fit a product");
    }
    std::vector<std::int64_t> shape;
    Batch batch = broadcast_batch(left, right, shape);
    if (right.count(0, b_last - 1) == 1 && batch.count > 1) {
      // One matrix multiplies every row of a: it is a single product.
      size.M *= batch.count;
      batch = Batch{};
    }
    if (a.shape.rank() > 1) shape.push_back(left[a_last - 1]);
    if (b.shape.rank() > 1) shape.push_back(right[b_last]);
    Tensor& y = call.output(0, a.type, Shape(shape.data(), shape.size()));
    if (y.count() == 0) return;
    if (a.type == Type::float32) {
      return multiply_batch(call, batch, size, a.floats(), b.floats(), y.floats());
    }
    with_number(a.type, [&](auto zero) {
      using T = decltype(zero);
      for (std::int64_t i = 0; i < batch.count; ++i) {
        const auto [from_a, from_b] = batch.at(i);
        multiply<T>(size, a.as<T>() + from_a * size.M * size.K,
                    b.as<T>() + from_b * size.K * size.N, y.as<T>() + i * size.M * size.N,
                    call.interrupt());
        stop_if_interrupted(call);
      }
    });
  });
}

// y = alpha y + beta c, where c [M, N] may have axes of size 1 that repeat; c may be null.
template <class T>
void scale_and_add(Call& call, T* y, std::int64_t M, std::int64_t N, double alpha, double beta,
                   const Tensor* c) {
  std::int64_t row_step = 0, column_step = 0;
  if (c) {
    const int rank = c->shape.rank();
    const std::int64_t columns = rank > 0 ? c->shape[rank - 1] : 1;
    const std::int64_t rows = rank > 1 ? c->shape[rank - 2] : 1;
    if (rank > 2 || (columns != 1 && columns != N) || (rows != 1 && rows != M)) {
      refuse("C has shape " + c->shape.text() + ", which does not broadcast to [" +
             std::to_string(M) + ", " + std::to_string(N) + "]");
    }
    row_step = rows == 1 ? 0 : columns;
    column_step = columns == 1 ? 0 : 1;
  }
  const T by = static_cast<T>(alpha), and_by = static_cast<T>(beta);
  call.parallel_for(M, static_cast<double>(N) * 2, [&](std::int64_t m) {
    T* row = y + m * N;
    const T* add = c ? c->as<T>() + m * row_step : nullptr;
    if (alpha != 1) {
      for (std::int64_t n = 0; n < N; ++n) row[n] = static_cast<T>(by * row[n]);
    }
    if (!add) return;
    for (std::int64_t n = 0; n < N; ++n) {
      row[n] = static_cast<T>(row[n] + static_cast<T>(and_by * add[n * column_step]));
    }
  });
}

std::unique_ptr<Operator> make_gemm(const NodeDescription& node) {
  const double alpha = node.number("alpha", 1), beta = node.number("beta", 1);
  const bool a_transposed = node.integer("transA", 0) != 0;
  const bool b_transposed = node.integer("transB", 0) != 0;
  return make_operator([=](Call& call) {
    const Tensor& a = call.input(0);
    if (a.shape.rank() != 2) refuse("A has shape " + a.shape.text());
    const Tensor& b = call.input(1, a.type, 2);
    const Factors size{a.shape[a_transposed ? 1 : 0], a.shape[a_transposed ? 0 : 1],
                       b.shape[b_transposed ? 0 : 1], b_transposed};
    if (b.shape[b_transposed ? 1 : 0] != size.K) {
      refuse("shapes " + a.shape.text() + " and " + b.shape.text() + " do not fit a product");
    }
    const Tensor* c = call.has(2) ? &call.input(2, a.type) : nullptr;
    Tensor& y = call.output(0, a.type, {size.M, size.N});
    with_number(a.type, [&](auto zero) {
      using T = decltype(zero);
      const T* left = a.as<T>();
      if (a_transposed) {
        T* turned = reinterpret_cast<T*>(call.scratch(a.bytes()));
        if constexpr (std::is_same_v<T, float>) {
          transpose(left, size.M, size.K, size.M, turned, size.K);
        } else {
          for (std::int64_t i = 0; i < size.M * size.K; ++i) {
            turned[i] = left[i % size.K * size.M + i / size.K];
          }
        }
        left = turned;
      }
      multiply(size, left, b.as<T>(), y.as<T>(), call.interrupt());
      stop_if_interrupted(call);
      scale_and_add<T>(call, y.as<T>(), size.M, size.N, alpha, beta, c);
    });
  });
}

}  // namespace

void list_products(OperatorTable& table) {
  table["treadle.Linear"] = make_linear;
  table["MatMul"] = make_matmul;
  table["Gemm"] = make_gemm;
}

}  // namespace treadle::graph

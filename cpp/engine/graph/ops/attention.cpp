// Attention: treadle.Attention over [B, S, N, E], and ONNX's Attention over [B, N, S, E] or
// [B, S, N E] (https://onnx.ai/onnx/operators/onnx__Attention.html).
#include "engine/attention/attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <initializer_list>
#include <string>
#include <vector>

#include "engine/graph/ops/activation.h"
#include "engine/graph/ops/families.h"
#include "runtime/isa.h"

namespace treadle::graph {
namespace {

// Heads as the engine reads them: B sequences of N heads of `length` rows of `size` floats.
struct Heads {
  std::int64_t B, N, length, size;
  const float* data;
  std::int64_t b, n, s;  // strides

  HeadView<const float> view() const { return {data, b, n, s}; }
};

// Views a value [B, length, N, size].
Heads heads_last(const Tensor& value) {
  const Shape& s = value.shape;
  return {s[0], s[2], s[1], s[3], value.floats(), s[1] * s[2] * s[3], s[3], s[2] * s[3]};
}

// Views a value [B, N, length, size], or [B, length, N size] with N heads.
Heads heads_first(const Tensor& value, std::int64_t N) {
  const Shape& s = value.shape;
  if (s.rank() == 4) {
    return {s[0], s[1], s[2], s[3], value.floats(), s[1] * s[2] * s[3], s[2] * s[3], s[3]};
  }
  if (s.rank() != 3 || N < 1 || s[2] % N != 0) {
    refuse("an input has shape " + s.text() +
           ", expected [B, N, S, E], or [B, S, N E] with N = " + std::to_string(N));
  }
  return {s[0], N, s[1], s[2] / N, value.floats(), s[1] * s[2], s[2] / N, s[2]};
}

// Lets the call read a mask that broadcasts to [B, N, S, K]. Axes of size 1 repeat; a last axis of
// another size than K is written out: it repeats, or ends early, and then hides the keys behind it.
void set_mask(Call& call, const Tensor& mask, AttentionCall& a) {
  const bool adds = mask.type == Type::float32;
  if (!adds && mask.type != Type::boolean) refuse("the mask is neither bool nor float32");
  const int rank = mask.shape.rank();
  if (rank < 1 || rank > 4) refuse("the mask has shape " + mask.shape.text());
  const std::int64_t bytes = size_of(mask.type);
  std::int64_t sizes[4] = {1, 1, 1, 1}, strides[4] = {};
  for (int i = 0; i < rank; ++i) sizes[4 - rank + i] = mask.shape[i];
  const std::int64_t full[4] = {a.B, a.N, a.S, a.K};
  const char* data = mask.data;
  const std::int64_t own = sizes[3], rows = sizes[0] * sizes[1] * sizes[2];
  for (int i = 0; i < 3; ++i) {
    if (sizes[i] != 1 && sizes[i] != full[i]) {
      refuse("the mask has shape " + mask.shape.text() + ", expected one that broadcasts to [" +
             std::to_string(a.B) + ", " + std::to_string(a.N) + ", " + std::to_string(a.S) + ", " +
             std::to_string(a.K) + "]");
    }
  }
  if (own != a.K) {
    if (own > a.K && own != 1)
      refuse("the mask has shape " + mask.shape.text() + ", with more keys than there are");
    char* wide = call.scratch(std::max<std::int64_t>(rows, 1) * a.K * bytes);
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t k = 0; k < a.K; ++k) {
        const bool inside = own == 1 || k < own;
        const std::int64_t from = r * own + (own == 1 ? 0 : k);
        if (adds) {
          reinterpret_cast<float*>(wide)[r * a.K + k] = inside ? mask.floats()[from] : -INFINITY;
        } else {
          wide[r * a.K + k] = static_cast<char>(inside && mask.data[from] != 0);
        }
      }
    }
    data = wide;
  }
  std::int64_t step = a.K * bytes;
  for (int i = 2; i >= 0; --i) {
    strides[i] = sizes[i] == 1 ? 0 : step;
    step *= sizes[i];
  }
  a.mask = {reinterpret_cast<const std::uint8_t*>(data), strides[0], strides[1], strides[2]};
  a.mask_adds = adds;
}

// Fills in what q, k and v say. Throws std::invalid_argument where they do not fit each other.
AttentionCall attention_call(const Heads& q, const Heads& k, const Heads& v) {
  if (q.B != k.B || k.B != v.B || k.N != v.N || k.length != v.length || q.size != k.size) {
    refuse("the shapes of queries, keys and values do not fit each other");
  }
  if (k.N < 1 || q.N % k.N != 0) {
    refuse("there are " + std::to_string(q.N) + " heads of queries and " + std::to_string(k.N) +
           " of keys, expected a multiple");
  }
  if (q.size < 1 || q.size > kMostHeadSize || v.size < 1 || v.size > kMostHeadSize) {
    refuse("a head has " + std::to_string(std::max(q.size, v.size)) + " numbers, expected 1 to " +
           std::to_string(kMostHeadSize));
  }
  AttentionCall a{};
  a.dtype = Dtype::float32;
  a.B = q.B;
  a.N = q.N;
  a.kv_heads = k.N;
  a.S = q.length;
  a.K = k.length;
  a.E = q.size;
  a.F = v.size;
  a.q = q.view();
  a.k = k.view();
  a.v = v.view();
  a.left = a.right = -1;
  return a;
}

void run(Call& call, const AttentionCall& a) {
  if (a.B == 0 || a.N == 0 || a.S == 0) return;
  attend(kernels(), a, call.interrupt());
  stop_if_interrupted(call);
}

// Returns the size that sizes broadcast to: those that are not 1 are the same.
std::int64_t common(const char* axis, std::initializer_list<std::int64_t> sizes) {
  std::int64_t result = 1;
  for (const std::int64_t size : sizes) {
    if (size == 1 || size == result) continue;
    if (result != 1) {
      refuse("the axis " + std::string(axis) + " has sizes " + std::to_string(result) + " and " +
             std::to_string(size) + ", which do not broadcast");
    }
    result = size;
  }
  return result;
}

// Lets the axes B and N of all inputs, and S of the queries, repeat where they are 1, as MatMul and
// Add do. A mask broadcasts to the scores; its keys are one, or as many as there are.
void broadcast(Heads& q, Heads& k, Heads& v, const Tensor* mask) {
  std::int64_t sizes[4] = {1, 1, 1, 1};
  for (int i = 1; mask && i <= std::min(mask->shape.rank(), 4); ++i) {
    sizes[4 - i] = mask->shape[mask->shape.rank() - i];
  }
  if (k.length == 1 && sizes[3] == v.length) {  // one key, to which the mask gives many scores
    k.length = v.length;
    k.s = 0;
  }
  if (sizes[3] != 1 && sizes[3] != k.length) {
    refuse("the mask has " + std::to_string(sizes[3]) + " keys, expected 1 or " +
           std::to_string(k.length));
  }
  const std::int64_t B = common("B", {q.B, k.B, v.B, sizes[0]});
  const std::int64_t N = common("N", {q.N, k.N, v.N, sizes[1]});
  const std::int64_t S = common("S", {q.length, sizes[2]});
  const bool shared = k.N == 1 && v.N == 1;  // all heads of queries have the keys of one
  const auto repeat = [](std::int64_t& size, std::int64_t& stride, std::int64_t wanted) {
    if (size == 1) stride = 0;
    size = wanted;
  };
  for (Heads* one : {&q, &k, &v}) {
    repeat(one->B, one->b, B);
    if (one == &q || !shared) repeat(one->N, one->n, N);
  }
  repeat(q.length, q.s, S);
}

// Gives zeros to the rows whose softmax is NaN.
void clear_nan(const AttentionCall& a, const float* lse) {
  for (std::int64_t i = 0; a.K > 0 && i < a.B * a.N * a.S; ++i) {
    if (!std::isnan(lse[i])) continue;
    const std::int64_t s = i % a.S, n = i / a.S % a.N, b = i / (a.S * a.N);
    float* row = a.out.data + b * a.out.b + n * a.out.n + s * a.out.s;
    std::fill(row, row + a.F, 0.0f);
  }
}

std::unique_ptr<Operator> make_attention(const NodeDescription& node) {
  const double scale = node.number("scale", 0);
  const float hidden_score = static_cast<float>(node.number("hidden_score", -INFINITY));
  const bool broadcasts = node.integer("broadcast", 0) != 0;
  const bool clears = node.integer("nan_to_zero", 0) != 0;
  return make_operator([=](Call& call) {
    Heads q = heads_last(call.input(0, Type::float32, 4));
    Heads k = heads_last(call.input(1, Type::float32, 4));
    Heads v = heads_last(call.input(2, Type::float32, 4));
    const Tensor* mask = call.has(3) ? &call.input(3) : nullptr;
    if (broadcasts) broadcast(q, k, v, mask);
    AttentionCall a = attention_call(q, k, v);
    a.scale = static_cast<float>(scale != 0 ? scale : 1 / std::sqrt(static_cast<double>(a.E)));
    a.hidden_score = hidden_score;
    if (mask) set_mask(call, *mask, a);
    Tensor& y = call.output(0, Type::float32, {a.B, a.S, a.N, a.F});
    a.out = {y.floats(), a.S * a.N * a.F, a.F, a.N * a.F};
    if (clears) a.lse = call.scratch_floats(a.B * a.N * a.S);
    run(call, a);
    if (clears) clear_nan(a, a.lse);
  });
}

// Joins the keys or values of the past [B, N, P, size] and new ones into output i.
Heads join_past(Call& call, int past, int output, const Heads& now) {
  const bool has_past = call.has(past);
  const Tensor* before = has_past ? &call.input(past, Type::float32, 4) : nullptr;
  const std::int64_t P = before ? before->shape[2] : 0, length = P + now.length;
  if (before && before->shape != Shape({now.B, now.N, P, now.size})) {
    refuse("the past has shape " + before->shape.text());
  }
  if (!before && !call.wants(output)) return now;
  Tensor& all = call.output(output, Type::float32, {now.B, now.N, length, now.size});
  for (std::int64_t i = 0; i < now.B * now.N; ++i) {
    float* to = all.floats() + i * length * now.size;
    if (P)
      std::memcpy(to, before->floats() + i * P * now.size,
                  static_cast<std::size_t>(P * now.size) * sizeof(float));
    const float* from = now.data + i / now.N * now.b + i % now.N * now.n;
    for (std::int64_t s = 0; s < now.length; ++s) {
      std::copy(from + s * now.s, from + s * now.s + now.size, to + (P + s) * now.size);
    }
  }
  return heads_first(all, now.N);
}

std::unique_ptr<Operator> make_onnx_attention(const NodeDescription& node) {
  const double scale = node.number("scale", 0), softcap = node.number("softcap", 0);
  const bool causal = node.integer("is_causal", 0) != 0;
  const std::int64_t q_heads = node.integer("q_num_heads", 0);
  const std::int64_t kv_heads = node.integer("kv_num_heads", 0);
  if (node.outputs > 3) refuse("the output qk_matmul_output is not supported");
  return make_operator([=](Call& call) {
    if (call.inputs() > 6) refuse("nonpad_kv_seqlen is not supported");
    const Tensor& queries = call.input(0, Type::float32);
    const Heads q = heads_first(queries, q_heads);
    const Heads k = join_past(call, 4, 1, heads_first(call.input(1, Type::float32), kv_heads));
    const Heads v = join_past(call, 5, 2, heads_first(call.input(2, Type::float32), kv_heads));
    AttentionCall a = attention_call(q, k, v);
    a.scale = static_cast<float>(scale != 0 ? scale : 1 / std::sqrt(static_cast<double>(a.E)));
    a.softcap = static_cast<float>(softcap);
    a.causal = causal;
    if (call.has(3)) set_mask(call, call.input(3), a);
    const std::int64_t past = call.has(4) ? call.input(4).shape[2] : 0;
    const std::vector<std::int64_t> offsets(static_cast<std::size_t>(a.B) + 1, past);
    a.query_offset = offsets.data();
    if (queries.shape.rank() == 4) {
      Tensor& y = call.output(0, Type::float32, {a.B, a.N, a.S, a.F});
      a.out = {y.floats(), a.N * a.S * a.F, a.S * a.F, a.F};
    } else {
      Tensor& y = call.output(0, Type::float32, {a.B, a.S, a.N * a.F});
      a.out = {y.floats(), a.S * a.N * a.F, a.F, a.N * a.F};
    }
    run(call, a);
  });
}

}  // namespace

void list_attention(OperatorTable& table) {
  table["treadle.Attention"] = make_attention;
  table["Attention"] = make_onnx_attention;
}

}  // namespace treadle::graph

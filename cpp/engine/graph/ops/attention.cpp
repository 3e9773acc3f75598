// Attention: treadle.Attention over [B, S, N, E], and ONNX's Attention over [B, N, S, E] or
// [B, S, N E] (https://onnx.ai/onnx/operators/onnx__Attention.html).
#include "engine/attention/attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
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
    if (own > a.K)
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

std::unique_ptr<Operator> make_attention(const NodeDescription& node) {
  const double scale = node.number("scale", 0);
  return make_operator([scale](Call& call) {
    const Heads q = heads_last(call.input(0, Type::float32, 4));
    const Heads k = heads_last(call.input(1, Type::float32, 4));
    const Heads v = heads_last(call.input(2, Type::float32, 4));
    AttentionCall a = attention_call(q, k, v);
    a.scale = static_cast<float>(scale != 0 ? scale : 1 / std::sqrt(static_cast<double>(a.E)));
    if (call.has(3)) set_mask(call, call.input(3), a);
    Tensor& y = call.output(0, Type::float32, {a.B, a.S, a.N, a.F});
    a.out = {y.floats(), a.S * a.N * a.F, a.F, a.N * a.F};
    run(call, a);
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

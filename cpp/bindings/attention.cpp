// attention and attention_backward check their arguments and call the engine.
#include "engine/attention/attention.h"

#include <pybind11/pybind11.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "bindings/arrays.h"
#include "bindings/dtype.h"
#include "bindings/gil.h"
#include "bindings/heads.h"
#include "bindings/masks.h"
#include "bindings/named_values.h"
#include "bindings/score_options.h"
#include "engine/attention/backward.h"
#include "runtime/isa.h"

namespace treadle {
namespace {

using Object = py::object;

constexpr std::int64_t kFar = std::int64_t{1} << 40;  // a few such positions sum up within 64 bits

std::string number(std::int64_t n) { return std::to_string(n); }

// The forward and the backward pass have these options; an option that is not named keeps the value
// that it has here.
struct AttentionOptions {
  Object mask = py::none();  // [B, N, S, K], or None
  bool is_causal = false;
  Object query_lengths = py::none();  // int64 [B], or None: all queries exist
  Object key_lengths = py::none();    // int64 [B], or None: all keys exist
  Object query_offset = py::none();   // int64 [B], or None: where the queries lie among the keys
  ScoreOptions scores;
  std::pair<double, std::uint64_t> dropout{0, 0};  // its probability, its seed
  std::string dtype = "float32";                   // of the products
};

AttentionOptions read_options(const std::string& f, const py::dict& options) {
  NamedValues values(f, "options", options);
  AttentionOptions o;
  o.mask = values.take("mask");
  o.is_causal = values.take("is_causal", o.is_causal);
  o.query_lengths = values.take("query_lengths");
  o.key_lengths = values.take("key_lengths");
  o.query_offset = values.take("query_offset");
  o.scores = take_score_options(values);
  o.dropout = values.take("dropout", o.dropout);
  o.dtype = values.take("dtype", o.dtype);
  values.finish();
  return o;
}

// A call whose arguments have been checked. It refers to copies of some of them, since another
// Python thread must not change these while the call runs.
struct CheckedCall {
  AttentionCall call{};
  std::vector<std::int64_t> query_lengths, key_lengths, query_offset;
};

// Checks numbers [B] from `least` to `most` and returns a copy, which is empty for None.
std::vector<std::int64_t> check_numbers(const std::string& f, const char* name, const Object& value,
                                        std::int64_t B, std::int64_t least, std::int64_t most) {
  if (value.is_none()) return {};
  const auto v = check_array<std::int64_t>(f, name, value, {{"B", B}}, Layout::contiguous);
  std::vector<std::int64_t> numbers(v.data, v.data + B);
  for (std::int64_t b = 0; b < B; ++b) {
    if (numbers[b] < least || numbers[b] > most) {
      throw py::value_error(f + ": " + name + "[" + number(b) + "] is " + number(numbers[b]) +
                            ", expected " + number(least) + " to " + number(most));
    }
  }
  return numbers;
}

// Checks keys or values [B, Nk, K, E]: float32, bfloat16 as uint16, or int8 with scales [B, Nk, K].
struct CheckedRows {
  Dtype dtype;
  std::int64_t shape[4];
  HeadView<const float> floats{};
  HeadView<const std::uint8_t> stored{};
  HeadView<const float> scale{};
};

CheckedRows check_rows(const std::string& f, const char* name, const Object& value,
                       std::initializer_list<Axis> axes) {
  CheckedRows rows{};
  const auto shaped = [&](const auto& v) { std::copy_n(v.shape, 4, rows.shape); };
  const auto bytes = [&](const auto& v) {
    shaped(v);
    const std::int64_t size = sizeof(*v.data);
    rows.stored = {reinterpret_cast<const std::uint8_t*>(v.data), v.strides[0] * size,
                   v.strides[1] * size, v.strides[2] * size};
  };
  if (py::isinstance<py::tuple>(value)) {
    const py::tuple pair = value;
    if (pair.size() != 2) throw py::type_error(f + ": " + name + " is no pair of int8 and scales");
    rows.dtype = Dtype::int8;
    bytes(check_array<std::int8_t>(f, name, pair[0], axes, Layout::last_contiguous));
    const std::string scale = std::string(name) + "'s scales";
    const auto v =
        check_array<float>(f, scale.c_str(), pair[1],
                           {{"B", rows.shape[0]}, {"Nk", rows.shape[1]}, {"K", rows.shape[2]}},
                           Layout::last_contiguous);
    rows.scale = {v.data, v.strides[0], v.strides[1], 1};
  } else if (py::isinstance<py::array_t<std::uint16_t>>(value)) {
    rows.dtype = Dtype::bfloat16;
    bytes(check_array<std::uint16_t>(f, name, value, axes, Layout::last_contiguous));
  } else {
    rows.dtype = Dtype::float32;
    const auto v = check_array<float>(f, name, value, axes, Layout::last_contiguous);
    shaped(v);
    rows.floats = head_view(v);
  }
  return rows;
}

// Checks the arrays of a call, whose shapes tell its sizes.
void check_heads(AttentionCall& c, const std::string& f, const Object& query, const Object& key,
                 const Object& value) {
  const Axis any_b{"B", kAny}, any_n{"N", kAny};
  const auto q = check_array<float>(f, "query", query, {any_b, any_n, {"S", kAny}, {"E", kAny}},
                                    Layout::last_contiguous);
  c.B = q.shape[0];
  c.N = q.shape[1];
  c.S = q.shape[2];
  c.E = q.shape[3];
  const Axis B{"B", c.B};
  const auto k = check_rows(f, "key", key, {B, {"Nk", kAny}, {"K", kAny}, {"E", c.E}});
  c.kv_heads = k.shape[1];
  c.K = k.shape[2];
  const auto v = check_rows(f, "value", value, {B, {"Nk", c.kv_heads}, {"K", c.K}, {"F", kAny}});
  if (k.dtype != v.dtype) throw py::type_error(f + ": key and value differ in their dtype");
  c.F = v.shape[3];
  for (const auto& [letter, size] : {std::pair{"E", c.E}, std::pair{"F", c.F}}) {
    if (size < 1 || size > kMostHeadSize) {
      throw py::value_error(f + ": " + letter + " is " + number(size) + ", expected 1 to " +
                            number(kMostHeadSize));
    }
  }
  if (c.N != 0 && (c.kv_heads == 0 || c.N % c.kv_heads != 0)) {
    throw py::value_error(f + ": query has " + number(c.N) + " heads and key has " +
                          number(c.kv_heads) + ", expected a multiple");
  }
  if (c.S > kFar || c.K > kFar) throw py::value_error(f + ": sequences longer than 2**40");
  c.q = head_view(q);
  c.k = k.floats;
  c.v = v.floats;
  c.stored = {k.dtype, k.stored, v.stored, k.scale, v.scale};
  checked_product(f, {c.B, c.N, c.S, c.F});
  checked_product(f, {c.B, c.N, c.K + 64, c.E + 64});
}

Dropout check_dropout(const std::string& f, double p, std::uint64_t seed) {
  if (!(p >= 0 && p <= 1)) {
    throw py::value_error(f + ": dropout is " + std::to_string(p) + ", expected 0 to 1");
  }
  // With probability 1 the factor is 0, since no threshold is above every random number.
  return {seed, static_cast<std::uint32_t>(std::min(p * 0x1p32, 0x1p32 - 1)),
          p < 1 ? static_cast<float>(1 / (1 - p)) : 0.0f};
}

// `options` must live as long as the call.
void check_call(CheckedCall& checked, const std::string& f, const Object& query, const Object& key,
                const Object& value, const AttentionOptions& options) {
  AttentionCall& c = checked.call;
  check_heads(c, f, query, key, value);
  const Axis B{"B", c.B}, N{"N", c.N};
  const Mask mask = check_mask(f, "mask", options.mask, {B, N, {"S", c.S}, {"K", c.K}});
  c.mask = mask.view;
  c.mask_adds = mask.adds;
  const auto numbers = [&](std::vector<std::int64_t>& copy, const char* name, const Object& given,
                           std::int64_t least, std::int64_t most) {
    copy = check_numbers(f, name, given, c.B, least, most);
    return given.is_none() ? nullptr : copy.data();
  };
  c.query_lengths = numbers(checked.query_lengths, "query_lengths", options.query_lengths, 0, c.S);
  c.key_lengths = numbers(checked.key_lengths, "key_lengths", options.key_lengths, 0, c.K);
  c.query_offset = numbers(checked.query_offset, "query_offset", options.query_offset, -kFar, kFar);
  c.causal = options.is_causal;
  set_scores(c, f, options.scores);
  c.dropout = check_dropout(f, options.dropout.first, options.dropout.second);
  c.dtype = parse_dtype(f, options.dtype);
  if (c.dtype == Dtype::int8) {
    throw py::value_error(f + ": dtype is 'int8', expected float32 or bfloat16");
  }
  if (c.dtype != Dtype::float32 && c.dropout.threshold) {
    throw py::value_error(f + ": dtype is '" + options.dtype + "' with dropout, expected float32");
  }
}

Object attention(const std::string& f, const Object& query, const Object& key, const Object& value,
                 const py::dict& options, const Object& out, const Object& probabilities,
                 const Object& lse) {
  const AttentionOptions own = read_options(f, options);
  CheckedCall checked;
  check_call(checked, f, query, key, value, own);
  AttentionCall& c = checked.call;
  const Axis B{"B", c.B}, N{"N", c.N}, S{"S", c.S}, K{"K", c.K};
  const Object result = heads_output(out, c.B, c.N, c.S, c.F);
  const auto to = check_output(f, "out", result, {B, N, S, {"F", c.F}}, Layout::last_contiguous);
  c.out = head_view(to);
  if (!probabilities.is_none()) {
    c.probabilities = check_output(f, "probabilities", probabilities, {B, N, S, K}).data;
  }
  if (!lse.is_none()) c.lse = check_output(f, "lse", lse, {B, N, S}).data;
  if (c.B == 0 || c.N == 0 || c.S == 0) return result;
  check_rows_apart(f, "out", to);
  interruptible([&](Interrupt& interrupt) {
    if (c.probabilities && !clear(c.probabilities, c.B * c.N * c.S * c.K, interrupt)) return;
    attend(kernels(), c, interrupt);
  });
  return result;
}

// `forward` has the results of the forward pass, out and lse; `grads` has the arrays that are
// written, query, key and value.
void attention_backward(const std::string& f, const Object& query, const Object& key,
                        const Object& value, const py::dict& options, const py::dict& forward,
                        const Object& dout, const py::dict& grads) {
  const AttentionOptions own = read_options(f, options);
  CheckedCall checked;
  check_call(checked, f, query, key, value, own);
  AttentionCall& c = checked.call;
  const Axis B{"B", c.B}, N{"N", c.N}, Nk{"Nk", c.kv_heads}, S{"S", c.S}, K{"K", c.K};
  const Axis E{"E", c.E}, F{"F", c.F};
  if (c.dtype != Dtype::float32 || c.stored.dtype != Dtype::float32) {
    throw py::value_error(f + ": the backward pass needs float32");
  }
  NamedValues results(f, "forward", forward), targets(f, "grads", grads);
  AttentionBackwardCall backward{};
  const auto input = [&](const char* name, const Object& array) {
    return head_view(check_array<float>(f, name, array, {B, N, S, F}, Layout::last_contiguous));
  };
  backward.out = input("out", results.take("out"));
  backward.dout = input("dout", dout);
  // Only the forward pass writes to `lse`, but both passes have the same struct.
  c.lse = const_cast<float*>(
      check_array<float>(f, "lse", results.take("lse"), {B, N, S}, Layout::contiguous).data);
  results.finish();
  const auto output = [&](const char* name, const char* title, std::initializer_list<Axis> axes) {
    return check_output(f, title, targets.take(name), axes, Layout::last_contiguous);
  };
  const auto dq = output("query", "the grad of query", {B, N, S, E});
  const auto dk = output("key", "the grad of key", {B, Nk, K, E});
  const auto dv = output("value", "the grad of value", {B, Nk, K, F});
  targets.finish();
  if (c.B == 0 || c.N == 0 || c.S == 0 || c.K == 0) return;
  check_rows_apart(f, "the grad of query", dq);
  check_rows_apart(f, "the grad of key", dk);
  check_rows_apart(f, "the grad of value", dv);
  backward.dq = head_view(dq);
  backward.dk = head_view(dk);
  backward.dv = head_view(dv);
  backward.call = c;
  interruptible([&](Interrupt& interrupt) { attend_backward(kernels(), backward, interrupt); });
}

}  // namespace

[[gnu::cold]] void register_attention(py::module_& m) {
  // Inference passes arguments by position, since a keyword takes 0.4 us and the call only 4 us.
  m.def("attention", &attention, py::arg("function"), py::arg("query"), py::arg("key"),
        py::arg("value"), py::arg("options") = py::dict(), py::arg("out") = py::none(),
        py::arg("probabilities") = py::none(), py::kw_only(), py::arg("lse") = py::none());
  m.def("attention_backward", &attention_backward, py::arg("function"), py::arg("query"),
        py::arg("key"), py::arg("value"), py::kw_only(), py::arg("options"), py::arg("forward"),
        py::arg("dout"), py::arg("grads"));
}

}  // namespace treadle

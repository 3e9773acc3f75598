// attention and Encoder: argument checks around the engine.
#include "engine/attention/attention.h"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <tuple>

#include "bindings/activation.h"
#include "bindings/arrays.h"
#include "bindings/construct.h"
#include "bindings/dtype.h"
#include "bindings/gil.h"
#include "bindings/heads.h"
#include "engine/attention/backward.h"
#include "engine/transformer/encoder.h"
#include "runtime/isa.h"

namespace treadle {
namespace {

using Object = py::object;

std::string number(std::int64_t n) { return std::to_string(n); }

struct Mask {
  HeadView<const std::uint8_t> view{};  // strides in bytes
  bool adds = false;
};

Mask check_mask(const std::string& f, const Object& mask, std::initializer_list<Axis> axes) {
  Mask m;
  if (mask.is_none()) return m;
  const auto bytes = [](const auto& v, std::int64_t size) {
    return HeadView<const std::uint8_t>{reinterpret_cast<const std::uint8_t*>(v.data),
                                        v.strides[0] * size, v.strides[1] * size,
                                        v.strides[2] * size};
  };
  m.adds = !py::isinstance<py::array_t<bool>>(mask);
  if (m.adds) {
    m.view = bytes(check_array<float>(f, "mask", mask, axes, Layout::last_contiguous), 4);
  } else {
    m.view = bytes(check_array<bool>(f, "mask", mask, axes, Layout::last_contiguous), 1);
  }
  return m;
}

// A copy of per-row numbers, 0 to `most`: another Python thread must not change them afterwards.
std::vector<std::int64_t> check_lengths(const std::string& f, const char* name, const Object& value,
                                        std::int64_t B, std::int64_t least, std::int64_t most) {
  if (value.is_none()) return {};
  const auto v = check_array<std::int64_t>(f, name, value, {{"B", B}}, Layout::contiguous);
  std::vector<std::int64_t> own(v.data, v.data + B);
  for (std::int64_t b = 0; b < B; ++b) {
    if (own[b] < least || own[b] > most) {
      throw py::value_error(f + ": " + name + "[" + number(b) + "] is " + number(own[b]) +
                            ", expected " + number(least) + " to " + number(most));
    }
  }
  return own;
}

// Zeros, in pieces between which a signal is seen; false when it was.
bool clear(float* data, std::int64_t floats, Interrupt& interrupt) {
  constexpr std::int64_t kPiece = 1 << 22;
  for (std::int64_t i = 0; i < floats && !interrupt.stopped(); i += kPiece) {
    std::fill(data + i, data + std::min(floats, i + kPiece), 0.0f);
    interrupt.look();
  }
  return !interrupt.stopped();
}

// What a call of attention was asked to do, checked, and what it refers to.
struct CheckedCall {
  AttentionCall call{};
  std::vector<std::int64_t> query_lengths, key_lengths, query_offset;
};

// What the forward and the backward pass have in common. Options: a tuple (mask, causal, scale,
// query_lengths, key_lengths, window, softcap, alibi_slopes, query_offset, (dropout's p, its seed),
// dtype of the products).
using Options =
    std::tuple<Object, bool, float, Object, Object, std::pair<std::int64_t, std::int64_t>, float,
               Object, Object, std::pair<double, std::uint64_t>, std::string>;

// Keys or values [B, Nk, K, E]: float32, bfloat16 as uint16, or int8 with its scales [B, Nk, K].
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

void check_call(CheckedCall& checked, const std::string& f, const Object& q, const Object& k,
                const Object& v, const Options& options) {
  constexpr std::int64_t kFar = std::int64_t{1} << 40;  // positions: sums of a few stay in 64 bits
  const auto& [mask, causal, scale, query_lengths, key_lengths, window, softcap, alibi_slopes,
               query_offset, dropout, dtype] = options;
  const Axis any_b{"B", kAny}, any_n{"N", kAny};
  const auto in_q = check_array<float>(f, "q", q, {any_b, any_n, {"S", kAny}, {"E", kAny}},
                                       Layout::last_contiguous);
  AttentionCall& c = checked.call;
  c.B = in_q.shape[0];
  c.N = in_q.shape[1];
  c.S = in_q.shape[2];
  c.E = in_q.shape[3];
  const Axis B{"B", c.B}, N{"N", c.N}, S{"S", c.S};
  const auto in_k = check_rows(f, "k", k, {B, {"Nk", kAny}, {"K", kAny}, {"E", c.E}});
  c.kv_heads = in_k.shape[1];
  c.K = in_k.shape[2];
  const Axis K{"K", c.K};
  const auto in_v = check_rows(f, "v", v, {B, {"Nk", c.kv_heads}, K, {"F", kAny}});
  if (in_k.dtype != in_v.dtype) throw py::type_error(f + ": k and v differ in their dtype");
  c.F = in_v.shape[3];
  for (const auto& [letter, size] : {std::pair{"E", c.E}, std::pair{"F", c.F}}) {
    if (size < 1 || size > kMostHeadSize) {
      throw py::value_error(f + ": " + letter + " is " + number(size) + ", expected 1 to " +
                            number(kMostHeadSize));
    }
  }
  if (c.N != 0 && (c.kv_heads == 0 || c.N % c.kv_heads != 0)) {
    throw py::value_error(f + ": q has " + number(c.N) + " heads and k has " + number(c.kv_heads) +
                          ", expected a multiple");
  }
  if (c.S > kFar || c.K > kFar) throw py::value_error(f + ": sequences longer than 2**40");
  const Mask m = check_mask(f, mask, {B, N, S, K});
  checked.query_lengths = check_lengths(f, "query_lengths", query_lengths, c.B, 0, c.S);
  checked.key_lengths = check_lengths(f, "key_lengths", key_lengths, c.B, 0, c.K);
  checked.query_offset = check_lengths(f, "query_offset", query_offset, c.B, -kFar, kFar);
  if (window.first < -1 || window.second < -1 || window.first > kFar || window.second > kFar) {
    throw py::value_error(f + ": window is (" + number(window.first) + ", " +
                          number(window.second) + "), expected sizes >= 0, or -1 for no limit");
  }
  c.q = head_view(in_q);
  c.k = in_k.floats;
  c.v = in_v.floats;
  c.stored = {in_k.dtype, in_k.stored, in_v.stored, in_k.scale, in_v.scale};
  c.mask = m.view;
  c.mask_adds = m.adds;
  c.query_lengths = query_lengths.is_none() ? nullptr : checked.query_lengths.data();
  c.key_lengths = key_lengths.is_none() ? nullptr : checked.key_lengths.data();
  c.query_offset = query_offset.is_none() ? nullptr : checked.query_offset.data();
  c.causal = causal;
  c.left = window.first;
  c.right = window.second;
  c.scale = scale;
  c.softcap = softcap;
  if (!(dropout.first >= 0 && dropout.first <= 1)) {
    throw py::value_error(f + ": dropout is " + std::to_string(dropout.first) +
                          ", expected 0 to 1");
  }
  // All are dropped with a factor of 0: no threshold is above every random number.
  c.dropout = {dropout.second,
               static_cast<std::uint32_t>(std::min(dropout.first * 0x1p32, 0x1p32 - 1)),
               dropout.first < 1 ? static_cast<float>(1 / (1 - dropout.first)) : 0.0f};
  c.dtype = parse_dtype(f, dtype);
  if (c.dtype == Dtype::int8) {
    throw py::value_error(f + ": dtype is 'int8', expected float32 or bfloat16");
  }
  if (c.dtype != Dtype::float32 && c.dropout.threshold) {
    throw py::value_error(f + ": dtype is '" + dtype + "' with dropout, expected float32");
  }
  c.slopes = optional_array<float>(f, "alibi_slopes", alibi_slopes, {N});
  checked_product(f, {c.B, c.N, c.S, c.F});
  checked_product(f, {c.B, c.N, c.K + 64, c.E + 64});
}

Object attention(const std::string& f, const Object& q, const Object& k, const Object& v,
                 const Options& options, const Object& out, const Object& weights,
                 const Object& lse) {
  CheckedCall checked;
  check_call(checked, f, q, k, v, options);
  AttentionCall& c = checked.call;
  const Axis B{"B", c.B}, N{"N", c.N}, S{"S", c.S}, K{"K", c.K};
  const Object result = heads_output(out, c.B, c.N, c.S, c.F);
  const auto to = check_output(f, "out", result, {B, N, S, {"F", c.F}}, Layout::last_contiguous);
  c.out = head_view(to);
  if (!weights.is_none()) c.probabilities = check_output(f, "weights", weights, {B, N, S, K}).data;
  if (!lse.is_none()) c.lse = check_output(f, "lse", lse, {B, N, S}).data;
  if (c.B == 0 || c.N == 0 || c.S == 0) return result;
  check_rows_apart(f, "out", to);
  interruptible([&](Interrupt& interrupt) {
    if (c.probabilities && !clear(c.probabilities, c.B * c.N * c.S * c.K, interrupt)) return;
    attend(kernels(), c, interrupt);
  });
  return result;
}

void attention_backward(const std::string& f, const Object& q, const Object& k, const Object& v,
                        const Options& options, const Object& lse, const Object& out,
                        const Object& dout, const Object& dq, const Object& dk, const Object& dv) {
  CheckedCall checked;
  check_call(checked, f, q, k, v, options);
  AttentionCall& c = checked.call;
  const Axis B{"B", c.B}, N{"N", c.N}, Nk{"Nk", c.kv_heads}, S{"S", c.S}, K{"K", c.K};
  const Axis E{"E", c.E}, F{"F", c.F};
  if (c.dtype != Dtype::float32 || c.stored.dtype != Dtype::float32) {
    throw py::value_error(f + ": the backward pass needs float32");
  }
  AttentionBackwardCall backward{};
  const auto input = [&](const char* name, const Object& value) {
    return head_view(check_array<float>(f, name, value, {B, N, S, F}, Layout::last_contiguous));
  };
  backward.out = input("out", out);
  backward.dout = input("dout", dout);
  // Written by the forward pass alone, but through the same call.
  c.lse = const_cast<float*>(check_array<float>(f, "lse", lse, {B, N, S}, Layout::contiguous).data);
  const auto output = [&](const char* name, const Object& value, std::initializer_list<Axis> axes) {
    return check_output(f, name, value, axes, Layout::last_contiguous);
  };
  const auto to_q = output("dq", dq, {B, N, S, E});
  const auto to_k = output("dk", dk, {B, Nk, K, E});
  const auto to_v = output("dv", dv, {B, Nk, K, F});
  if (c.B == 0 || c.N == 0 || c.S == 0 || c.K == 0) return;
  check_rows_apart(f, "dq", to_q);
  check_rows_apart(f, "dk", to_k);
  check_rows_apart(f, "dv", to_v);
  backward.dq = head_view(to_q);
  backward.dk = head_view(to_k);
  backward.dv = head_view(to_v);
  backward.call = c;
  interruptible([&](Interrupt& interrupt) { attend_backward(kernels(), backward, interrupt); });
}

// The engine's encoder, and whether its sizes are sane.
std::unique_ptr<Encoder> make_encoder(const std::string& f, std::int64_t hidden, std::int64_t heads,
                                      std::int64_t feed_forward, const Object& activation,
                                      bool norm_first, float eps, const std::string& dtype) {
  for (const auto& [name, size] : {std::pair{"hidden", hidden}, std::pair{"num_heads", heads},
                                   std::pair{"feed_forward", feed_forward}}) {
    if (size < 1 || size > INT32_MAX / 4) {
      throw py::value_error(f + ": " + name + " is " + number(size) + ", expected 1 to 2**29");
    }
  }
  if (hidden % heads != 0 || hidden / heads > kMostHeadSize) {
    throw py::value_error(f + ": hidden is " + number(hidden) + " for " + number(heads) +
                          " heads, expected a multiple and at most " + number(kMostHeadSize) +
                          " for each");
  }
  return std::make_unique<Encoder>(
      kernels(),
      BlockShape{hidden, heads, feed_forward, parse_activation(f, activation), norm_first, eps},
      parse_dtype(f, dtype));
}

// An encoder with the name that errors begin with.
class BoundEncoder {
 public:
  BoundEncoder(const std::string& function, std::int64_t hidden, std::int64_t heads,
               std::int64_t feed_forward, const Object& activation, bool norm_first, float eps,
               const std::string& dtype)
      : function_(function),
        encoder_(make_encoder(function, hidden, heads, feed_forward, activation, norm_first, eps,
                              dtype)) {}

  void add_layer(const Object& in_weight, const Object& in_bias, const Object& out_weight,
                 const Object& out_bias, const Object& norm1_weight, const Object& norm1_bias,
                 const Object& linear1_weight, const Object& linear1_bias,
                 const Object& linear2_weight, const Object& linear2_bias,
                 const Object& norm2_weight, const Object& norm2_bias) {
    if (ran_) throw py::value_error(function_ + ": add_layer after run");
    const BlockShape& s = encoder_->shape();
    const Axis H{"H", s.hidden}, H3{"3*H", 3 * s.hidden}, F{"F", s.feed_forward};
    const auto matrix = [&](const char* name, const Object& value, Axis rows, Axis columns) {
      return check_weight(function_, name, value, encoder_->dtype(), rows, columns).matrix;
    };
    const auto vector = [&](const char* name, const Object& value, Axis size) {
      return optional_array<float>(function_, name, value, {size});
    };
    BlockWeights w{};
    w.self_attention = {
        matrix("in_proj_weight", in_weight, H3, H),
        vector("in_proj_bias", in_bias, H3),
        matrix("out_proj_weight", out_weight, H, H),
        vector("out_proj_bias", out_bias, H),
        {vector("norm1_weight", norm1_weight, H), vector("norm1_bias", norm1_bias, H)}};
    w.feed_forward = {
        matrix("linear1_weight", linear1_weight, F, H),
        vector("linear1_bias", linear1_bias, F),
        matrix("linear2_weight", linear2_weight, H, F),
        vector("linear2_bias", linear2_bias, H),
        {vector("norm2_weight", norm2_weight, H), vector("norm2_bias", norm2_bias, H)}};
    encoder_->add_layer(w);  // with the GIL: nobody may run it meanwhile
  }

  py::array_t<float> run(const std::string& f, const Object& x, const Object& offsets,
                         const Object& mask, bool causal, std::int64_t first, std::int64_t last,
                         const Object& weights) {
    const BlockShape& s = encoder_->shape();
    const auto in =
        check_array<float>(f, "x", x, {{"M", kAny}, {"H", s.hidden}}, Layout::contiguous);
    const auto list =
        check_array<std::int64_t>(f, "offsets", offsets, {{"B+1", kAny}}, Layout::contiguous);
    const std::int64_t M = in.shape[0];
    const std::vector<std::int64_t> own(list.data, list.data + list.shape[0]);
    if (own.empty() || own.front() != 0 || own.back() != M ||
        !std::is_sorted(own.begin(), own.end())) {
      throw py::value_error(f + ": offsets do not rise from 0 to M = " + number(M));
    }
    if (first < 0 || first > last || last > encoder_->layers()) {
      throw py::value_error(f + ": layers " + number(first) + " to " + number(last) +
                            ", expected a part of 0 to " + number(encoder_->layers()));
    }
    BlockCall c{};
    RaggedBatch& batch = c.batch;
    batch.B = static_cast<std::int64_t>(own.size()) - 1;
    batch.offsets = own.data();
    for (std::int64_t b = 0; b < batch.B; ++b) {
      batch.longest = std::max(batch.longest, batch.length(b));
    }
    c.x = in.data;
    const Axis B{"B", batch.B}, N{"N", s.heads}, S{"S", batch.longest};
    const Mask m = check_mask(f, mask, {B, N, S, S});
    AttentionView& view = c.self_attention;
    view = {m.view, m.adds, causal, nullptr};
    checked_product(f, {M, std::max(3 * s.hidden, s.feed_forward)});
    if (!weights.is_none()) {
      if (last != first + 1) throw py::value_error(f + ": weights of one layer only");
      view.probabilities = check_output(f, "weights", weights, {B, N, S, S}).data;
    }
    py::array_t<float> y = new_array(f, {M, s.hidden});
    c.out = y.mutable_data();
    ran_ = true;
    const bool empty = first == last;
    interruptible([&](Interrupt& interrupt) {
      const std::int64_t pairs = batch.longest * batch.longest;
      if (view.probabilities && !clear(view.probabilities, batch.B * s.heads * pairs, interrupt)) {
        return;
      }
      if (empty) {
        std::copy(c.x, c.x + M * s.hidden, c.out);
      } else {
        encoder_->run(c, first, last, interrupt);
      }
    });
    return y;
  }

  std::int64_t layers() const { return encoder_->layers(); }
  std::int64_t weight_bytes() const { return encoder_->weight_bytes(); }
  const char* isa() const { return encoder_->isa(); }

 private:
  const std::string function_;
  const std::unique_ptr<Encoder> encoder_;
  bool ran_ = false;  // guarded by the GIL
};

}  // namespace

void register_attention(py::module_& m) {
  m.def("attention", &attention, py::arg("function"), py::arg("q"), py::arg("k"), py::arg("v"),
        py::arg("options"), py::arg("out"), py::arg("weights"), py::arg("lse"));
  m.def("attention_backward", &attention_backward, py::arg("function"), py::arg("q"), py::arg("k"),
        py::arg("v"), py::arg("options"), py::arg("lse"), py::arg("out"), py::arg("dout"),
        py::arg("dq"), py::arg("dk"), py::arg("dv"));
  py::class_<BoundEncoder>(m, "Encoder", py::is_final(), constructed_by_new())
      .def(py::init<const std::string&, std::int64_t, std::int64_t, std::int64_t, const Object&,
                    bool, float, const std::string&>(),
           py::arg("function"), py::arg("hidden"), py::arg("num_heads"), py::arg("feed_forward"),
           py::arg("activation"), py::arg("norm_first"), py::arg("eps"),
           py::arg("dtype") = "float32")
      .def("add_layer", &BoundEncoder::add_layer, py::arg("in_proj_weight"),
           py::arg("in_proj_bias"), py::arg("out_proj_weight"), py::arg("out_proj_bias"),
           py::arg("norm1_weight"), py::arg("norm1_bias"), py::arg("linear1_weight"),
           py::arg("linear1_bias"), py::arg("linear2_weight"), py::arg("linear2_bias"),
           py::arg("norm2_weight"), py::arg("norm2_bias"))
      .def("run", &BoundEncoder::run, py::arg("function"), py::arg("x"), py::arg("offsets"),
           py::arg("mask"), py::arg("causal"), py::arg("first"), py::arg("last"),
           py::arg("weights") = py::none())
      .def_property_readonly("num_layers", &BoundEncoder::layers)
      .def_property_readonly("weight_bytes", &BoundEncoder::weight_bytes)
      .def_property_readonly("isa", &BoundEncoder::isa);
}

}  // namespace treadle

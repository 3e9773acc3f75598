// The Python class Decoder checks its arguments and calls the engine's stack of layers.
#include "bindings/decoder.h"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "bindings/activation.h"
#include "bindings/block.h"
#include "bindings/construct.h"
#include "bindings/dtype.h"
#include "bindings/gil.h"
#include "bindings/growth.h"
#include "bindings/named_values.h"
#include "runtime/isa.h"

namespace treadle {
namespace {

using Object = py::object;

NormKind parse_norm(const std::string& f, const std::string& name) {
  if (name == "layer") return NormKind::layer;
  if (name == "rms") return NormKind::rms;
  throw py::value_error(f + ": norm is '" + name + "', expected layer or rms");
}

NormPlace parse_place(const std::string& f, const std::string& name) {
  if (name == "before") return NormPlace::before;
  if (name == "after") return NormPlace::after;
  if (name == "both") return NormPlace::both;
  throw py::value_error(f + ": norm_place is '" + name + "', expected before, after or both");
}

DecoderShape check_shape(const std::string& f, NamedValues& options) {
  DecoderShape s{};
  // A vocabulary times a row stays in 64 bits.
  s.vocabulary = check_size(f, "vocabulary", options.require<std::int64_t>("vocabulary"), 1);
  s.hidden = check_size(f, "hidden", options.require<std::int64_t>("hidden"), 1, INT32_MAX / 4);
  s.embed_scale = options.take("embed_scale", 1.0f);
  s.logit_scale = options.take("logit_scale", 1.0f);
  s.logit_softcap = options.take("logit_softcap", 0.0f);
  s.embed_eps = options.require<float>("embed_eps");
  s.final_norm = parse_norm(f, options.require<std::string>("final_norm"));
  s.final_eps = options.require<float>("final_eps");
  return s;
}

// Reads the weights of the stack; `values` must outlive the result.
DecoderWeights check_weights(const std::string& f, NamedValues& values, DecoderShape& s,
                             Dtype dtype, std::shared_ptr<const Linear> shared) {
  const Axis V{"V", s.vocabulary}, H{"H", s.hidden};
  const auto matrix = [&](const char* name) {
    return check_weight(f, name, values.take(name), dtype, V, H).matrix;
  };
  const auto vector = [&](const std::string& name, Axis size) {
    return optional_array<float>(f, name.c_str(), values.take(name), {size});
  };
  const auto norm = [&](const std::string& prefix) {
    return NormWeights{vector(prefix + ".weight", H), vector(prefix + ".bias", H)};
  };
  DecoderWeights w{};
  if (!shared) {
    w.embed = matrix("embed.weight");
  } else if (shared->dtype() != dtype || shared->outputs() != s.vocabulary ||
             shared->inputs() != s.hidden) {
    throw py::value_error(f + ": embedding has other sizes or another dtype, expected the same");
  }
  w.shared = std::move(shared);
  const Object positions = values.take("positions.weight");
  if (!positions.is_none()) {
    const auto table =
        check_array<float>(f, "positions.weight", positions, {{"P", kAny}, H}, Layout::contiguous);
    s.positions = check_size(f, "P", table.shape[0], 1);
    w.positions = table.data;
  }
  w.embed_norm = norm("embed_norm");
  w.final_norm = norm("final_norm");
  if (!values.take("head.weight").is_none()) w.head = matrix("head.weight");
  w.head_bias = vector("head.bias", V);
  const Object distances = values.take("distances");
  if (!distances.is_none()) {
    const auto table = check_array<float>(f, "distances", distances, {{"N", kAny}, {"D", kAny}},
                                          Layout::contiguous);
    if (table.shape[0] < 1 || table.shape[1] % 2 != 1) {
      throw py::value_error(f + ": distances has an even number of columns, expected an odd one");
    }
    w.distances.emplace(table.shape[0], table.shape[1] / 2, table.data);
  }
  values.finish();
  return w;
}

BlockShape check_layer_shape(const std::string& f, NamedValues& options, std::int64_t hidden) {
  constexpr std::int64_t kMost = INT32_MAX / 4;
  const auto size = [&](const char* name, std::int64_t most) {
    return check_size(f, name, options.require<std::int64_t>(name), 1, most);
  };
  BlockShape s{};
  s.hidden = hidden;
  s.heads = size("heads", kMost);
  s.kv_heads = size("kv_heads", kMost);
  s.head_size = size("head_size", kMostHeadSize);
  s.feed_forward = size("feed_forward", kMost);
  s.activation = parse_activation(f, options.take("activation"));
  s.gated = options.require<bool>("gated");
  s.norm = parse_norm(f, options.require<std::string>("norm"));
  s.norm_place = parse_place(f, options.require<std::string>("norm_place"));
  s.parallel = options.require<bool>("parallel");
  s.head_norm = options.require<bool>("head_norm");
  s.eps = options.require<float>("eps");
  s.scale = options.require<float>("scale");
  s.softcap = options.require<float>("softcap");
  s.left = options.require<std::int64_t>("window") - 1;
  if (s.heads % s.kv_heads != 0 || s.queries() > kMost || s.left < -1) {
    throw py::value_error(f + ": heads is " + std::to_string(s.heads) + " of " +
                          std::to_string(s.head_size) + ", expected a multiple of kv_heads, " +
                          std::to_string(s.kv_heads) + ", and at most 2**29 in all");
  }
  return s;
}

LayerPositions check_layer_positions(const std::string& f, NamedValues& options,
                                     const BlockShape& s, const Decoder& decoder) {
  LayerPositions p;
  p.causal = options.require<bool>("causal");
  p.distances = options.require<bool>("relative");
  if (p.distances && (!decoder.distances() || decoder.distances()->heads() != s.heads)) {
    throw py::value_error(f + ": a layer with relative positions needs distances [N, D] with N = " +
                          std::to_string(s.heads));
  }
  const float factor = options.take("rotary_factor", 1.0f);
  const Object frequencies = options.take("frequencies");
  if (!frequencies.is_none()) {
    const auto list =
        check_array<float>(f, "frequencies", frequencies, {{"R", kAny}}, Layout::contiguous);
    check_size(f, "R", list.shape[0], 1, s.head_size / 2);
    p.turns.emplace(std::vector<float>(list.data, list.data + list.shape[0]), factor);
  }
  return p;
}

// Takes the weights of one layer by their names.
class LayerReader {
 public:
  LayerReader(const std::string& function, NamedValues& values, const BlockShape& shape,
              Dtype dtype)
      : function_(function), values_(values), s_(shape), dtype_(dtype) {}

  AttentionWeights attention(const std::string& prefix, const std::string& norm, Axis projected) {
    const Axis H{"H", s_.hidden}, Q{"N*E", s_.queries()};
    const auto [in, in_bias] = linear(prefix + ".in_proj", projected, H);
    const auto [out, out_bias] = linear(prefix + ".out_proj", H, Q);
    return {in, in_bias, out, out_bias, this->norm(norm), after(norm)};
  }
  FeedForwardWeights feed_forward() {
    const Axis H{"H", s_.hidden}, F{"F", s_.feed_forward}, F2{"2*F", 2 * s_.feed_forward};
    const auto [weight1, bias1] = linear("linear1", s_.gated ? F2 : F, H);
    const auto [weight2, bias2] = linear("linear2", H, F);
    return {weight1, bias1, weight2, bias2, norm("norm_ff"), after("norm_ff")};
  }
  const float* vector(const std::string& name, Axis size) {
    return optional_array<float>(function_, name.c_str(), values_.take(name), {size});
  }

 private:
  std::pair<StoredMatrix, const float*> linear(const std::string& name, Axis rows, Axis columns) {
    const std::string weight = name + ".weight";
    return {
        check_weight(function_, weight.c_str(), values_.take(weight), dtype_, rows, columns).matrix,
        vector(name + ".bias", rows)};
  }
  NormWeights norm(const std::string& prefix) {
    const Axis H{"H", s_.hidden};
    return {vector(prefix + ".weight", H), vector(prefix + ".bias", H)};
  }
  NormWeights after(const std::string& norm) {
    return s_.norm_place == NormPlace::both ? this->norm(norm + "_after") : NormWeights{};
  }

  const std::string& function_;
  NamedValues& values_;
  const BlockShape& s_;
  const Dtype dtype_;
};

BlockWeights check_layer_weights(const std::string& f, NamedValues& values, const BlockShape& s,
                                 Dtype dtype, bool cross_attention) {
  LayerReader reader(f, values, s, dtype);
  BlockWeights w{};
  w.self_attention = reader.attention("self_attn", "norm_attn", {"(N+2*G)*E", s.projected()});
  if (s.head_norm) {
    w.self_attention.query_norm = reader.vector("q_norm.weight", {"E", s.head_size});
    w.self_attention.key_norm = reader.vector("k_norm.weight", {"E", s.head_size});
  }
  if (cross_attention) {
    w.cross_attention = reader.attention("cross_attn", "norm_cross", {"3*N*E", 3 * s.queries()});
  }
  w.feed_forward = reader.feed_forward();
  values.finish();
  return w;
}

// A stack with the name that errors begin with.
class BoundDecoder {
 public:
  BoundDecoder(const std::string& function, const py::dict& options, const py::dict& weights,
               const std::string& dtype_name, const BoundDecoder* embedding)
      : function_(function), dtype_(parse_dtype(function, dtype_name)) {
    NamedValues named(function_, "options", options), values(function_, "weights", weights);
    DecoderShape shape = check_shape(function_, named);
    named.finish();
    DecoderWeights checked = check_weights(function_, values, shape, dtype_,
                                           embedding ? embedding->decoder_->embedding() : nullptr);
    interruptible([&](Interrupt&) {
      decoder_ = std::make_shared<Decoder>(kernels(), shape, std::move(checked));
    });
  }

  void add_layer(const py::dict& options, const py::dict& weights) {
    NamedValues named(function_, "options", options), values(function_, "weights", weights);
    const BlockShape shape = check_layer_shape(function_, named, decoder_->shape().hidden);
    const LayerPositions positions = check_layer_positions(function_, named, shape, *decoder_);
    const bool cross = named.require<bool>("cross_attention");
    named.finish();
    const BlockWeights checked = check_layer_weights(function_, values, shape, dtype_, cross);
    std::optional<TransformerBlock> block;
    interruptible([&](Interrupt&) { block.emplace(kernels(), shape, checked); });
    // Until here another thread may have run the stack.
    const bool added = growth_.add([&] {
      if (decoder_->layers() && !same_sizes(shape, cross)) {
        throw py::value_error(function_ + ": layer " + std::to_string(decoder_->layers()) +
                              " has other sizes than layer 0, expected the same");
      }
      decoder_->add_layer(std::move(*block), positions);
    });
    if (!added) throw py::value_error(function_ + ": add_layer after a call");
  }

  // Runs sequences by themselves.
  py::tuple encode(const std::string& f, const Object& tokens, const Object& lengths, bool states,
                   bool attentions) {
    begin(f);
    const DecoderShape& s = decoder_->shape();
    const Integers ids = check_integers(f, "tokens", tokens, "M", 0, s.vocabulary - 1);
    const auto M = static_cast<std::int64_t>(ids.size());
    const Integers counts = check_integers(f, "lengths", lengths, "B", 0, M);
    check_sum(f, "lengths", counts, M);
    if (decoder_->has_cross_attention()) {
      throw py::value_error(f + ": the layers have cross attention, expected layers without it");
    }
    Integers offsets{0};
    DecoderCall call{};
    for (const std::int64_t n : counts) {
      offsets.push_back(offsets.back() + n);
      call.batch.longest = std::max(call.batch.longest, n);
    }
    check_positions(f, *decoder_, call.batch.longest);
    checked_product(f, {M, decoder_->layer_shape().projected(), 8});
    const CallSizes sizes{M, static_cast<std::int64_t>(counts.size()), call.batch.longest,
                          call.batch.longest, 0};
    const py::tuple result = new_results(f, *decoder_, sizes, {states, attentions}, call);
    const Integers past(counts.size(), 0);
    call.batch.B = static_cast<std::int64_t>(counts.size());
    call.batch.offsets = offsets.data();
    call.tokens = ids.data();
    call.past = past.data();
    interruptible([&](Interrupt& interrupt) {
      if (clear_attentions(*decoder_, sizes, call, interrupt)) decoder_->run(call, interrupt);
    });
    return result;
  }

  py::array_t<float> logits(const std::string& f, const Object& hidden) const {
    const DecoderShape& s = decoder_->shape();
    const auto rows =
        check_array<float>(f, "hidden", hidden, {{"R", kAny}, {"H", s.hidden}}, Layout::contiguous);
    py::array_t<float> y = new_array(f, {rows.shape[0], s.vocabulary});
    float* const to = y.mutable_data();
    interruptible(
        [&](Interrupt& interrupt) { decoder_->logits(rows.data, rows.shape[0], to, interrupt); });
    return y;
  }

  // Makes a state of `rows` sequences. `memory` is None, or a pair of rows [M, H] and the lengths
  // [B] of its sequences.
  std::unique_ptr<BoundDecoderState> start(const std::string& f, std::int64_t rows,
                                           std::int64_t capacity, const std::string& dtype_name,
                                           const std::optional<std::pair<Object, Object>>& memory) {
    begin(f);
    check_size(f, "rows", rows, 0);
    check_size(f, "capacity", capacity, 0);
    const Dtype dtype = parse_dtype(f, dtype_name);
    const BlockShape& s = decoder_->layer_shape();
    if (!decoder_->causal()) {
      throw py::value_error(f + ": a layer is not causal, expected causal layers");
    }
    if (decoder_->has_cross_attention() != memory.has_value()) {
      throw py::value_error(f + ": memory is " + (memory ? "given" : "None") +
                            ", expected it if, and only if, the layers have cross attention");
    }
    checked_product(f, {rows, capacity, decoder_->layers() * s.keys(), 8});
    std::shared_ptr<const DecoderMemory> remembered;
    if (memory) {
      const auto from = check_array<float>(f, "memory", memory->first,
                                           {{"M", kAny}, {"H", s.hidden}}, Layout::contiguous);
      const Integers counts =
          check_integers(f, "memory's lengths", memory->second, "B", 0, from.shape[0]);
      if (static_cast<std::int64_t>(counts.size()) != rows) {
        throw py::value_error(f + ": memory has " + std::to_string(counts.size()) +
                              " sequences, expected " + std::to_string(rows) +
                              ", one for each row");
      }
      check_sum(f, "memory's lengths", counts, from.shape[0]);
      checked_product(f, {from.shape[0], decoder_->layers() * s.queries(), 16});
      Integers offsets{0};
      for (const std::int64_t n : counts) offsets.push_back(offsets.back() + n);
      interruptible([&](Interrupt& interrupt) {
        remembered = decoder_->remember({rows, 0, offsets.data()}, from.data, dtype, interrupt);
      });
    }
    return std::make_unique<BoundDecoderState>(
        std::make_unique<DecoderState>(decoder_, rows, capacity, dtype, std::move(remembered)));
  }

  std::int64_t layers() const {
    return growth_.read([&] { return decoder_->layers(); });
  }
  std::int64_t weight_bytes() const {
    return growth_.read([&] { return decoder_->weight_bytes(); });
  }
  const char* isa() const { return decoder_->isa(); }

 private:
  // Ends the time in which layers may be added.
  void begin(const std::string& f) {
    if (!growth_.end([&] { return decoder_->layers() != 0; })) {
      throw py::value_error(f + ": there is no layer, expected one");
    }
  }
  bool same_sizes(const BlockShape& s, bool cross) const {
    const BlockShape& t = decoder_->layer_shape();
    return s.heads == t.heads && s.kv_heads == t.kv_heads && s.head_size == t.head_size &&
           s.feed_forward == t.feed_forward && s.gated == t.gated && s.parallel == t.parallel &&
           s.norm_place == t.norm_place && cross == decoder_->has_cross_attention();
  }

  const std::string function_;
  const Dtype dtype_;
  std::shared_ptr<Decoder> decoder_;
  Growth growth_;
};

}  // namespace

[[gnu::cold]] void register_decoder(py::module_& m) {
  py::class_<BoundDecoder>(m, "Decoder", py::is_final(), constructed_by_new())
      .def(py::init<const std::string&, const py::dict&, const py::dict&, const std::string&,
                    const BoundDecoder*>(),
           py::arg("function"), py::arg("options"), py::arg("weights"), py::kw_only(),
           py::arg("dtype"), py::arg("embedding") = py::none())
      .def("add_layer", &BoundDecoder::add_layer, py::arg("options"), py::arg("weights"))
      .def("encode", &BoundDecoder::encode, py::arg("function"), py::arg("tokens"),
           py::arg("lengths"), py::kw_only(), py::arg("states") = false,
           py::arg("attentions") = false)
      .def("logits", &BoundDecoder::logits, py::arg("function"), py::arg("hidden"))
      .def("start", &BoundDecoder::start, py::arg("function"), py::arg("rows"), py::kw_only(),
           py::arg("capacity"), py::arg("dtype"), py::arg("memory") = py::none())
      .def_property_readonly("num_layers", &BoundDecoder::layers)
      .def_property_readonly("weight_bytes", &BoundDecoder::weight_bytes)
      .def_property_readonly("isa", &BoundDecoder::isa);
}

}  // namespace treadle

// The Python class Encoder checks its arguments and calls the engine's encoder.
#include "engine/transformer/encoder.h"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "bindings/arrays.h"
#include "bindings/block.h"
#include "bindings/construct.h"
#include "bindings/dtype.h"
#include "bindings/gil.h"
#include "bindings/growth.h"
#include "bindings/masks.h"
#include "bindings/named_values.h"
#include "runtime/isa.h"

namespace treadle {
namespace {

using Object = py::object;

// Checks the sizes and makes the engine's encoder.
std::unique_ptr<Encoder> make_encoder(const std::string& f, std::int64_t hidden, std::int64_t heads,
                                      std::int64_t feed_forward, const Object& activation,
                                      bool norm_first, float eps, const std::string& dtype) {
  const BlockShape shape =
      check_plain_shape(f, hidden, heads, feed_forward, activation, norm_first, eps);
  return std::make_unique<Encoder>(kernels(), shape, parse_dtype(f, dtype));
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

  // The names are those of the state dict of torch.nn.TransformerEncoderLayer.
  void add_layer(const py::dict& weights) {
    NamedValues values(function_, "weights", weights);
    const BlockWeights checked =
        check_block_weights(function_, values, encoder_->shape(), encoder_->dtype(), false);
    std::optional<TransformerBlock> block;
    interruptible(
        [&](Interrupt&) { block.emplace(encoder_->table(), encoder_->shape(), checked); });
    // Until here another thread may have run the encoder.
    if (!growth_.add([&] { encoder_->add_layer(std::move(*block)); })) {
      throw py::value_error(function_ + ": add_layer after run");
    }
  }

  // Takes x [M, H] through the layers first..last - 1, or through all from `first` on if `last` is
  // None. `offsets` [B + 1] says where each sequence begins, and where the last one ends. The
  // attention of a single layer fills `probabilities` [B, N, S, S].
  py::array_t<float> run(const std::string& f, const Object& x, const Object& offsets,
                         const Object& mask, bool is_causal,
                         const std::pair<std::int64_t, std::optional<std::int64_t>>& layers,
                         const Object& probabilities) {
    const std::int64_t count = this->layers();
    const std::int64_t first = layers.first, last = layers.second.value_or(count);
    const BlockShape& s = encoder_->shape();
    const auto in =
        check_array<float>(f, "x", x, {{"M", kAny}, {"H", s.hidden}}, Layout::contiguous);
    const std::int64_t M = in.shape[0];
    const CheckedBatch checked(f, "offsets", offsets, M);
    if (first < 0 || first > last || last > count) {
      throw py::value_error(f + ": layers " + std::to_string(first) + " to " +
                            std::to_string(last) + ", expected a part of 0 to " +
                            std::to_string(count));
    }
    BlockCall c{};
    c.batch = checked.batch();
    c.x = in.data;
    const Axis B{"B", c.batch.B}, N{"N", s.heads}, S{"S", c.batch.longest};
    const Mask m = check_mask(f, "mask", mask, {B, N, S, S});
    AttentionView& view = c.self_attention;
    view = {m.view, m.adds, is_causal, nullptr};
    checked_product(f, {M, std::max(3 * s.hidden, s.feed_forward)});
    if (!probabilities.is_none()) {
      if (last != first + 1) throw py::value_error(f + ": probabilities of one layer only");
      view.probabilities = check_output(f, "probabilities", probabilities, {B, N, S, S}).data;
    }
    py::array_t<float> y = new_array(f, {M, s.hidden});
    c.out = y.mutable_data();
    growth_.end([] { return true; });
    const bool empty = first == last;
    interruptible([&](Interrupt& interrupt) {
      if (view.probabilities &&
          !clear(view.probabilities, B.size * N.size * S.size * S.size, interrupt)) {
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

  std::int64_t layers() const {
    return growth_.read([&] { return encoder_->layers(); });
  }
  std::int64_t weight_bytes() const {
    return growth_.read([&] { return encoder_->weight_bytes(); });
  }
  const char* isa() const { return encoder_->isa(); }

 private:
  const std::string function_;
  const std::unique_ptr<Encoder> encoder_;
  Growth growth_;
};

}  // namespace

[[gnu::cold]] void register_encoder(py::module_& m) {
  py::class_<BoundEncoder>(m, "Encoder", py::is_final(), constructed_by_new())
      .def(py::init<const std::string&, std::int64_t, std::int64_t, std::int64_t, const Object&,
                    bool, float, const std::string&>(),
           py::arg("function"), py::kw_only(), py::arg("hidden"), py::arg("num_heads"),
           py::arg("feed_forward"), py::arg("activation"), py::arg("norm_first"), py::arg("eps"),
           py::arg("dtype") = "float32")
      .def("add_layer", &BoundEncoder::add_layer, py::arg("weights"))
      .def("run", &BoundEncoder::run, py::arg("function"), py::arg("x"), py::arg("offsets"),
           py::kw_only(), py::arg("mask") = py::none(), py::arg("is_causal") = false,
           py::arg("layers") = std::pair<std::int64_t, std::optional<std::int64_t>>{0, {}},
           py::arg("probabilities") = py::none())
      .def_property_readonly("num_layers", &BoundEncoder::layers)
      .def_property_readonly("weight_bytes", &BoundEncoder::weight_bytes)
      .def_property_readonly("isa", &BoundEncoder::isa);
}

}  // namespace treadle

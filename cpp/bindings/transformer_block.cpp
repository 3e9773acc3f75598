// The Python class TransformerBlock checks its arguments and calls one block of the engine, with or
// without cross attention.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "bindings/arrays.h"
#include "bindings/block.h"
#include "bindings/construct.h"
#include "bindings/dtype.h"
#include "bindings/gil.h"
#include "bindings/masks.h"
#include "bindings/named_values.h"
#include "engine/transformer/block_call.h"
#include "runtime/isa.h"

namespace treadle {
namespace {

using Object = py::object;

// These weights tell how large a block is, and whether it has cross attention.
constexpr const char* kOut = "self_attn.out_proj.weight";
constexpr const char* kLinear1 = "linear1.weight";
constexpr const char *kCrossIn = "multihead_attn.in_proj_weight",
                     *kCrossOut = "multihead_attn.out_proj.weight";

// Packs a block. The weights tell its sizes, and whether it has cross attention.
TransformerBlock make_block(const std::string& f, const py::dict& weights, std::int64_t heads,
                            const Object& activation, bool norm_first, float eps,
                            const std::string& dtype_name) {
  const Dtype dtype = parse_dtype(f, dtype_name);
  NamedValues values(f, "weights", weights);
  const auto rows = [&](const char* name) {
    return check_weight(f, name, values.take(name), dtype, {"N", kAny}, {"H", kAny}).rows;
  };
  const BlockShape shape =
      check_plain_shape(f, rows(kOut), heads, rows(kLinear1), activation, norm_first, eps);
  const bool cross = !values.take(kCrossIn).is_none() || !values.take(kCrossOut).is_none();
  const BlockWeights checked = check_block_weights(f, values, shape, dtype, cross);
  std::optional<TransformerBlock> block;
  interruptible([&](Interrupt&) { block.emplace(kernels(), shape, checked); });
  return std::move(*block);
}

// Runs a block over x [M, H]. `offsets` [B + 1] says where each sequence begins, and where the last
// one ends. `memory` is a pair of rows and offsets: sequence b of x sees sequence b of the memory.
// The memory is None for a block without cross attention.
py::array_t<float> run(const TransformerBlock& block, const std::string& f, const Object& x,
                       const Object& offsets,
                       const std::optional<std::pair<Object, Object>>& memory, const Object& mask,
                       const Object& memory_mask, bool is_causal) {
  const BlockShape& s = block.shape();
  const auto rows = [&](const char* name, const Object& value) {
    return check_array<float>(f, name, value, {{"M", kAny}, {"H", s.hidden}}, Layout::contiguous);
  };
  const auto in = rows("x", x);
  const std::int64_t M = in.shape[0];
  const CheckedBatch checked(f, "offsets", offsets, M);
  BlockCall c{};
  c.batch = checked.batch();
  c.x = in.data;
  const Axis B{"B", c.batch.B}, N{"N", s.heads}, S{"S", c.batch.longest};
  const Mask self = check_mask(f, "mask", mask, {B, N, S, S});
  c.self_attention = {self.view, self.adds, is_causal, nullptr};
  checked_product(f, {M, std::max(3 * s.hidden, s.feed_forward)});
  if (block.has_cross_attention() != memory.has_value() || (!memory && !memory_mask.is_none())) {
    throw py::value_error(f +
                          ": a block has cross attention if, and only if, it is given a memory");
  }
  std::optional<CheckedBatch> checked_memory;
  if (memory) {
    const auto from = rows("memory", memory->first);
    checked_memory.emplace(f, "memory's offsets", memory->second, from.shape[0]);
    c.memory = checked_memory->batch();
    c.memory_rows = from.data;
    if (c.memory.B != B.size) {
      throw py::value_error(f + ": memory has " + std::to_string(c.memory.B) +
                            " sequences, expected B = " + std::to_string(B.size));
    }
    const Mask cross =
        check_mask(f, "memory_mask", memory_mask, {B, N, S, {"K", c.memory.longest}});
    c.cross_attention = {cross.view, cross.adds, false, nullptr};
    checked_product(f, {from.shape[0], 2 * s.hidden});
  }
  py::array_t<float> y = new_array(f, {M, s.hidden});
  c.out = y.mutable_data();
  interruptible([&](Interrupt& interrupt) { run_block(block, c, interrupt); });
  return y;
}

}  // namespace

[[gnu::cold]] void register_transformer_block(py::module_& m) {
  py::class_<TransformerBlock>(m, "TransformerBlock", py::is_final(), constructed_by_new())
      .def(py::init(&make_block), py::arg("function"), py::arg("weights"), py::kw_only(),
           py::arg("num_heads"), py::arg("activation"), py::arg("norm_first"), py::arg("eps"),
           py::arg("dtype") = "float32")
      .def("run", &run, py::arg("function"), py::arg("x"), py::arg("offsets"), py::kw_only(),
           py::arg("memory") = py::none(), py::arg("mask") = py::none(),
           py::arg("memory_mask") = py::none(), py::arg("is_causal") = false)
      .def_property_readonly("has_cross_attention", &TransformerBlock::has_cross_attention)
      .def_property_readonly("weight_bytes", &TransformerBlock::weight_bytes)
      .def_property_readonly("isa", &TransformerBlock::isa);
}

}  // namespace treadle

// The Python class DecoderState checks its arguments and calls the engine's state of a decoder.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <numeric>
#include <stdexcept>

#include "bindings/construct.h"
#include "bindings/decoder.h"
#include "bindings/gil.h"
#include "bindings/masks.h"

namespace treadle {

Integers check_integers(const std::string& f, const char* name, const py::object& value,
                        const char* letter, std::int64_t least, std::int64_t most) {
  const auto array =
      check_array<std::int64_t>(f, name, value, {{letter, kAny}}, Layout::contiguous);
  Integers own(array.data, array.data + array.shape[0]);
  for (const std::int64_t n : own) {
    if (n < least || n > most) {
      throw py::value_error(f + ": " + name + " holds " + std::to_string(n) + ", expected " +
                            std::to_string(least) + " to " + std::to_string(most));
    }
  }
  return own;
}

void check_sum(const std::string& f, const char* name, const Integers& lengths, std::int64_t rows) {
  // Each of them is at most `rows`, and there are at most 2^31 of them.
  const std::int64_t sum = std::accumulate(lengths.begin(), lengths.end(), std::int64_t{0});
  if (sum == rows) return;
  throw py::value_error(f + ": " + name + " sum up to " + std::to_string(sum) +
                        ", expected M = " + std::to_string(rows));
}

void check_positions(const std::string& f, const Decoder& decoder, std::int64_t tokens) {
  const std::int64_t most = decoder.shape().positions ? decoder.shape().positions : kMostTokens;
  if (tokens <= most) return;
  throw py::value_error(f + ": a sequence would have " + std::to_string(tokens) +
                        " tokens, expected at most " + std::to_string(most) +
                        ", the positions of the model");
}

py::tuple new_results(const std::string& f, const Decoder& decoder, const CallSizes& sizes,
                      const Wanted& wanted, DecoderCall& call) {
  const std::int64_t H = decoder.shape().hidden, L = decoder.layers();
  const auto make = [&](bool asked, const std::vector<std::int64_t>& shape,
                        float*& to) -> py::object {
    if (!asked) return py::none();
    py::array_t<float> array = new_array(f, shape);
    to = array.mutable_data();
    return std::move(array);
  };
  const std::int64_t N = decoder.layer_shape().heads;
  const bool cross = wanted.attentions && decoder.has_cross_attention();
  call.keys = sizes.K;
  call.memory_keys = sizes.memory;
  return py::make_tuple(make(true, {sizes.M, H}, call.hidden),
                        make(wanted.states, {L + 1, sizes.M, H}, call.states),
                        make(wanted.attentions, {L, sizes.B, N, sizes.S, sizes.K}, call.attentions),
                        make(cross, {L, sizes.B, N, sizes.S, sizes.memory}, call.cross_attentions));
}

bool clear_attentions(const Decoder& decoder, const CallSizes& sizes, const DecoderCall& call,
                      Interrupt& interrupt) {
  const std::int64_t rows = decoder.layers() * sizes.B * decoder.layer_shape().heads * sizes.S;
  return (!call.attentions || clear(call.attentions, rows * sizes.K, interrupt)) &&
         (!call.cross_attentions || clear(call.cross_attentions, rows * sizes.memory, interrupt));
}

BoundDecoderState::BoundDecoderState(const BoundDecoderState& other) {
  in_turn(other.guard_, [&](Interrupt& interrupt) {
    state_ = std::make_unique<DecoderState>(*other.state_, interrupt);
  });
}

Integers BoundDecoderState::lengths() const {
  Integers now;
  in_turn(guard_, [&](Interrupt&) { now = state_->lengths(); });
  return now;
}

std::int64_t BoundDecoderState::capacity() const {
  std::int64_t now{};
  in_turn(guard_, [&](Interrupt&) { now = state_->capacity(); });
  return now;
}

std::int64_t BoundDecoderState::bytes() const {
  std::int64_t now{};
  in_turn(guard_, [&](Interrupt&) { now = state_->bytes(); });
  return now;
}

// Takes the new tokens of all rows through the decoder. Without lengths each row has one.
void BoundDecoderState::add_tokens(const std::string& f, const Integers& tokens,
                                   const Integers* lengths, DecoderCall& call,
                                   const CallSizes* traced) {
  call.tokens = tokens.data();
  const Integers ones(lengths ? 0 : tokens.size(), 1);
  const Integers& counts = lengths ? *lengths : ones;
  in_turn(guard_, [&](Interrupt& interrupt) {
    const auto rows = static_cast<std::int64_t>(counts.size());
    if (rows != state_->rows()) {
      throw std::invalid_argument(f + ": " + (lengths ? "lengths has " : "tokens has ") +
                                  std::to_string(rows) + " numbers, expected one for each of the " +
                                  std::to_string(state_->rows()) + " live rows");
    }
    std::int64_t most = 0;
    for (std::int64_t r = 0; r < rows; ++r) {
      most = std::max(most, state_->lengths()[r] + counts[r]);
    }
    check_positions(f, decoder(), most);
    const BlockShape& s = decoder().layer_shape();
    checked_product(f, {rows, 2 * most, decoder().layers() * s.keys(), 8});
    if (traced) {
      if (most != traced->K || state_->longest_memory() != traced->memory) {
        throw std::invalid_argument(f + ": another thread changed the state, expected it to wait");
      }
      if (!clear_attentions(decoder(), *traced, call, interrupt)) return;
    }
    state_->extend(counts.data(), call, interrupt);
  });
}

py::tuple BoundDecoderState::extend(const std::string& f, const py::object& tokens,
                                    const py::object& lengths, bool states, bool attentions) {
  const DecoderShape& s = decoder().shape();
  const Integers ids = check_integers(f, "tokens", tokens, "M", 0, s.vocabulary - 1);
  const auto M = static_cast<std::int64_t>(ids.size());
  const Integers counts = check_integers(f, "lengths", lengths, "B", 0, M);
  check_sum(f, "lengths", counts, M);
  checked_product(f, {M, std::max(decoder().layer_shape().projected(), s.vocabulary), 8});
  DecoderCall call{};
  CallSizes sizes{M, static_cast<std::int64_t>(counts.size()), 0, 0, 0};
  if (attentions) {
    const Integers past = this->lengths();
    for (std::size_t r = 0; r < counts.size() && r < past.size(); ++r) {
      sizes.S = std::max(sizes.S, counts[r]);
      sizes.K = std::max(sizes.K, past[r] + counts[r]);
    }
    in_turn(guard_, [&](Interrupt&) { sizes.memory = state_->longest_memory(); });
  }
  const py::tuple result = new_results(f, decoder(), sizes, {states, attentions}, call);
  add_tokens(f, ids, &counts, call, attentions ? &sizes : nullptr);
  return result;
}

py::array_t<float> BoundDecoderState::step(const std::string& f, const py::object& tokens) {
  const DecoderShape& s = decoder().shape();
  const Integers ids = check_integers(f, "tokens", tokens, "R", 0, s.vocabulary - 1);
  py::array_t<float> logits = new_array(f, {static_cast<std::int64_t>(ids.size()), s.vocabulary});
  DecoderCall call{};
  call.logits = logits.mutable_data();
  add_tokens(f, ids, nullptr, call);
  return logits;
}

py::tuple BoundDecoderState::step_best(const std::string& f, const py::object& tokens,
                                       std::int64_t k) {
  const std::int64_t V = decoder().shape().vocabulary;
  const Integers ids = check_integers(f, "tokens", tokens, "R", 0, V - 1);
  check_size(f, "k", k, 1, V);
  const auto R = static_cast<std::int64_t>(ids.size());
  checked_product(f, {R, V, 8});
  py::array_t<float> values = new_array(f, {R, k}), lse = new_array(f, {R});
  py::array_t<std::int64_t> best({static_cast<py::ssize_t>(R), static_cast<py::ssize_t>(k)});
  BestTokens found{k, values.mutable_data(), best.mutable_data(), lse.mutable_data()};
  DecoderCall call{};
  call.best = &found;
  add_tokens(f, ids, nullptr, call);
  return py::make_tuple(best, values, lse);
}

void BoundDecoderState::reorder(const std::string& f, const py::object& rows) {
  const Integers own = check_integers(f, "rows", rows, "R", 0, INT32_MAX);
  in_turn(guard_, [&](Interrupt& interrupt) {
    for (const std::int64_t row : own) {
      if (row >= state_->rows()) {
        throw std::invalid_argument(f + ": rows holds " + std::to_string(row) +
                                    ", expected less than " + std::to_string(state_->rows()) +
                                    ", the number of live rows");
      }
    }
    const auto count = static_cast<std::int64_t>(own.size());
    const BlockShape& s = decoder().layer_shape();
    checked_product(f, {count, state_->capacity(), decoder().layers() * s.keys(), 8});
    state_->reorder(own.data(), count, interrupt);
  });
}

void BoundDecoderState::truncate(const std::string& f, const py::object& lengths) {
  const Integers own = check_integers(f, "lengths", lengths, "R", 0, INT32_MAX);
  in_turn(guard_, [&](Interrupt&) {
    if (static_cast<std::int64_t>(own.size()) != state_->rows()) {
      throw std::invalid_argument(f + ": lengths has " + std::to_string(own.size()) +
                                  " numbers, expected one for each of the " +
                                  std::to_string(state_->rows()) + " live rows");
    }
    for (std::int64_t r = 0; r < state_->rows(); ++r) {
      if (own[r] > state_->lengths()[r]) {
        throw std::invalid_argument(f + ": lengths holds " + std::to_string(own[r]) + " for row " +
                                    std::to_string(r) + ", expected at most its " +
                                    std::to_string(state_->lengths()[r]) + " tokens");
      }
    }
    state_->truncate(own.data());
  });
}

[[gnu::cold]] void register_decoder_state(py::module_& m) {
  // A decoder makes its states; Python cannot.
  py::class_<BoundDecoderState>(m, "DecoderState", py::is_final(), constructed_by_new())
      .def("extend", &BoundDecoderState::extend, py::arg("function"), py::arg("tokens"),
           py::arg("lengths"), py::kw_only(), py::arg("states") = false,
           py::arg("attentions") = false)
      .def("step", &BoundDecoderState::step, py::arg("function"), py::arg("tokens"))
      .def("step_best", &BoundDecoderState::step_best, py::arg("function"), py::arg("tokens"),
           py::arg("k"))
      .def("reorder", &BoundDecoderState::reorder, py::arg("function"), py::arg("rows"))
      .def("truncate", &BoundDecoderState::truncate, py::arg("function"), py::arg("lengths"))
      .def("copy", &BoundDecoderState::copy)
      .def_property_readonly("lengths", &BoundDecoderState::lengths)
      .def_property_readonly("capacity", &BoundDecoderState::capacity)
      .def_property_readonly("bytes", &BoundDecoderState::bytes);
}

}  // namespace treadle

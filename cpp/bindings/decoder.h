// The checks that calls of a stack of layers share: tokens, and a ragged batch by its lengths.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bindings/arrays.h"
#include "engine/transformer/decoder_state.h"
#include "runtime/reentrant_guard.h"

namespace treadle {

using Integers = std::vector<std::int64_t>;

// Return copies, which no other Python thread can change. They throw TypeError or ValueError for
// anything but numbers from `least` to `most`; `letter` is that of the axis.
Integers check_integers(const std::string& function, const char* name, const py::object& value,
                        const char* letter, std::int64_t least, std::int64_t most);

// Throws ValueError unless the lengths sum up to `rows`.
void check_sum(const std::string& function, const char* name, const Integers& lengths,
               std::int64_t rows);

// The sizes of a call: M rows in B sequences of up to S tokens, which see up to K keys and so many
// rows of a memory.
struct CallSizes {
  std::int64_t M, B, S, K, memory;
};
struct Wanted {
  bool states, attentions;
};

// Makes the results of a call: hidden states [M, H] and, where they are asked for, those before and
// after each layer, [L + 1, M, H], and the probabilities of self and cross attention, [L, B, N, S,
// K]; else None.
py::tuple new_results(const std::string& function, const Decoder& decoder, const CallSizes& sizes,
                      const Wanted& wanted, DecoderCall& call);

// Sets the probabilities of a call to zero. Returns false when interrupted.
bool clear_attentions(const Decoder& decoder, const CallSizes& sizes, const DecoderCall& call,
                      Interrupt& interrupt);

// Throws ValueError where a table of learned positions is shorter than a sequence.
void check_positions(const std::string& function, const Decoder& decoder, std::int64_t tokens);

// A state and its lock, which a thread must hold to use the state.
class BoundDecoderState {
 public:
  explicit BoundDecoderState(std::unique_ptr<DecoderState> state) : state_(std::move(state)) {}
  BoundDecoderState(const BoundDecoderState& other);

  std::unique_ptr<BoundDecoderState> copy() const {
    return std::make_unique<BoundDecoderState>(*this);
  }
  Integers lengths() const;
  std::int64_t capacity() const;
  std::int64_t bytes() const;
  py::tuple extend(const std::string& function, const py::object& tokens, const py::object& lengths,
                   bool states, bool attentions);
  py::array_t<float> step(const std::string& function, const py::object& tokens);
  py::tuple step_best(const std::string& function, const py::object& tokens, std::int64_t k);
  void reorder(const std::string& function, const py::object& rows);
  void truncate(const std::string& function, const py::object& lengths);

 private:
  const Decoder& decoder() const { return *state_->decoder(); }
  void add_tokens(const std::string& function, const Integers& tokens, const Integers* lengths,
                  DecoderCall& call, const CallSizes* traced = nullptr);

  std::unique_ptr<DecoderState> state_;
  mutable ReentrantGuard guard_;
};

}  // namespace treadle

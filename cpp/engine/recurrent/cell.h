// A Cell is one layer in one direction: its packed weights and the products of a time step.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/product/encoded_rows.h"
#include "engine/product/packed_weights.h"
#include "engine/recurrent/cell_shape.h"
#include "engine/recurrent/unpacked_weights.h"
#include "kernels/table.h"

namespace treadle {

// A thread's buffers for a step: for the encoded rows of its products, if weights are not float32;
// for the sums, if weights are not packed.
struct StepScratch {
  EncodedRows input, state;
  Buffer unpacked;
  std::vector<float*> sums, hidden;  // rows of `unpacked`
  std::int64_t floats() const { return input.floats() + state.floats() + unpacked.size(); }
};

// The rows of one time step, or of several that follow each other.
struct StepRows {
  std::int64_t count;
  const float* const* x;  // I floats; ignored where partial is given
  // input_sums() floats each, the results of input_part, in which a step may go on; or null
  float* const* partial;
  const float* const* h;  // state_size floats
  float* const* c;        // LSTM: H floats, updated in place
  float* const* out;      // state_size floats
  // Where a step is two dependent products, the first writes these for the second, H floats a row:
  // an LSTM with projection its unprojected output, a GRU with !reset_after r h and z.
  float* const* between;
  float* const* update;
  float* const* saved;      // saved_gates() floats each for the backward pass, or null
  float* const* saved_c;    // LSTM: H floats each for the backward pass, or null
  bool descending = false;  // the step takes its weights from the last to the first
  // Where cells join steps, one call may make several of as many rows: x, partial, out, saved and
  // saved_c go on with the rows of the next step, whose h is the output of the step before.
  std::int64_t steps = 1;
};

class Cell {
 public:
  // Packs the weights; or, with `unpacked`, reads them where they lie in every step, which gives
  // the same bits. UnpackedWeights says which weights may be so.
  Cell(const KernelTable& table, const CellShape& shape, const CellWeights& weights,
       CellOptions options, bool unpacked = false);
  Cell(Cell&&) = default;
  Cell& operator=(Cell&&) = default;

  const CellShape& shape() const { return shape_; }
  const KernelTable& table() const { return *table_; }
  Dtype dtype() const { return main_.dtype(); }              // the dtype of the weights
  const char* isa() const { return kernels().isa; }          // the level of the products
  const float* zero_state() const { return zeros_.data(); }  // state_size zeros
  std::int64_t weight_bytes() const {
    return main_.bytes() + candidate_.bytes() + projection_.bytes();
  }
  // Returns the bytes of those packed weights that multiply the input.
  std::int64_t input_bytes() const {
    const std::int64_t I = shape_.input_size;
    return (main_.bytes() + candidate_.bytes()) / (I + shape_.state_size()) * I;
  }
  const CellOptions& options() const { return options_; }
  // Return how many floats of a row a step saves for the backward pass beside its output: those of
  // the gates, 0 if these are computed again, and with the new c of an LSTM behind them.
  std::int64_t saved_gates() const { return treadle::saved_gates(shape_, options_); }
  std::int64_t saved_size(bool recompute) const {
    return treadle::saved_size(shape_, options_, recompute);
  }
  // Tells whether the saved gates are those after activation, not what enters the activations.
  bool saves_activated() const;
  // Returns the multiply-adds of one row in one step.
  std::int64_t step_work() const;

  // Tells whether the input part of many rows at once is a narrow product (kernels/narrow.h), which
  // takes a part of a step's time for it.
  bool has_narrow_input() const {
    return shape_.mode == Mode::rnn && dtype() == Dtype::float32 && !unpacked_ &&
           shape_.hidden_size <= table_->narrow_columns;
  }
  // Computes bias + W x for `rows` rows: input_sums() floats each, which a later step continues.
  std::int64_t input_sums() const { return main_.sums() + candidate_.sums(); }
  void input_part(std::int64_t rows, const float* const* x, float* const* sums, PanelShare part,
                  StepScratch& scratch) const;

  // A step is one product, or two where the second needs all of the first: every thread of a team
  // must have finished phase 0 before any begins phase 1.
  int phases() const { return projection_.panels() || candidate_.panels() ? 2 : 1; }
  // Tells whether a call may make several steps. Those of a small net take less time than a call.
  bool joins_steps() const { return phases() == 1 && !unpacked_; }
  void step(int phase, const StepRows& rows, PanelShare part, StepScratch& scratch) const;

  // Makes room for the inputs of `inputs` rows and for the states of `states` rows.
  void reserve(StepScratch& scratch, std::int64_t inputs, std::int64_t states) const;

  // Returns the first hidden unit of part number `part` of `count`: whoever does a part prepares
  // the state c of its units.
  std::int64_t first_unit(int part, int count) const;

 private:
  void first_phase(const StepRows& rows, PanelShare part, StepScratch& scratch) const;
  void step_unpacked(int phase, const StepRows& rows, PanelShare part, StepScratch& scratch) const;
  StepArgs step_args(const StepRows& rows, const PackedWeights& packed, const Buffer& bias,
                     PanelShare part, StepScratch& scratch) const;
  const ProductKernels& kernels() const { return table_->of(dtype()); }
  // Returns rows of floats in the form that the products read.
  const Word* const* encoded(EncodedRows& room, const float* const* x, std::int64_t rows,
                             std::int64_t size) const;

  const KernelTable* table_;
  CellShape shape_;
  CellOptions options_;
  PackedWeights main_;        // [x; h] -> every gate; GRU reset-before: r and z
  PackedWeights candidate_;   // GRU reset-before: [x; r h] -> n
  PackedWeights projection_;  // LSTM: H -> P
  Buffer bias_, bias_candidate_, bias_hidden_, peepholes_, zeros_;
  std::unique_ptr<UnpackedWeights> unpacked_;  // the packed weights are mere layouts then
};

}  // namespace treadle

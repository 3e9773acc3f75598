// A Cell is one layer in one direction: its packed weights and the products of a time step.
#pragma once

#include <cstdint>

#include "engine/product/encoded_rows.h"
#include "engine/product/packed_weights.h"
#include "kernels/table.h"

namespace treadle {

enum class Mode { rnn, lstm, gru };

inline int gate_count(Mode mode) { return mode == Mode::rnn ? 1 : mode == Mode::lstm ? 4 : 3; }

struct CellShape {
  Mode mode;
  std::int64_t input_size;   // I
  std::int64_t hidden_size;  // H
  std::int64_t proj_size;    // P, or 0: the state has H floats
  bool reset_after;          // GRU

  std::int64_t state_size() const { return proj_size ? proj_size : hidden_size; }
};

// The numbers of floats that a step saves for a row: of its gates, and of all.
std::int64_t saved_gates(const CellShape& shape, const CellOptions& options);
std::int64_t saved_size(const CellShape& shape, const CellOptions& options, bool recompute);

// Weights in PyTorch's layouts and gate orders (i, f, g, o and r, z, n). A null pointer stands for
// absent weights. All matrices have the same dtype.
struct CellWeights {
  StoredMatrix weight_ih;  // [G*H, I]
  StoredMatrix weight_hh;  // [G*H, state_size]
  const float* bias_ih;    // [G*H]
  const float* bias_hh;    // [G*H]
  StoredMatrix weight_hr;  // [P, H]
  const float* peepholes;  // [3*H], order i, o, f as in ONNX
};

// A share of the panels of a product: the parts [first, last) of `count` parts.
struct PanelShare {
  int first, last, count;
  std::int64_t begin(std::int64_t panels) const { return panels * first / count; }
  std::int64_t end(std::int64_t panels) const { return panels * last / count; }
};

// A thread's buffers for the encoded rows of a step's products, if weights are not float32.
struct StepScratch {
  EncodedRows input, state;
  std::int64_t floats() const { return input.floats() + state.floats(); }
};

// The rows of one time step.
struct StepRows {
  std::int64_t count;
  const float* const* x;        // I floats; ignored where partial is given
  const float* const* partial;  // input_sums() floats each, the results of input_part; or null
  const float* const* h;        // state_size floats
  float* const* c;              // LSTM: H floats, updated in place
  float* const* out;            // state_size floats
  // Where a step is two dependent products, the first writes these for the second, H floats a row:
  // an LSTM with projection its unprojected output, a GRU with !reset_after r h and z.
  float* const* between;
  float* const* update;
  float* const* saved;    // saved_gates() floats each for the backward pass, or null
  float* const* saved_c;  // LSTM: H floats each for the backward pass, or null
};

class Cell {
 public:
  Cell(const KernelTable& table, const CellShape& shape, const CellWeights& weights,
       CellOptions options);
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
  const CellOptions& options() const { return options_; }
  // Return how many floats of a row a step saves for the backward pass beside its output: those of
  // the gates, 0 if these are computed again, and with the new c of an LSTM behind them.
  std::int64_t saved_gates() const { return treadle::saved_gates(shape_, options_); }
  std::int64_t saved_size(bool recompute) const {
    return treadle::saved_size(shape_, options_, recompute);
  }
  // Returns the multiply-adds of one row in one step.
  std::int64_t step_work() const;

  // Computes bias + W x for `rows` rows: input_sums() floats each, which a later step continues.
  std::int64_t input_sums() const { return main_.sums() + candidate_.sums(); }
  void input_part(std::int64_t rows, const float* const* x, float* const* sums, PanelShare part,
                  StepScratch& scratch) const;

  // A step is one product, or two where the second needs all of the first: every thread of a team
  // must have finished phase 0 before any begins phase 1.
  int phases() const { return projection_.panels() || candidate_.panels() ? 2 : 1; }
  void step(int phase, const StepRows& rows, PanelShare part, StepScratch& scratch) const;

  // Makes room for the inputs of `inputs` rows and for the states of `states` rows.
  void reserve(StepScratch& scratch, std::int64_t inputs, std::int64_t states) const;

  // Returns the first hidden unit of part number `part` of `count`: whoever does a part prepares
  // the state c of its units.
  std::int64_t first_unit(int part, int count) const;

 private:
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
};

}  // namespace treadle

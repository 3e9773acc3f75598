#include "engine/recurrent/cell.h"

#include <algorithm>
#include <vector>

namespace treadle {
namespace {

// Returns b_ih + b_hh in float32, as PyTorch's fast path adds them; an absent bias is zero.
std::vector<float> bias_sum(const CellWeights& w, std::int64_t n) {
  std::vector<float> sum(n, 0.0f);
  for (std::int64_t i = 0; i < n; ++i) {
    if (w.bias_ih) sum[i] += w.bias_ih[i];
    if (w.bias_hh) sum[i] += w.bias_hh[i];
  }
  return sum;
}

// Packs peepholes from ONNX's order i, o, f, one after another, into [panels][i, f, o][lanes].
Buffer pack_peepholes(const float* p, std::int64_t H, int lanes) {
  const std::int64_t panels = (H + lanes - 1) / lanes;
  constexpr int kFrom[3] = {0, 2, 1};
  Buffer packed(panels * 3 * lanes);
  for (std::int64_t unit = 0; unit < H; ++unit) {
    for (int gate = 0; gate < 3; ++gate) {
      packed.data()[(unit / lanes * 3 + gate) * lanes + unit % lanes] = p[kFrom[gate] * H + unit];
    }
  }
  return packed;
}

}  // namespace

Cell::Cell(const KernelTable& table, const CellShape& shape, const CellWeights& weights,
           CellOptions options, bool unpacked)
    : table_(&table), shape_(shape), options_(options), zeros_(shape.state_size()) {
  const std::int64_t H = shape.hidden_size;
  const int lanes = table.lanes;
  const CellWeights w = unpacked ? CellWeights{} : weights;
  const Operand input{w.weight_ih, shape.input_size}, state{w.weight_hh, shape.state_size()};
  std::vector<float> bias = bias_sum(w, gate_count(shape.mode) * H);
  switch (shape.mode) {
    case Mode::rnn:
      main_ = PackedWeights::plain(H, {input, state}, lanes);
      break;
    case Mode::lstm:
      main_ = PackedWeights::gated(H, {0, 1, 2, 3}, {input, state}, lanes, true);
      if (shape.proj_size) {
        projection_ = PackedWeights::plain(shape.proj_size, {{w.weight_hr, H}}, lanes);
      }
      if (w.peepholes) {
        peepholes_ = pack_peepholes(w.peepholes, H, lanes);
        options_.peepholes = peepholes_.data();
      }
      break;
    case Mode::gru:
      if (shape.reset_after) {
        // The candidate's two biases stay apart: b_hn is inside r (R h + b_hn).
        main_ = PackedWeights::gated(H, {0, 1, 2}, {input, state}, lanes, true);
        for (std::int64_t u = 2 * H; u < 3 * H; ++u) bias[u] = w.bias_ih ? w.bias_ih[u] : 0.0f;
        bias_hidden_ = Buffer(main_.panels() * lanes);
        if (w.bias_hh) std::copy_n(w.bias_hh + 2 * H, H, bias_hidden_.data());
      } else {
        main_ = PackedWeights::gated(H, {0, 1}, {input, state}, lanes, false);
        candidate_ = PackedWeights::gated(H, {2}, {input, state}, lanes, false);
        bias_candidate_ = candidate_.pack_vector(bias.data());
      }
      break;
  }
  if (unpacked) {
    unpacked_ = std::make_unique<UnpackedWeights>(table, shape, weights, main_, projection_);
  } else {
    bias_ = main_.pack_vector(bias.data());
  }
}

std::int64_t saved_gates(const CellShape& shape, const CellOptions& options) {
  const std::int64_t H = shape.hidden_size;
  switch (shape.mode) {
    case Mode::rnn:
      return rnn_kind(options) == RnnKind::general ? H : 0;
    case Mode::lstm:
      return 4 * H;
    case Mode::gru:
      break;
  }
  return (shape.reset_after ? 4 : 3) * H;
}

std::int64_t saved_size(const CellShape& shape, const CellOptions& options, bool recompute) {
  const std::int64_t gates = recompute ? 0 : saved_gates(shape, options);
  return gates + (shape.mode == Mode::lstm ? shape.hidden_size : 0);
}

bool Cell::saves_activated() const {
  switch (shape_.mode) {
    case Mode::rnn:
      return false;
    case Mode::lstm:
      break;
    case Mode::gru:
      return shape_.reset_after && standard_gru(options_);
  }
  // Behind products of low precision, only the usual LSTM has functions of its own.
  const LstmKind kind = lstm_kind(options_);
  return kind == LstmKind::tanh || (kind == LstmKind::relu && dtype() == Dtype::float32);
}

std::int64_t Cell::step_work() const {
  const std::int64_t H = shape_.hidden_size, S = shape_.state_size();
  return gate_count(shape_.mode) * H * (shape_.input_size + S) + shape_.proj_size * H;
}

std::int64_t Cell::first_unit(int part, int count) const {
  const std::int64_t width =
      shape_.mode == Mode::rnn ? main_.vectors() * table_->lanes : table_->lanes;
  return std::min(PanelShare{part, part, count}.begin(main_.panels()) * width, shape_.hidden_size);
}

void Cell::reserve(StepScratch& scratch, std::int64_t inputs, std::int64_t states) const {
  scratch.input.reserve(dtype(), inputs, shape_.input_size);
  scratch.state.reserve(dtype(), states, std::max(shape_.state_size(), shape_.hidden_size));
  if (!unpacked_) return;
  const std::int64_t sums = unpacked_->sums(), row = sums + unpacked_->hidden();
  if (scratch.unpacked.size() < states * row) {
    scratch.unpacked = Buffer::uninitialized(states * row);
  }
  scratch.sums.resize(states);
  scratch.hidden.resize(states);
  for (std::int64_t r = 0; r < states; ++r) {
    scratch.sums[r] = scratch.unpacked.data() + r * row;
    scratch.hidden[r] = scratch.sums[r] + sums;
  }
}

const Word* const* Cell::encoded(EncodedRows& room, const float* const* x, std::int64_t rows,
                                 std::int64_t size) const {
  if (dtype() == Dtype::float32) return x;
  room.encode(kernels(), dtype(), x, 0, rows, size);
  return room.rows();
}

void Cell::input_part(std::int64_t rows, const float* const* x, float* const* sums, PanelShare part,
                      StepScratch& scratch) const {
  if (unpacked_) return unpacked_->input_part(rows, x, sums, part);
  LinearArgs a{};
  a.rows = rows;
  a.x = encoded(scratch.input, x, rows, shape_.input_size);
  a.out = sums;
  a.columns = has_narrow_input() ? shape_.hidden_size : main_.sums();
  a.k = shape_.input_size;
  a.weights = main_.weights();
  a.panel_stride = main_.panel_stride();
  a.bias = bias_.data();
  a.vectors = main_.vectors();
  a.panel_begin = part.begin(main_.panels());
  a.panel_end = part.end(main_.panels());
  kernels().linear(a);
  if (!candidate_.panels()) return;
  a.out_offset = main_.sums();  // the candidate's sums follow those of the gates
  a.columns = candidate_.sums();
  a.weights = candidate_.weights();
  a.panel_stride = candidate_.panel_stride();
  a.bias = bias_candidate_.data();
  a.vectors = candidate_.vectors();
  a.panel_begin = part.begin(candidate_.panels());
  a.panel_end = part.end(candidate_.panels());
  kernels().linear(a);
}

StepArgs Cell::step_args(const StepRows& rows, const PackedWeights& packed, const Buffer& bias,
                         PanelShare part, StepScratch& scratch) const {
  StepArgs a{};
  a.rows = rows.count;
  if (!rows.partial) a.x = encoded(scratch.input, rows.x, rows.count, shape_.input_size);
  a.partial = rows.partial;
  a.blend = shape_.mode == Mode::gru ? rows.h : nullptr;
  a.c = rows.c;
  a.out = rows.out;
  a.saved = rows.saved;
  a.saved_c = rows.saved_c;
  a.input_size = shape_.input_size;
  a.state_size = shape_.state_size();
  a.hidden_size = shape_.hidden_size;
  a.weights = packed.weights();
  a.panel_stride = packed.panel_stride();
  a.bias = bias.data();
  a.bias_hidden = bias_hidden_.data();
  a.options = &options_;
  a.descending = rows.descending;
  a.panel_begin = part.begin(packed.panels());
  a.panel_end = part.end(packed.panels());
  return a;
}

// The products come first, and the step's kernel goes on from their sums, with nothing to add. It
// takes the state part of a GRU's candidate for b_hn, of which there is one for all rows.
void Cell::step_unpacked(int phase, const StepRows& rows, PanelShare part,
                         StepScratch& scratch) const {
  float* const* sums = rows.partial ? rows.partial : scratch.sums.data();
  if (phase == 1) {
    return unpacked_->project(rows.count, rows.between, scratch.sums.data(), rows.out, part);
  }
  if (!rows.partial) unpacked_->input_part(rows.count, rows.x, sums, part);
  unpacked_->state_part(rows.count, rows.h, sums, scratch.hidden.data(), part);
  for (std::int64_t r = 0; r < rows.count; ++r) {
    const auto from = [&](auto* list) { return list ? list + r : nullptr; };
    const StepRows row{1,
                       nullptr,
                       sums + r,
                       rows.h + r,
                       from(rows.c),
                       phases() == 2 ? rows.between + r : rows.out + r,
                       nullptr,
                       nullptr,
                       from(rows.saved),
                       from(rows.saved_c)};
    StepArgs a = step_args(row, main_, bias_, part, scratch);
    a.input_size = a.state_size = 0;
    a.h = rows.h + r;
    a.weights = zeros_.data();
    a.panel_stride = 0;
    a.bias_hidden = scratch.hidden[r];
    switch (shape_.mode) {
      case Mode::rnn:
        kernels().rnn_step(a);
        break;
      case Mode::lstm:
        kernels().lstm_step(a);
        break;
      case Mode::gru:
        kernels().gru_step(a);
        break;
    }
  }
}

// Runs the products of input and state of each step: all of it, or its first phase.
void Cell::first_phase(const StepRows& rows, PanelShare part, StepScratch& scratch) const {
  StepArgs a = step_args(rows, main_, bias_, part, scratch);
  if (phases() == 2) a.out = rows.between;
  if (candidate_.panels()) a.c = rows.update;
  const ProductKernels& table = kernels();
  const auto kernel = shape_.mode == Mode::rnn    ? table.rnn_step
                      : shape_.mode == Mode::lstm ? table.lstm_step
                      : candidate_.panels()       ? table.gru_gates
                                                  : table.gru_step;
  const float* const* h = rows.h;
  for (std::int64_t left = rows.steps;;) {
    a.h = encoded(scratch.state, h, rows.count, shape_.state_size());
    kernel(a);
    if (--left == 0) return;
    h = a.out;
    if (a.blend) a.blend = h;
    a.out += rows.count;
    if (a.partial) {
      a.partial += rows.count;
    } else {
      const std::int64_t done = (rows.steps - left) * rows.count;
      a.x = encoded(scratch.input, rows.x + done, rows.count, shape_.input_size);
    }
    if (a.saved) a.saved += rows.count;
    if (a.saved_c) a.saved_c += rows.count;
    a.descending = !a.descending;
  }
}

void Cell::step(int phase, const StepRows& rows, PanelShare part, StepScratch& scratch) const {
  if (unpacked_) return step_unpacked(phase, rows, part, scratch);
  if (phase == 0) return first_phase(rows, part, scratch);
  if (candidate_.panels()) {
    StepArgs a = step_args(rows, candidate_, bias_candidate_, part, scratch);
    a.h = encoded(scratch.state, rows.between, rows.count, shape_.hidden_size);
    a.c = rows.update;
    a.partial_offset = main_.sums();
    return kernels().gru_candidate(a);
  }
  LinearArgs a{};
  a.rows = rows.count;
  a.x = encoded(scratch.state, rows.between, rows.count, shape_.hidden_size);
  a.out = rows.out;
  a.columns = shape_.proj_size;
  a.k = shape_.hidden_size;
  a.weights = projection_.weights();
  a.panel_stride = projection_.panel_stride();
  a.vectors = projection_.vectors();
  a.panel_begin = part.begin(projection_.panels());
  a.panel_end = part.end(projection_.panels());
  kernels().linear(a);
}

}  // namespace treadle

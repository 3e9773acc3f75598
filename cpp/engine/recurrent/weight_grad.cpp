#include "engine/recurrent/weight_grad.h"

#include <algorithm>
#include <cstring>

namespace treadle {
namespace {

// A task of a weight's gradient has so many rows and columns, and so many terms lie between two
// looks at the interrupt. Its operands, kOuterTerms terms of each, stay in L2.
constexpr std::int64_t kOuterRows = 192, kOuterColumns = 256, kTerms = 64 * kOuterTerms;
// Few terms stay in L1, and most of the time goes by with writing: a task then takes a few whole
// rows, which lie one behind the other.
constexpr std::int64_t kFewTerms = 12, kFewRows = 12;

}  // namespace

WeightGrad::WeightGrad(const BackwardCall& call)
    : table_(call.cell.table()),
      shape_(call.cell.shape()),
      width_(call.buffers.width),
      count_(static_cast<std::int64_t>(call.trace.terms().size())),
      p_(call.pass),
      da_(call.buffers.da_rows) {
  const Trace& trace = call.trace;
  BackwardBuffers& buffers = call.buffers;
  const std::int64_t H = shape_.hidden_size, S = shape_.state_size();
  for (Rows* rows : {&x_, &h_}) rows->reserve(count_);
  for (const std::int64_t i : trace.terms()) {
    x_.push_back(p_.in.x_row(i / p_.in.B, i % p_.in.B));
    h_.push_back(trace.h_old(i));
    if (buffers.hidden.size()) hidden_.push_back(BackwardBuffers::row(buffers.hidden, i, H));
    if (buffers.dp.size()) dp_.push_back(BackwardBuffers::row(buffers.dp, i, S));
    if (!p_.peepholes) continue;
    c_old_.push_back(trace.c_old(i));
    c_new_.push_back(trace.c_new(i));
  }
  list_products();
  list_sums();
}

void WeightGrad::list_products() {
  const std::int64_t I = shape_.input_size, H = shape_.hidden_size, S = shape_.state_size();
  float *ih = p_.weight_ih, *hh = p_.weight_hh;
  if (shape_.mode != Mode::gru) {
    cut(da_, 0, width_, x_, I, ih);
    cut(da_, 0, width_, h_, S, hh);
    if (shape_.proj_size) cut(dp_, 0, S, hidden_, H, p_.weight_hr);
    return;
  }
  // A row of gradients has the order n, r, z; the weights have the order r, z, n.
  cut(da_, H, 2 * H, x_, I, ih);
  cut(da_, 0, H, x_, I, ih + 2 * H * I);
  if (shape_.reset_after) {
    cut(da_, H, 3 * H, h_, S, hh);
  } else {
    cut(da_, H, 2 * H, h_, S, hh);
    cut(da_, 0, H, hidden_, H, hh + 2 * H * S);
  }
}

void WeightGrad::list_sums() {
  const std::int64_t H = shape_.hidden_size;
  // Both biases have the same gradient, except the state part of a candidate (see copy_biases).
  float* bias = p_.bias_ih ? p_.bias_ih : p_.bias_hh;
  if (bias && shape_.mode != Mode::gru) sum(0, width_, bias);
  if (bias && shape_.mode == Mode::gru) {
    sum(H, 2 * H, bias);
    if (p_.bias_ih) sum(0, H, p_.bias_ih + 2 * H);
    if (p_.bias_hh) sum(shape_.reset_after ? 3 * H : 0, H, p_.bias_hh + 2 * H);
  }
  if (p_.peepholes) {  // they have ONNX's order i, o, f
    sum(0, H, p_.peepholes, &c_old_);
    sum(3 * H, H, p_.peepholes + H, &c_new_);
    sum(H, H, p_.peepholes + 2 * H, &c_old_);
  }
}

void WeightGrad::cut(const Rows& a, std::int64_t offset, std::int64_t rows, const Rows& b,
                     std::int64_t columns, float* out) {
  const bool few = count_ <= kFewTerms;
  const std::int64_t height = few ? kFewRows : kOuterRows, width = few ? columns : kOuterColumns;
  for (std::int64_t n = 0; n < rows; n += height) {
    for (std::int64_t i = 0; i < columns; i += width) {
      products_.push_back({count_, a.data(), offset, b.data(), out, columns, n,
                           std::min(rows, n + height), i, std::min(columns, i + width), true});
    }
  }
}

void WeightGrad::sum(std::int64_t offset, std::int64_t size, float* out, const Rows* b) {
  sums_.push_back({count_, da_.data(), offset, b ? b->data() : nullptr, size, out});
}

bool WeightGrad::run(Team::Member& member) const {
  const std::size_t tasks = products_.size() + sums_.size();
  return member.parallel_for(static_cast<std::int64_t>(tasks), 0, [&](std::int64_t i) {
    const auto at = static_cast<std::size_t>(i);
    if (at < products_.size()) {
      add_products(member, products_[at]);
    } else {
      add_rows(member, sums_[at - products_.size()]);
    }
  });
}

void WeightGrad::copy_biases() const {
  if (!p_.bias_ih || !p_.bias_hh) return;
  const std::int64_t same = shape_.mode == Mode::gru ? 2 * shape_.hidden_size : width_;
  std::memcpy(p_.bias_hh, p_.bias_ih, static_cast<std::size_t>(same) * sizeof(float));
}

void WeightGrad::add_products(Team::Member& member, OuterArgs a) const {
  const auto size =
      static_cast<double>((a.row_end - a.row_begin) * (a.column_end - a.column_begin));
  for (std::int64_t n = a.row_begin; count_ == 0 && n < a.row_end; ++n) {
    float* const row = a.out + n * a.out_stride;
    std::fill(row + a.column_begin, row + a.column_end, 0.0f);
  }
  for (std::int64_t k = 0; k < count_; k += kTerms, a.a += kTerms, a.b += kTerms) {
    a.terms = std::min(kTerms, count_ - k);
    table_.outer(a);
    a.fresh = false;
    if (!member.progress(size * static_cast<double>(a.terms))) return;
  }
}

void WeightGrad::add_rows(Team::Member& member, SumArgs a) const {
  for (std::int64_t k = 0; k < count_; k += kTerms, a.a += kTerms) {
    a.terms = std::min(kTerms, count_ - k);
    table_.sum_rows(a);
    if (a.b) a.b += kTerms;
    if (!member.progress(static_cast<double>(a.size) * static_cast<double>(a.terms))) return;
  }
}

}  // namespace treadle

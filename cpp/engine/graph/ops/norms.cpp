// Functions of whole rows: softmax and its kin, and the norms. x is float32 throughout.
#include "engine/product/norms.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "engine/graph/ops/activation.h"
#include "engine/graph/ops/families.h"
#include "engine/product/rows.h"
#include "engine/product/transpose.h"
#include "runtime/isa.h"

namespace treadle::graph {
namespace {

// Rows of n floats that lie one behind the other.
RowArgs rows_of(const float* x, std::int64_t rows, std::int64_t n, float* out) {
  RowArgs a{};
  a.rows = rows;
  a.size = a.x_stride = a.out_stride = n;
  a.x = x;
  a.out = out;
  return a;
}

void run(Call& call, RowKernel kernel, const RowArgs& args) {
  run_rows(kernel, args, call.interrupt());
  stop_if_interrupted(call);
}

// Calls rows(from, count, n, to) for the rows of x along an axis; another axis than the last is
// turned to the end and back.
template <class Rows>
void along(Call& call, const Tensor& x, int axis, Tensor& y, Rows&& rows) {
  const std::int64_t n = x.shape[axis], outer = x.shape.count(0, axis);
  const std::int64_t inner = x.shape.count(axis + 1, x.shape.rank());
  if (x.count() == 0) return;
  if (inner == 1) return rows(x.floats(), outer, n, y.floats());
  float* turned = call.scratch_floats(n * inner);
  for (std::int64_t o = 0; o < outer; ++o) {
    transpose(x.floats() + o * n * inner, inner, n, inner, turned, n);
    rows(turned, inner, n, turned);
    transpose(turned, n, inner, n, y.floats() + o * n * inner, inner);
    call.interrupt().progress(static_cast<double>(n * inner));
    stop_if_interrupted(call);
  }
}

template <RowKernel KernelTable::* kernel>
std::unique_ptr<Operator> make_softmax(const NodeDescription& node) {
  const std::int64_t axis = node.integer("axis", -1);
  return make_operator([axis](Call& call) {
    const Tensor& x = call.input(0, Type::float32);
    const int at = checked_axis(axis, x.shape.rank());
    Tensor& y = call.output_over(0, 0, x.shape);
    along(call, x, at, y, [&](const float* from, std::int64_t count, std::int64_t n, float* to) {
      run(call, kernels().*kernel, rows_of(from, count, n, to));
    });
  });
}

// Hardmax writes 1 at the first largest number of a row, 0 elsewhere.
std::unique_ptr<Operator> make_hardmax(const NodeDescription& node) {
  const std::int64_t axis = node.integer("axis", -1);
  return make_operator([axis](Call& call) {
    const Tensor& x = call.input(0, Type::float32);
    const int at = checked_axis(axis, x.shape.rank());
    Tensor& y = call.output_over(0, 0, x.shape);
    along(call, x, at, y, [&](const float* from, std::int64_t count, std::int64_t n, float* to) {
      for (std::int64_t r = 0; r < count; ++r) {
        const float* row = from + r * n;
        const std::int64_t best = std::max_element(row, row + n) - row;
        std::fill(to + r * n, to + (r + 1) * n, 0.0f);
        to[r * n + best] = 1;
      }
    });
  });
}

// y = x / max(|x|_p, 0): a row of zeros stays zero.
std::unique_ptr<Operator> make_lp_norm(const NodeDescription& node) {
  const std::int64_t axis = node.integer("axis", -1), p = node.integer("p", 2);
  if (p != 1 && p != 2) refuse("p is " + std::to_string(p) + ", expected 1 or 2");
  return make_operator([axis, p](Call& call) {
    const Tensor& x = call.input(0, Type::float32);
    const int at = checked_axis(axis, x.shape.rank());
    Tensor& y = call.output_over(0, 0, x.shape);
    along(call, x, at, y, [&](const float* from, std::int64_t count, std::int64_t n, float* to) {
      call.parallel_for(count, static_cast<double>(n) * 4, [&](std::int64_t r) {
        const float* row = from + r * n;
        double sum = 0;
        for (std::int64_t i = 0; i < n; ++i) {
          sum += p == 1 ? std::fabs(row[i]) : static_cast<double>(row[i]) * row[i];
        }
        const double norm = p == 1 ? sum : std::sqrt(sum);
        for (std::int64_t i = 0; i < n; ++i) {
          to[r * n + i] = norm == 0 ? 0.0f : static_cast<float>(row[i] / norm);
        }
      });
    });
  });
}

// Returns input i as one number for each of the elements that a norm covers: as it is, or repeated
// as ONNX broadcasts it. Null where it is absent.
const float* per_element(Call& call, int i, const Shape& x, int axis) {
  if (!call.has(i)) return nullptr;
  const Tensor& value = call.input(i, Type::float32);
  const std::int64_t n = x.count(axis, x.rank());
  if (value.count() == n) return value.floats();
  const int rank = value.shape.rank(), shift = x.rank() - rank;
  if (rank > x.rank() - axis) refuse("input " + std::to_string(i) + " has too many axes");
  float* repeated = call.scratch_floats(n);
  for (std::int64_t e = 0; e < n; ++e) {
    std::int64_t rest = e, at = 0, step = 1;
    for (int k = rank - 1; k >= 0; --k) {
      const std::int64_t size = x[k + shift], own = value.shape[k];
      if (own != 1 && own != size)
        refuse("input " + std::to_string(i) + " has shape " + value.shape.text() +
               ", which does not broadcast");
      if (own != 1) at += rest % size * step;
      rest /= size;
      step *= own;
    }
    repeated[e] = value.floats()[at];
  }
  return repeated;
}

std::unique_ptr<Operator> make_layer_norm(const NodeDescription& node) {
  const std::int64_t axis = node.integer("axis", -1);
  const auto eps = static_cast<float>(node.number("epsilon", 1e-5));
  return make_operator([axis, eps](Call& call) {
    const Tensor& x = call.input(0, Type::float32);
    const int at = checked_axis(axis, x.shape.rank());
    const std::int64_t rows = x.shape.count(0, at), n = x.shape.count(at, x.shape.rank());
    Shape means = x.shape;
    for (int i = at; i < x.shape.rank(); ++i) means = means.with(i, 1);
    if (call.wants(1) || call.wants(2)) {
      float* mean = call.output(1, Type::float32, means).floats();
      float* scale = call.output(2, Type::float32, means).floats();
      call.parallel_for(rows, static_cast<double>(n) * 4, [&](std::int64_t r) {
        const float* row = x.floats() + r * n;
        double sum = 0, squares = 0;
        for (std::int64_t i = 0; i < n; ++i) sum += row[i];
        const double middle = sum / static_cast<double>(n);
        for (std::int64_t i = 0; i < n; ++i) squares += (row[i] - middle) * (row[i] - middle);
        mean[r] = static_cast<float>(middle);
        scale[r] = static_cast<float>(1 / std::sqrt(squares / static_cast<double>(n) + eps));
      });
    }
    const float* weight = per_element(call, 1, x.shape, at);
    const float* bias = per_element(call, 2, x.shape, at);
    Tensor& y = call.output_over(0, 0, x.shape);
    if (y.count() == 0) return;  // there may be rows without end that have no element
    RowArgs args = rows_of(x.floats(), rows, n, y.floats());
    args.weight = weight;
    args.bias = bias;
    args.eps = eps;
    run(call, kernels().layer_norm, args);
  });
}

// y = x / sqrt(mean of x^2 + eps) * scale (Zhang and Sennrich, arXiv:1910.07467).
std::unique_ptr<Operator> make_rms_norm(const NodeDescription& node) {
  const std::int64_t axis = node.integer("axis", -1);
  const auto eps = static_cast<float>(node.number("epsilon", 1e-5));
  return make_operator([axis, eps](Call& call) {
    const Tensor& x = call.input(0, Type::float32);
    const int at = checked_axis(axis, x.shape.rank());
    const std::int64_t rows = x.shape.count(0, at), n = x.shape.count(at, x.shape.rank());
    const float* weight = per_element(call, 1, x.shape, at);
    Tensor& y = call.output_over(0, 0, x.shape);
    if (y.count() == 0) return;
    const KernelTable& table = kernels();
    call.parallel_for(rows, static_cast<double>(n) * 3, [&](std::int64_t r) {
      const float* row = x.floats() + r * n;
      float sum;
      table.row_dots({1, n, &row, &row, &sum});
      const float scale = 1.0f / std::sqrt(sum / static_cast<float>(n) + eps);
      float* to = y.floats() + r * n;
      if (weight) {
        for (std::int64_t i = 0; i < n; ++i) to[i] = row[i] * scale * weight[i];
      } else {
        for (std::int64_t i = 0; i < n; ++i) to[i] = row[i] * scale;
      }
    });
  });
}

// Returns input i, which has one number for each of C channels.
const float* per_channel(const Call& call, int i, std::int64_t C) {
  const Tensor& value = call.input(i, Type::float32);
  if (value.shape != Shape({C})) {
    refuse("input " + std::to_string(i) + " has shape " + value.shape.text() + ", expected [" +
           std::to_string(C) + "]");
  }
  return value.floats();
}

// Inference computes y = (x - mean[c]) / sqrt(variance[c] + eps) * scale[c] + bias[c], [B, C, ...].
std::unique_ptr<Operator> make_batch_norm(const NodeDescription& node) {
  const auto eps = static_cast<float>(node.number("epsilon", 1e-5));
  if (node.integer("training_mode", 0)) refuse("training_mode is not supported");
  return make_operator([eps](Call& call) {
    const Tensor& x = call.input(0, Type::float32);
    const int rank = x.shape.rank();
    if (rank < 2) refuse("input 0 has shape " + x.shape.text() + ", expected [B, C, ...]");
    const std::int64_t C = x.shape[1];
    const float *weight = per_channel(call, 1, C), *bias = per_channel(call, 2, C);
    const float *mean = per_channel(call, 3, C), *variance = per_channel(call, 4, C);
    float *scale = call.scratch_floats(C), *shift = call.scratch_floats(C);
    for (std::int64_t c = 0; c < C; ++c) {
      scale[c] = weight[c] / std::sqrt(variance[c] + eps);
      shift[c] = bias[c] - mean[c] * scale[c];
    }
    Tensor& y = call.output_over(0, 0, x.shape);
    if (y.count() == 0) return;
    const NormArgs args{x.shape[0], C,         x.shape.count(2, rank), x.floats(), scale,
                        shift,      y.floats()};
    scale_channels(kernels(), args, ParallelFor(call));
  });
}

// Norms over the elements of a group of channels: `groups` 0 is a group for each channel.
void normalize_groups(Call& call, std::int64_t groups, float eps, bool channels_last) {
  const Tensor& x = call.input(0, Type::float32);
  const int rank = x.shape.rank(), axis = channels_last ? rank - 1 : 1;
  if (rank < 2) refuse("input 0 has shape " + x.shape.text() + ", expected channels");
  const std::int64_t C = x.shape[axis];
  const std::int64_t pixels = channels_last ? x.shape.count(1, rank - 1) : x.shape.count(2, rank);
  const std::int64_t G = groups ? groups : C;
  if (C && (G < 1 || C % G != 0)) refuse("C is no multiple of num_groups = " + std::to_string(G));
  const float *weight = per_channel(call, 1, C), *bias = per_channel(call, 2, C);
  Tensor& y = call.output_over(0, 0, x.shape);
  if (y.count() == 0) return;
  const NormArgs args{x.shape[0], C, pixels, x.floats(), weight, bias, y.floats(), channels_last};
  group_norm(kernels(), args, G, eps, call.scratch_floats(group_norm_floats(args)),
             ParallelFor(call));
}

template <bool channels_last>
std::unique_ptr<Operator> make_instance_norm(const NodeDescription& node) {
  const auto eps = static_cast<float>(node.number("epsilon", 1e-5));
  return make_operator([eps](Call& call) { normalize_groups(call, 0, eps, channels_last); });
}

std::unique_ptr<Operator> make_group_norm(const NodeDescription& node) {
  const auto eps = static_cast<float>(node.number("epsilon", 1e-5));
  const std::int64_t groups = node.integer("num_groups");
  if (groups < 1) refuse("num_groups is " + std::to_string(groups));
  return make_operator([eps, groups](Call& call) { normalize_groups(call, groups, eps, false); });
}

}  // namespace

void list_norms(OperatorTable& table) {
  table["Softmax"] = make_softmax<&KernelTable::softmax>;
  table["LogSoftmax"] = make_softmax<&KernelTable::log_softmax>;
  table["Hardmax"] = make_hardmax;
  table["LpNormalization"] = make_lp_norm;
  table["LayerNormalization"] = make_layer_norm;
  table["RMSNormalization"] = make_rms_norm;
  table["BatchNormalization"] = make_batch_norm;
  table["InstanceNormalization"] = make_instance_norm<false>;
  table["treadle.InstanceNormalization"] = make_instance_norm<true>;
  table["GroupNormalization"] = make_group_norm;
}

}  // namespace treadle::graph

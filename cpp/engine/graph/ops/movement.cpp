// Operators that move elements to other places: Transpose, Slice, Concat, Split, Tile, ...
#include <algorithm>

#include "engine/graph/ops/families.h"
#include "engine/graph/strides.h"

namespace treadle::graph {
namespace {

using Sizes = std::vector<std::int64_t>;

// Makes output 0 of input 0, which is read as if it had these sizes, with its axes in another order
// and of another shape at last.
void permute(Call& call, const Sizes& sizes, const Sizes& order, const Shape& result) {
  const Tensor& x = call.input(0);
  const std::size_t rank = sizes.size();
  Sizes from(rank, 1), to(rank, 1);
  for (std::size_t i = rank; i-- > 1;) {
    from[i - 1] = from[i] * sizes[i];
    to[i - 1] = to[i] * sizes[static_cast<std::size_t>(order[i])];
  }
  StridedLoop<2> loop;
  for (std::size_t i = 0; i < rank; ++i) {
    const auto axis = static_cast<std::size_t>(order[i]);
    loop.add(sizes[axis], {to[i], from[axis]});
  }
  if (loop.contiguous()) return call.share(0, 0, result);
  Tensor& y = call.output(0, x.type, result);
  copy_strided(call, loop, y.data, x.data, size_of(x.type));
}

std::unique_ptr<Operator> make_transpose(const NodeDescription& node) {
  const bool given = node.has("perm");
  const Sizes perm = node.integers("perm", {});
  return make_operator([given, perm](Call& call) {
    const Shape& shape = call.input(0).shape;
    const int rank = shape.rank();
    Sizes order(static_cast<std::size_t>(rank)), sizes(order.size());
    if (given && static_cast<int>(perm.size()) != rank) {
      refuse("attribute perm has " + std::to_string(perm.size()) + " axes, input 0 has shape " +
             shape.text());
    }
    unsigned seen = 0;
    for (int i = 0; i < rank; ++i) {
      order[i] = given ? checked_axis(perm[i], rank) : rank - 1 - i;
      if (seen >> order[i] & 1) refuse("attribute perm names an axis twice");
      seen |= 1u << order[i];
      sizes[i] = shape[static_cast<int>(order[i])];
    }
    permute(call, Sizes(shape.begin(), shape.end()), order, Shape(sizes.data(), sizes.size()));
  });
}

// DepthToSpace and SpaceToDepth: x [B, C, H, W], blocks of size x size pixels.
template <bool to_space>
std::unique_ptr<Operator> make_depth(const NodeDescription& node) {
  const std::int64_t n = node.integer("blocksize");
  const std::string mode = node.text("mode", "DCR");
  if (n < 1 || n > (1 << 24)) refuse("attribute blocksize is " + std::to_string(n));
  if (mode != "DCR" && mode != "CRD") refuse("attribute mode is " + mode);
  const bool depth_first = mode == "DCR";
  return make_operator([n, depth_first](Call& call) {
    const Shape x = call.input(0).shape;
    if (x.rank() != 4) refuse("input 0 has shape " + x.text() + ", expected 4 axes");
    const std::int64_t B = x[0], C = x[1], H = x[2], W = x[3];
    if (to_space ? C % (n * n) != 0 : H % n != 0 || W % n != 0) {
      refuse("shape " + x.text() + " does not divide into blocks of " + std::to_string(n));
    }
    // Sizes beside an axis of none may be anything below 2^56; so may their products, but not more.
    constexpr std::int64_t kMost = std::int64_t{1} << 56;
    if (to_space ? std::max(H, W) > kMost / n : C > kMost / (n * n)) {
      refuse("shape " + x.text() + " is too large for blocks of " + std::to_string(n));
    }
    if (!to_space) {
      const Sizes order = depth_first ? Sizes{0, 3, 5, 1, 2, 4} : Sizes{0, 1, 3, 5, 2, 4};
      return permute(call, {B, C, H / n, n, W / n, n}, order, Shape{B, C * n * n, H / n, W / n});
    }
    const Shape y{B, C / (n * n), H * n, W * n};
    if (depth_first) return permute(call, {B, n, n, y[1], H, W}, {0, 3, 4, 1, 5, 2}, y);
    permute(call, {B, y[1], n, n, H, W}, {0, 1, 4, 2, 5, 3}, y);
  });
}

// A SliceAxis takes `count` elements of an axis, from `start` on, `step` apart.
struct SliceAxis {
  std::int64_t start = 0, step = 1, count;
};

SliceAxis slice_axis(std::int64_t size, std::int64_t start, std::int64_t end, std::int64_t step) {
  if (step == 0) refuse("a step is 0");
  step = std::clamp(step, -size - 1, size + 1);
  if (start < 0) start += size;
  if (end < 0) end += size;
  std::int64_t span;
  if (step > 0) {
    start = std::clamp<std::int64_t>(start, 0, size);
    span = std::clamp<std::int64_t>(end, 0, size) - start;
  } else {
    start = std::clamp<std::int64_t>(start, -1, size - 1);
    span = start - std::clamp<std::int64_t>(end, -1, size - 1);
  }
  const std::int64_t stride = step > 0 ? step : -step;
  return {start, step, span > 0 ? (span + stride - 1) / stride : 0};
}

void slice(Call& call) {
  const Tensor& x = call.input(0);
  const int rank = x.shape.rank();
  const Sizes starts = call.integers(1, kMaxRank), ends = call.integers(2, kMaxRank);
  Sizes axes, steps(starts.size(), 1);
  if (call.has(3)) {
    axes = call.integers(3, kMaxRank);
  } else {
    for (std::size_t i = 0; i < starts.size(); ++i) axes.push_back(static_cast<std::int64_t>(i));
  }
  if (call.has(4)) steps = call.integers(4, kMaxRank);
  const std::size_t n = starts.size();
  if (ends.size() != n || axes.size() != n || steps.size() != n) {
    refuse("starts, ends, axes and steps have different sizes");
  }
  SliceAxis slices[kMaxRank];
  Sizes sizes(x.shape.begin(), x.shape.end());
  for (int axis = 0; axis < rank; ++axis) slices[axis].count = sizes[axis];
  unsigned seen = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const int axis = checked_axis(axes[i], rank);
    if (seen >> axis & 1) refuse("axis " + std::to_string(axis) + " is named twice");
    seen |= 1u << axis;
    slices[axis] = slice_axis(sizes[axis], starts[i], ends[i], steps[i]);
    sizes[axis] = slices[axis].count;
  }
  const Shape shape(sizes.data(), sizes.size());
  std::int64_t first = 0, from = 1, to = 1;
  std::int64_t strides[kMaxRank][2];
  for (int axis = rank - 1; axis >= 0; --axis) {
    first += slices[axis].start * from;
    strides[axis][0] = to;
    strides[axis][1] = slices[axis].step * from;
    from *= x.shape[axis];
    to *= shape[axis];
  }
  StridedLoop<2> loop;
  for (int axis = 0; axis < rank; ++axis) loop.add(shape[axis], strides[axis]);
  if (shape.count() == 0) {
    call.output(0, x.type, shape);
  } else if (loop.contiguous()) {
    call.view(0, 0, first, shape);
  } else {
    Tensor& y = call.output(0, x.type, shape);
    copy_strided(call, loop, y.data, x.data + first * size_of(x.type), size_of(x.type));
  }
}

// Copies the axes [axis, rank) of input i, as rows, to or from a part of larger rows.
void copy_part(Call& call, std::int64_t rows, std::int64_t part, std::int64_t to_row, char* to,
               std::int64_t from_row, const char* from, int element_size) {
  StridedLoop<2> loop;
  loop.add(rows, {to_row, from_row});
  loop.add(part, {1, 1});
  copy_strided(call, loop, to, from, element_size);
}

std::unique_ptr<Operator> make_concat(const NodeDescription& node) {
  const std::int64_t given = node.integer("axis");
  return make_operator([given](Call& call) {
    const Tensor& first = call.input(0);
    const int rank = first.shape.rank(), axis = checked_axis(given, rank);
    std::int64_t size = 0;
    for (int i = 0; i < call.inputs(); ++i) {
      const Tensor& x = call.input(i, first.type, rank);
      if (x.shape.with(axis, 0) != first.shape.with(axis, 0)) {
        refuse("shapes " + first.shape.text() + " and " + x.shape.text() +
               " differ beside the axis " + std::to_string(axis));
      }
      size += x.shape[axis];
    }
    if (call.inputs() == 1) return call.share(0, 0, first.shape);
    const Shape shape = first.shape.with(axis, size);
    Tensor& y = call.output(0, first.type, shape);
    const std::int64_t rows = shape.count(0, axis), row = shape.count(axis, rank);
    const int bytes = size_of(first.type);
    std::int64_t at = 0;
    for (int i = 0; i < call.inputs(); ++i) {
      const Tensor& x = call.input(i);
      const std::int64_t part = x.shape.count(axis, rank);
      copy_part(call, rows, part, row, y.data + at * bytes, part, x.data, bytes);
      at += part;
    }
  });
}

std::unique_ptr<Operator> make_split(const NodeDescription& node) {
  const std::int64_t given = node.integer("axis", 0);
  const std::int64_t parts = node.integer("num_outputs", node.outputs);
  if (parts < 1 || parts > node.outputs) {
    refuse("attribute num_outputs is " + std::to_string(parts) + ", expected " +
           std::to_string(node.outputs));
  }
  return make_operator([given, parts](Call& call) {
    const Tensor& x = call.input(0);
    const int rank = x.shape.rank(), axis = checked_axis(given, rank);
    const std::int64_t size = x.shape[axis], inner = x.shape.count(axis + 1, rank);
    Sizes sizes;
    if (call.has(1)) {
      sizes = call.integers(1, 4096);
    } else {
      const std::int64_t part = (size + parts - 1) / parts;
      for (std::int64_t i = 0; i < parts; ++i) {
        sizes.push_back(std::clamp<std::int64_t>(size - i * part, 0, part));
      }
    }
    if (static_cast<int>(sizes.size()) < call.outputs()) refuse("there are too few sizes");
    std::int64_t sum = 0;
    for (const std::int64_t part : sizes) {
      if (part < 0 || part > size - sum) refuse("the sizes are not those of a split");
      sum += part;
    }
    if (sum != size) refuse("the sizes do not sum to the axis' " + std::to_string(size));
    const std::int64_t rows = x.shape.count(0, axis), row = size * inner;
    const int bytes = size_of(x.type);
    std::int64_t at = 0;
    for (int i = 0; i < call.outputs(); ++i) {
      const Shape shape = x.shape.with(axis, sizes[i]);
      const std::int64_t part = sizes[i] * inner;
      if (rows == 1 && part > 0) {
        call.view(i, 0, at, shape);
      } else if (call.wants(i)) {
        Tensor& y = call.output(i, x.type, shape);
        copy_part(call, rows, part, part, y.data, row, x.data + at * bytes, bytes);
      }
      at += part;
    }
  });
}

void expand(Call& call) {
  const Tensor& x = call.input(0);
  const Sizes sizes = call.integers(1, kMaxRank);
  const Shape shape = broadcast(x.shape, Shape(sizes.data(), sizes.size()));
  if (shape.count() == x.count()) return call.share(0, 0, shape);
  Tensor& y = call.output(0, x.type, shape);
  copy_strided(call, broadcast_loop(shape, {&shape, &x.shape}), y.data, x.data, size_of(x.type));
}

void tile(Call& call) {
  const Tensor& x = call.input(0);
  const Sizes repeats = call.integers(1, kMaxRank);
  const int rank = x.shape.rank();
  if (static_cast<int>(repeats.size()) != rank) {
    refuse("there are " + std::to_string(repeats.size()) + " repeats, input 0 has shape " +
           x.shape.text());
  }
  Sizes sizes;
  for (int axis = 0; axis < rank; ++axis) {
    std::int64_t size;
    if (__builtin_mul_overflow(repeats[axis], x.shape[axis], &size))
      refuse("a repeat is too large");
    sizes.push_back(size);
  }
  const Shape shape(sizes.data(), sizes.size());
  Tensor& y = call.output(0, x.type, shape);
  if (shape.count() == 0) return;
  StridedLoop<2> loop;
  for (int axis = 0; axis < rank; ++axis) {
    const std::int64_t to = shape.count(axis + 1, rank), from = x.shape.count(axis + 1, rank);
    loop.add(repeats[axis], {to * x.shape[axis], 0});
    loop.add(x.shape[axis], {to, from});
  }
  copy_strided(call, loop, y.data, x.data, size_of(x.type));
}

// ReverseSequence: of sample b the first lengths[b] steps are reversed.
std::unique_ptr<Operator> make_reverse_sequence(const NodeDescription& node) {
  const std::int64_t batch = node.integer("batch_axis", 1), time = node.integer("time_axis", 0);
  if ((batch != 0 || time != 1) && (batch != 1 || time != 0))
    refuse("batch_axis and time_axis are not 0 and 1");
  return make_operator([time](Call& call) {
    const Tensor& x = call.input(0);
    const int rank = x.shape.rank();
    if (rank < 2) refuse("input 0 has shape " + x.shape.text() + ", expected 2 axes or more");
    const std::int64_t T = x.shape[static_cast<int>(time)], B = x.shape[static_cast<int>(1 - time)];
    const Sizes lengths = call.integers(1, INT64_MAX);
    if (static_cast<std::int64_t>(lengths.size()) != B) refuse("there is not a length per sample");
    for (const std::int64_t length : lengths) {
      if (length < 0 || length > T) refuse("a length is " + std::to_string(length));
    }
    const std::int64_t row = x.shape.count(2, rank) * size_of(x.type);
    Tensor& y = call.output(0, x.type, x.shape);
    if (x.count() == 0) return;
    const std::int64_t b_step = time == 0 ? row : T * row, t_step = time == 0 ? B * row : row;
    call.parallel_for(B, static_cast<double>(T * row) * 2.5, [&](std::int64_t b) {
      for (std::int64_t t = 0; t < T; ++t) {
        const std::int64_t from = t < lengths[b] ? lengths[b] - 1 - t : t;
        std::memcpy(y.data + b * b_step + t * t_step, x.data + b * b_step + from * t_step,
                    static_cast<std::size_t>(row));
      }
    });
  });
}

// Trilu: what lies beyond the k-th diagonal of the matrices becomes 0.
std::unique_ptr<Operator> make_trilu(const NodeDescription& node) {
  const bool upper = node.integer("upper", 1) != 0;
  return make_operator([upper](Call& call) {
    const Tensor& x = call.input(0);
    const int rank = x.shape.rank();
    if (rank < 2) refuse("input 0 has shape " + x.shape.text() + ", expected 2 axes or more");
    const std::int64_t M = x.shape[rank - 2], N = x.shape[rank - 1];
    const std::int64_t k = std::clamp(call.has(1) ? call.integer(1) : 0, -M - 1, N + 1);
    const Shape shape = x.shape;
    Tensor& y = call.output_over(0, 0, shape);
    if (shape.count() == 0) return;
    const std::int64_t bytes = size_of(x.type);
    call.parallel_for(shape.count() / N, static_cast<double>(N * bytes) * 2.5, [&](std::int64_t r) {
      const std::int64_t middle =
          std::clamp<std::int64_t>(r % M + k + (upper ? 0 : 1), 0, N) * bytes;
      char* to = y.data + r * N * bytes;
      const std::int64_t kept = upper ? middle : 0, end = upper ? N * bytes : middle;
      if (to != x.data + r * N * bytes) std::memcpy(to, x.data + r * N * bytes, N * bytes);
      std::memset(to, 0, static_cast<std::size_t>(kept));
      std::memset(to + end, 0, static_cast<std::size_t>(N * bytes - end));
    });
  });
}

}  // namespace

void list_movement(OperatorTable& table) {
  table["Transpose"] = make_transpose;
  table["DepthToSpace"] = make_depth<true>;
  table["SpaceToDepth"] = make_depth<false>;
  table["Slice"] = make_plain<slice>;
  table["Concat"] = make_concat;
  table["Split"] = make_split;
  table["Expand"] = make_plain<expand>;
  table["Tile"] = make_plain<tile>;
  table["ReverseSequence"] = make_reverse_sequence;
  table["Trilu"] = make_trilu;
}

}  // namespace treadle::graph

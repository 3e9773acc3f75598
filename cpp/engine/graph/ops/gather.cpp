// Operators that take elements by their indices: Gather, GatherElements, GatherND, OneHot.
#include <cmath>

#include "engine/graph/ops/families.h"
#include "engine/graph/ops/indices.h"
#include "engine/graph/strides.h"

namespace treadle::graph {
namespace {

constexpr std::int64_t kPiece = 4096;

template <class T>
void check(Call& call, const T* from, std::int64_t count, std::int64_t size, std::int64_t* to) {
  call.serial_for((count + kPiece - 1) / kPiece, kPiece * 20, [&](std::int64_t piece) {
    for (std::int64_t k = piece * kPiece, end = std::min(count, k + kPiece); k < end; ++k) {
      const std::int64_t index = from[k];
      if (index < -size || index >= size) {
        refuse("index " + std::to_string(index) + " leaves an axis of " + std::to_string(size));
      }
      to[k] = index < 0 ? index + size : index;
    }
  });
}

void check_any(Call& call, const Tensor& indices, std::int64_t size, std::int64_t* to) {
  if (indices.type == Type::int32) {
    check(call, indices.as<std::int32_t>(), indices.count(), size, to);
  } else if (indices.type == Type::int64) {
    check(call, indices.as<std::int64_t>(), indices.count(), size, to);
  } else {
    refuse(std::string("indices have dtype ") + name_of(indices.type) +
           ", expected int32 or int64");
  }
}

std::int64_t* scratch_int64(Call& call, std::int64_t count) {
  return reinterpret_cast<std::int64_t*>(call.scratch(count * 8));
}

// Gather: y = x[.., indices, ..] of one axis.
std::unique_ptr<Operator> make_gather(const NodeDescription& node) {
  const std::int64_t given = node.integer("axis", 0);
  return make_operator([given](Call& call) {
    const Tensor &x = call.input(0), &indices = call.input(1);
    const int rank = x.shape.rank(), axis = checked_axis(given, rank);
    std::vector<std::int64_t> sizes(x.shape.begin(), x.shape.begin() + axis);
    sizes.insert(sizes.end(), indices.shape.begin(), indices.shape.end());
    sizes.insert(sizes.end(), x.shape.begin() + axis + 1, x.shape.end());
    const Shape shape(sizes.data(), sizes.size());
    const std::int64_t size = x.shape[axis], n = indices.count();
    const std::int64_t* at = checked_indices(call, 1, size);
    const std::int64_t outer = x.shape.count(0, axis), inner = x.shape.count(axis + 1, rank);
    if (outer == 1 && n == 1 && inner > 0) return call.view(0, 0, at[0] * inner, shape);
    Tensor& y = call.output(0, x.type, shape);
    if (y.count() == 0) return;
    const std::int64_t bytes = inner * size_of(x.type);
    const std::int64_t step = std::max<std::int64_t>(1, (1 << 15) / bytes);
    const std::int64_t blocks = (n + step - 1) / step;
    const double work = static_cast<double>(std::min(step, n)) * (20 + 2.5 * bytes);
    call.parallel_for(outer * blocks, work, [&](std::int64_t task) {
      const std::int64_t o = task / blocks, begin = task % blocks * step;
      const char* from = x.data + o * size * bytes;
      char* to = y.data + o * n * bytes;
      for (std::int64_t i = begin, end = std::min(n, begin + step); i < end; ++i) {
        std::memcpy(to + i * bytes, from + at[i] * bytes, static_cast<std::size_t>(bytes));
      }
    });
  });
}

// GatherElements: y[i, j, ..] = x[i, indices[i, j, ..], ..].
std::unique_ptr<Operator> make_gather_elements(const NodeDescription& node) {
  const std::int64_t given = node.integer("axis", 0);
  return make_operator([given](Call& call) {
    const Tensor &x = call.input(0), &indices = call.input(1);
    const StridedLoop<2> loop = elements_loop(x.shape, indices.shape, given);
    const int axis = checked_axis(given, x.shape.rank());
    const std::int64_t* at = checked_indices(call, 1, x.shape[axis]);
    const std::int64_t stride = x.shape.count(axis + 1, x.shape.rank());
    const Shape shape = indices.shape;
    Tensor& y = call.output(0, x.type, shape);
    with_size(size_of(x.type), [&](auto zero) {
      using T = decltype(zero);
      const T* from = x.as<T>();
      T* to = y.as<T>();
      const std::int64_t to_row = loop.row_step(0), to_step = loop.step(0);
      const std::int64_t row = loop.row_step(1), step = loop.step(1);
      loop.run(call, 50, [&](const std::int64_t (&offsets)[2], std::int64_t rows, std::int64_t n) {
        for (std::int64_t r = 0; r < rows; ++r) {
          for (std::int64_t i = 0; i < n; ++i) {
            const std::int64_t k = offsets[0] + r * to_row + i * to_step;
            to[k] = from[offsets[1] + r * row + i * step + at[k] * stride];
          }
        }
      });
    });
  });
}

// GatherND: the last axis of `indices` has tuples that point into x, behind the batch's axes.
std::unique_ptr<Operator> make_gather_nd(const NodeDescription& node) {
  const std::int64_t given = node.integer("batch_dims", 0);
  return make_operator([given](Call& call) {
    const Tensor &x = call.input(0), &indices = call.input(1);
    const int rank = x.shape.rank(), last = indices.shape.rank() - 1;
    if (given < 0 || given > std::min(rank, last)) {
      refuse("attribute batch_dims is " + std::to_string(given) + ", the inputs have shapes " +
             x.shape.text() + " and " + indices.shape.text());
    }
    const int batch = static_cast<int>(given);
    for (int axis = 0; axis < batch; ++axis) {
      if (x.shape[axis] != indices.shape[axis]) refuse("the batches of the inputs differ");
    }
    const std::int64_t* at = checked_tuples(call, 1, x.shape, batch);
    const int behind = batch + static_cast<int>(indices.shape[last]);
    std::vector<std::int64_t> sizes(indices.shape.begin(), indices.shape.begin() + last);
    sizes.insert(sizes.end(), x.shape.begin() + behind, x.shape.end());
    const Shape shape(sizes.data(), sizes.size());
    Tensor& y = call.output(0, x.type, shape);
    if (y.count() == 0) return;
    const std::int64_t tuples = indices.shape.count(0, last);
    const std::int64_t per_sample = indices.shape.count(batch, last);
    const std::int64_t sample = x.shape.count(batch, rank), size = size_of(x.type);
    const auto bytes = static_cast<std::size_t>(x.shape.count(behind, rank) * size);
    call.parallel_for((tuples + 255) / 256, 256 * (20 + 2.5 * bytes), [&](std::int64_t task) {
      for (std::int64_t i = task * 256, end = std::min(tuples, i + 256); i < end; ++i) {
        const std::int64_t from = i / per_sample * sample + at[i];
        std::memcpy(y.data + i * static_cast<std::int64_t>(bytes), x.data + from * size, bytes);
      }
    });
  });
}

// OneHot: a new axis of `depth` has values[1] at the index, values[0] elsewhere.
std::unique_ptr<Operator> make_one_hot(const NodeDescription& node) {
  const std::int64_t given = node.integer("axis", -1);
  return make_operator([given](Call& call) {
    const Tensor &indices = call.input(0), &values = call.input(2);
    const double wanted = call.number(1);
    if (!(wanted >= 0 && wanted < 1e15)) refuse("the depth is " + std::to_string(wanted));
    const auto depth = static_cast<std::int64_t>(wanted);
    if (values.count() != 2) refuse("input 2 has not two elements");
    const int rank = indices.shape.rank(), axis = checked_axis(given, rank + 1);
    const Shape shape = indices.shape.inserted(axis, depth);
    Tensor& y = call.output(0, values.type, shape);
    if (y.count() == 0) return;
    const std::int64_t inner = indices.shape.count(axis, rank), n = indices.count();
    with_size(size_of(values.type), [&](auto zero) {
      using T = decltype(zero);
      const T off = values.as<T>()[0], on = values.as<T>()[1];
      T* to = y.as<T>();
      const std::int64_t count = y.count();
      call.parallel_for((count + kPiece - 1) / kPiece, kPiece * 10, [&](std::int64_t piece) {
        std::fill(to + piece * kPiece, to + std::min(count, (piece + 1) * kPiece), off);
      });
      with_type(indices.type, [&](auto kind) {
        using I = decltype(kind);
        const I* from = indices.as<I>();
        call.parallel_for((n + kPiece - 1) / kPiece, kPiece * 50, [&](std::int64_t piece) {
          for (std::int64_t i = piece * kPiece, end = std::min(n, i + kPiece); i < end; ++i) {
            const auto index = static_cast<double>(from[i]);
            if (!(index >= -wanted && index < wanted)) continue;
            auto place = static_cast<std::int64_t>(index);
            if (place < 0) place += depth;
            if (place < 0 || place >= depth) continue;
            to[(i / inner * depth + place) * inner + i % inner] = on;
          }
        });
      });
    });
  });
}

}  // namespace

const std::int64_t* checked_indices(Call& call, int i, std::int64_t size) {
  const Tensor& indices = call.input(i);
  std::int64_t* to = scratch_int64(call, indices.count());
  check_any(call, indices, size, to);
  return to;
}

const std::int64_t* checked_tuples(Call& call, int i, const Shape& shape, int first) {
  const Tensor& indices = call.input(i);
  const int last = indices.shape.rank() - 1;
  if (last < 0 || indices.shape[last] < 1 || indices.shape[last] > shape.rank() - first) {
    refuse("indices have shape " + indices.shape.text() + ", expected a last axis of 1 to " +
           std::to_string(shape.rank() - first));
  }
  const std::int64_t K = indices.shape[last], tuples = indices.shape.count(0, last);
  std::int64_t* to = scratch_int64(call, tuples);
  with_type(indices.type, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (std::is_integral_v<T> && std::is_signed_v<T> && sizeof(T) >= 4) {
      const T* from = indices.as<T>();
      call.serial_for(tuples, 50, [&](std::int64_t t) {
        std::int64_t place = 0;
        for (std::int64_t k = 0; k < K; ++k) {
          const int axis = first + static_cast<int>(k);
          const std::int64_t size = shape[axis], index = from[t * K + k];
          if (index < -size || index >= size) {
            refuse("index " + std::to_string(index) + " leaves an axis of " + std::to_string(size));
          }
          place += (index < 0 ? index + size : index) * shape.count(axis + 1, shape.rank());
        }
        to[t] = place;
      });
    } else {
      refuse(std::string("indices have dtype ") + name_of(indices.type) + ", expected int64");
    }
  });
  return to;
}

StridedLoop<2> elements_loop(const Shape& data, const Shape& indices, std::int64_t given) {
  const int rank = data.rank(), axis = checked_axis(given, rank);
  if (indices.rank() != rank) {
    refuse("indices have shape " + indices.text() + ", expected " + std::to_string(rank) + " axes");
  }
  StridedLoop<2> loop;
  for (int i = 0; i < rank; ++i) {
    if (i != axis && indices[i] > data[i]) {
      refuse("indices of shape " + indices.text() + " leave a value of shape " + data.text());
    }
    loop.add(indices[i], {indices.count(i + 1, rank), i == axis ? 0 : data.count(i + 1, rank)});
  }
  return loop;
}

void list_gather(OperatorTable& table) {
  table["Gather"] = make_gather;
  table["GatherElements"] = make_gather_elements;
  table["GatherND"] = make_gather_nd;
  table["OneHot"] = make_one_hot;
}

}  // namespace treadle::graph

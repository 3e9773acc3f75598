#include "engine/product/pad.h"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "engine/schedule/task_size.h"

namespace treadle {
namespace {

// Returns the element of x at a place that may be outside of its n elements.
std::int64_t source(PadMode mode, std::int64_t at, std::int64_t n) {
  if (at >= 0 && at < n) return at;
  switch (mode) {
    case PadMode::constant:
      break;
    case PadMode::edge:
      return at < 0 ? 0 : n - 1;
    case PadMode::reflect:
      return at < 0 ? -at : 2 * (n - 1) - at;
    case PadMode::wrap:
      return (at % n + n) % n;
  }
  return -1;
}

}  // namespace

Padding::Padding(PadMode mode, const std::vector<std::int64_t>& sizes,
                 const std::vector<std::int64_t>& before, const std::vector<std::int64_t>& after)
    : in_sizes_(sizes) {
  for (std::size_t axis = 0; axis < sizes.size(); ++axis) {
    const std::int64_t n = sizes[axis], head = before[axis], tail = after[axis];
    const std::string where = "axis " + std::to_string(axis) + " has " + std::to_string(n) +
                              " elements, and the padding is (" + std::to_string(head) + ", " +
                              std::to_string(tail) + ")";
    std::int64_t total;
    if (__builtin_add_overflow(head, tail, &total) || __builtin_add_overflow(n, total, &total) ||
        total < 0 || head < -n || tail < -n) {
      throw std::invalid_argument(where);
    }
    const bool adds = head > 0 || tail > 0;
    if (mode != PadMode::constant && adds && n == 0) {
      throw std::invalid_argument(where + ": there is no element to repeat");
    }
    if (mode == PadMode::reflect &&
        (head >= std::max<std::int64_t>(n, 1) || tail >= std::max<std::int64_t>(n, 1))) {
      throw std::invalid_argument(where + ": there is less to mirror");
    }
    std::vector<std::int64_t> sources(static_cast<std::size_t>(total));
    for (std::int64_t i = 0; i < total; ++i) {
      sources[static_cast<std::size_t>(i)] = source(mode, i - head, n);
    }
    sources_.push_back(std::move(sources));
    out_sizes_.push_back(total);
  }
}

void Padding::run(int bytes, const void* x, const void* constant, void* y,
                  const ParallelFor& parallel_for) const {
  const auto as = [&](auto type) {
    using T = decltype(type);
    run_as(static_cast<const T*>(x), *static_cast<const T*>(constant), static_cast<T*>(y),
           parallel_for);
  };
  switch (bytes) {
    case 1:
      return as(std::uint8_t{});
    case 2:
      return as(std::uint16_t{});
    case 4:
      return as(std::uint32_t{});
    case 8:
      return as(std::uint64_t{});
    default:
      throw std::invalid_argument("an element of " + std::to_string(bytes) + " bytes");
  }
}

template <class T>
void Padding::run_as(const T* x, T constant, T* y, const ParallelFor& parallel_for) const {
  if (out_sizes_.empty()) {
    *y = *x;
    return;
  }
  std::int64_t rows = 1;
  const int last = static_cast<int>(out_sizes_.size()) - 1;
  for (int axis = 0; axis < last; ++axis) rows *= out_sizes_[static_cast<std::size_t>(axis)];
  const std::vector<std::int64_t>& columns = sources_.back();
  if (columns.empty()) return;
  // A run of elements that follow each other in x is copied at once.
  const auto count = static_cast<std::int64_t>(columns.size());
  const auto make = [&](std::int64_t row) {
    std::int64_t from = 0, stride = 1, rest = row;
    for (int axis = last - 1; axis >= 0; --axis) {
      const auto k = static_cast<std::size_t>(axis);
      const std::int64_t at = sources_[k][static_cast<std::size_t>(rest % out_sizes_[k])];
      rest /= out_sizes_[k];
      if (at < 0) {
        std::fill_n(y + row * count, count, constant);
        return;
      }
      from += at * stride;
      stride *= in_sizes_[k];
    }
    const T* in = x + from * in_sizes_.back();
    T* out = y + row * count;
    for (std::int64_t i = 0; i < count;) {
      const std::int64_t at = columns[static_cast<std::size_t>(i)];
      std::int64_t end = i + 1;
      if (at < 0) {
        out[i] = constant;
      } else {
        while (end < count && columns[static_cast<std::size_t>(end)] == at + (end - i)) ++end;
        std::copy(in + at, in + at + (end - i), out + i);
      }
      i = end;
    }
  };
  for_each_row(rows, 3.0 * static_cast<double>(count), parallel_for, make);
}

}  // namespace treadle

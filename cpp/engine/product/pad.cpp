#include "engine/product/pad.h"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "engine/schedule/task_size.h"

namespace treadle {
namespace {

// Returns the element of x at a place that may be outside of its n elements, or -1 for none.
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
    : mode_(mode), in_sizes_(sizes), before_(before) {
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

// Writes a row of the result from the row of x that it takes.
template <class T>
void Padding::copy_row(const T* x, T constant, T* y) const {
  const std::int64_t n = in_sizes_.back(), head = before_.back(), count = out_sizes_.back();
  for (std::int64_t i = 0; i < count;) {
    const std::int64_t place = i - head, at = source(mode_, place, n);
    // The places up to `end` are before x, in it or behind it, like this one.
    std::int64_t end = std::min(place < 0 ? head : place < n ? head + n : count, count);
    if (at < 0) {
      std::fill(y + i, y + end, constant);
    } else if (at == place) {
      std::copy(x + at, x + at + (end - i), y + i);
    } else if (mode_ == PadMode::edge) {
      std::fill(y + i, y + end, x[at]);
    } else {
      end = mode_ == PadMode::wrap ? std::min(end, i + n - at) : i + 1;
      std::copy(x + at, x + at + (end - i), y + i);
    }
    i = end;
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
  const std::int64_t count = out_sizes_.back();
  if (count == 0) return;
  const auto make = [&](std::int64_t row) {
    std::int64_t from = 0, stride = in_sizes_.back(), rest = row;
    for (int axis = last - 1; axis >= 0; --axis) {
      const auto k = static_cast<std::size_t>(axis);
      const std::int64_t at = source(mode_, rest % out_sizes_[k] - before_[k], in_sizes_[k]);
      rest /= out_sizes_[k];
      if (at < 0) {
        std::fill_n(y + row * count, count, constant);
        return;
      }
      from += at * stride;
      stride *= in_sizes_[k];
    }
    copy_row(x + from, constant, y + row * count);
  };
  for_each_row(rows, 3.0 * static_cast<double>(count), parallel_for, make);
}

}  // namespace treadle

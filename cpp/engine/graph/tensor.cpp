#include "engine/graph/tensor.h"

#include <algorithm>

namespace treadle::graph {
namespace {

constexpr std::int64_t kMostElements = std::int64_t{1} << 56;

}  // namespace

const char* name_of(Type type) {
  constexpr const char* names[kTypes] = {"bool",   "int8",  "uint8",  "int16",   "uint16", "int32",
                                         "uint32", "int64", "uint64", "float32", "float64"};
  return names[static_cast<int>(type)];
}

Type type_of_code(std::int64_t code) {
  switch (code) {
    case 1:
    case 10:
    case 16:
      return Type::float32;
    case 2:
      return Type::uint8;
    case 3:
      return Type::int8;
    case 4:
      return Type::uint16;
    case 5:
      return Type::int16;
    case 6:
      return Type::int32;
    case 7:
      return Type::int64;
    case 9:
      return Type::boolean;
    case 11:
      return Type::float64;
    case 12:
      return Type::uint32;
    case 13:
      return Type::uint64;
    default:
      refuse("data type " + std::to_string(code) + " is none that a program computes in");
  }
}

void refuse(const std::string& problem) { throw std::invalid_argument(problem); }

Shape::Shape(const std::int64_t* dims, std::size_t rank) {
  if (rank > kMaxRank) refuse("a value has " + std::to_string(rank) + " axes, expected at most 8");
  rank_ = static_cast<int>(rank);
  std::int64_t product = 1;  // of the sizes that are not 0
  for (int i = 0; i < rank_; ++i) {
    const std::int64_t size = dims[i];
    if (size < 0) refuse("a size of a shape is " + std::to_string(size));
    dims_[i] = size;
    if (size == 0) count_ = 0;
    if (size > 0 && __builtin_mul_overflow(product, size, &product)) product = kMostElements + 1;
    if (product > kMostElements) refuse("a value has more than 2**56 elements");
  }
  if (count_ != 0) count_ = product;
}

std::int64_t Shape::count(int begin, int end) const {
  std::int64_t product = 1;
  for (int i = begin; i < end; ++i) product *= dims_[i];
  return product;
}

bool Shape::operator==(const Shape& other) const {
  return rank_ == other.rank_ && std::equal(begin(), end(), other.begin());
}

Shape Shape::with(int axis, std::int64_t size) const {
  std::array<std::int64_t, kMaxRank> dims = dims_;
  dims[axis] = size;
  return Shape(dims.data(), rank_);
}

Shape Shape::without(int axis) const {
  std::array<std::int64_t, kMaxRank> dims = dims_;
  std::copy(begin() + axis + 1, end(), dims.begin() + axis);
  return Shape(dims.data(), rank_ - 1);
}

Shape Shape::inserted(int axis, std::int64_t size) const {
  std::array<std::int64_t, kMaxRank + 1> dims{};
  std::copy(begin(), begin() + axis, dims.begin());
  dims[axis] = size;
  std::copy(begin() + axis, end(), dims.begin() + axis + 1);
  return Shape(dims.data(), rank_ + 1);
}

std::string Shape::text() const {
  std::string text = "[";
  for (int i = 0; i < rank_; ++i) text += (i ? ", " : "") + std::to_string(dims_[i]);
  return text + "]";
}

int checked_axis(std::int64_t axis, int rank) {
  if (axis < -rank || axis >= rank) {
    refuse("axis is " + std::to_string(axis) + ", expected " + std::to_string(-rank) + " to " +
           std::to_string(rank - 1));
  }
  return static_cast<int>(axis < 0 ? axis + rank : axis);
}

}  // namespace treadle::graph

// A Tensor is a value of a graph: a type, a shape, and contiguous elements in row-major order.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <stdexcept>
#include <string>

namespace treadle::graph {

enum class Type : std::uint8_t {
  boolean,  // a byte, 0 or 1
  int8,
  uint8,
  int16,
  uint16,
  int32,
  uint32,
  int64,
  uint64,
  float32,
  float64,
};
constexpr int kTypes = 11;

// Returns the number of bytes of an element.
constexpr int size_of(Type type) {
  constexpr int sizes[kTypes] = {1, 1, 1, 2, 2, 4, 4, 8, 8, 4, 8};
  return sizes[static_cast<int>(type)];
}

// Returns NumPy's name of a type.
const char* name_of(Type type);

// Returns the type of a number of ONNX's enumeration of data types (onnx.proto, TensorProto), where
// float16 and bfloat16 are computed in float32. Throws std::invalid_argument for other numbers.
Type type_of_code(std::int64_t code);

constexpr int kMaxRank = 8;

// The sizes of a tensor's axes. A Shape that was made here has a product of sizes below 2^56, so
// that no number of bytes overflows; the product of the sizes that are not 0 is below 2^56, too.
class Shape {
 public:
  Shape() = default;  // a scalar
  // All throw std::invalid_argument for a negative size, for a rank beyond kMaxRank and for a
  // product beyond 2^56.
  Shape(std::initializer_list<std::int64_t> dims) : Shape(dims.begin(), dims.size()) {}
  Shape(const std::int64_t* dims, std::size_t rank);

  int rank() const { return rank_; }
  std::int64_t operator[](int axis) const { return dims_[axis]; }
  const std::int64_t* begin() const { return dims_.data(); }
  const std::int64_t* end() const { return dims_.data() + rank_; }
  std::int64_t count() const { return count_; }  // the number of elements
  std::int64_t count(int begin, int end) const;  // of the axes [begin, end)

  bool operator==(const Shape& other) const;
  bool operator!=(const Shape& other) const { return !(*this == other); }

  // Returns this shape with one size changed, without an axis, or with one more before `axis`.
  Shape with(int axis, std::int64_t size) const;
  Shape without(int axis) const;
  Shape inserted(int axis, std::int64_t size) const;

  std::string text() const;  // such as [2, 3]

 private:
  std::array<std::int64_t, kMaxRank> dims_{};
  std::int64_t count_ = 1;
  int rank_ = 0;
};

struct Block;  // memory of a Workspace

struct Tensor {
  Type type = Type::float32;
  Shape shape;
  char* data = nullptr;    // null only where there are no elements
  Block* block = nullptr;  // the memory that this tensor shares; null for memory of somebody else

  template <class T>
  T* as() {
    return reinterpret_cast<T*>(data);
  }
  template <class T>
  const T* as() const {
    return reinterpret_cast<const T*>(data);
  }
  const float* floats() const { return as<float>(); }
  float* floats() { return as<float>(); }
  std::int64_t count() const { return shape.count(); }
  std::int64_t bytes() const { return shape.count() * size_of(type); }
};

// Returns an axis counted from the front; throws std::invalid_argument unless -rank <= axis < rank.
int checked_axis(std::int64_t axis, int rank);

// A problem of a node with what it gets. Throws std::invalid_argument with the text.
[[noreturn]] void refuse(const std::string& problem);

// Calls f with a value of the C++ type that stands for `type`: f(float{}), f(std::int64_t{}), ...
template <class F>
decltype(auto) with_type(Type type, F&& f) {
  switch (type) {
    case Type::boolean:
      return f(bool{});
    case Type::int8:
      return f(std::int8_t{});
    case Type::uint8:
      return f(std::uint8_t{});
    case Type::int16:
      return f(std::int16_t{});
    case Type::uint16:
      return f(std::uint16_t{});
    case Type::int32:
      return f(std::int32_t{});
    case Type::uint32:
      return f(std::uint32_t{});
    case Type::int64:
      return f(std::int64_t{});
    case Type::uint64:
      return f(std::uint64_t{});
    case Type::float32:
      return f(float{});
    case Type::float64:
      break;
  }
  return f(double{});
}

// Returns the Type of a C++ type.
template <class T>
constexpr Type type_of();
template <>
constexpr Type type_of<bool>() {
  return Type::boolean;
}
template <>
constexpr Type type_of<std::int8_t>() {
  return Type::int8;
}
template <>
constexpr Type type_of<std::uint8_t>() {
  return Type::uint8;
}
template <>
constexpr Type type_of<std::int16_t>() {
  return Type::int16;
}
template <>
constexpr Type type_of<std::uint16_t>() {
  return Type::uint16;
}
template <>
constexpr Type type_of<std::int32_t>() {
  return Type::int32;
}
template <>
constexpr Type type_of<std::uint32_t>() {
  return Type::uint32;
}
template <>
constexpr Type type_of<std::int64_t>() {
  return Type::int64;
}
template <>
constexpr Type type_of<std::uint64_t>() {
  return Type::uint64;
}
template <>
constexpr Type type_of<float>() {
  return Type::float32;
}
template <>
constexpr Type type_of<double>() {
  return Type::float64;
}

}  // namespace treadle::graph

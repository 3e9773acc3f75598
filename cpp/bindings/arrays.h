// This header checks all array arguments: it returns a NumPy array of the right dtype and shape, or
// throws an error that says what was expected. Shapes have the letters of the documentation.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace treadle {

namespace py = pybind11;

// An axis has a letter and the size that it must have, or kAny.
struct Axis {
  const char* letter;
  std::int64_t size;
};
constexpr std::int64_t kAny = -1;

enum class Layout {
  contiguous,      // C order throughout
  last_contiguous  // any strides but on the last axis
};

// A view of memory that somebody else owns; the strides count elements.
template <class T>
struct View {
  T* data = nullptr;
  std::int64_t shape[4] = {}, strides[4] = {};  // no entry point takes more axes
};

// Throws TypeError (not an array, wrong dtype or byte order) or ValueError (shape, alignment,
// layout).
template <class T>
View<const T> check_array(const std::string& function, const char* name, const py::handle& value,
                          std::initializer_list<Axis> axes, Layout layout);

// Returns the data of a C-contiguous array, or null for None.
template <class T>
const T* optional_array(const std::string& function, const char* name, const py::handle& value,
                        std::initializer_list<Axis> axes) {
  if (value.is_none()) return nullptr;
  return check_array<T>(function, name, value, axes, Layout::contiguous).data;
}

// Tells whether a value is an array of float32 whose rows can be read as they lie.
bool has_float32_rows(const py::handle& value);

// Checks a float32 array as check_array does, and that it is writable, since the call fills it.
View<float> check_output(const std::string& function, const char* name, const py::handle& value,
                         std::initializer_list<Axis> axes, Layout layout = Layout::contiguous);

// Makes a new float32 array; throws MemoryError or ValueError rather than overflow.
py::array_t<float> new_array(const std::string& function, std::vector<std::int64_t> shape);

// Returns a size, or throws ValueError unless least <= size <= most. Most sizes are below 2^31, as
// in every layer, so that products of two fit in 64 bits.
std::int64_t check_size(const std::string& function, const char* name, std::int64_t size,
                        std::int64_t least, std::int64_t most = INT32_MAX);

// Returns the product a * b * ... of non-negative sizes, or throws ValueError if it overflows.
std::int64_t checked_product(const std::string& function,
                             std::initializer_list<std::int64_t> sizes);

}  // namespace treadle

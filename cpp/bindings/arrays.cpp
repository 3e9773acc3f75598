#include "bindings/arrays.h"

namespace treadle {
namespace {

std::string shape_text(const py::array& a) {
  std::string text = "(";
  for (py::ssize_t i = 0; i < a.ndim(); ++i) {
    text += (i ? ", " : "") + std::to_string(a.shape(i));
  }
  return text + (a.ndim() == 1 ? ",)" : ")");
}

// Writes an expected shape for an error, such as "[T, B, I] with I = 8".
std::string expected_text(std::initializer_list<Axis> axes) {
  std::string letters, sizes;
  for (const Axis& axis : axes) {
    letters += (letters.empty() ? "" : ", ") + std::string(axis.letter);
    if (axis.size != kAny) {
      sizes += (sizes.empty() ? " with " : ", ") + std::string(axis.letter) + " = " +
               std::to_string(axis.size);
    }
  }
  return "[" + letters + "]" + sizes;
}

std::string type_name(const py::handle& value) {
  return py::cast<std::string>(py::type::handle_of(value).attr("__name__"));
}

[[noreturn]] void wrong_type(const std::string& function, const char* name,
                             const std::string& found, const std::string& expected) {
  throw py::type_error(function + ": " + name + " " + found + ", expected " + expected);
}
[[noreturn]] void wrong_value(const std::string& function, const char* name,
                              const std::string& found, const std::string& expected) {
  throw py::value_error(function + ": " + name + " " + found + ", expected " + expected);
}

bool has_shape(const py::array& a, std::initializer_list<Axis> axes) {
  if (a.ndim() != static_cast<py::ssize_t>(axes.size())) return false;
  py::ssize_t i = 0;
  for (const Axis& axis : axes) {
    if (axis.size != kAny && a.shape(i) != axis.size) return false;
    ++i;
  }
  return true;
}

bool has_layout(const py::array& a, Layout layout) {
  if (layout == Layout::contiguous) return a.flags() & py::array::c_style;
  const py::ssize_t last = a.ndim() - 1;
  // An empty array has no element that a stride could lead astray (NumPy gives it zeros).
  return a.size() == 0 || a.shape(last) <= 1 || a.strides(last) == a.itemsize();
}

// Texts are built only for an error, since a step of a small net takes half a microsecond.
py::array check_common(const std::string& function, const char* name, const py::handle& value,
                       const py::dtype& dtype, std::initializer_list<Axis> axes, Layout layout) {
  if (!py::isinstance<py::array>(value)) {
    wrong_type(function, name, "is a " + type_name(value), "a NumPy array");
  }
  py::array a = py::reinterpret_borrow<py::array>(value);
  const py::dtype found = a.dtype();
  if (found.num() != dtype.num() || found.byteorder() == '>') {
    wrong_type(function, name, "has dtype " + py::cast<std::string>(py::str(found)),
               py::cast<std::string>(py::str(dtype)));
  }
  if (!has_shape(a, axes)) {
    wrong_value(function, name, "has shape " + shape_text(a), expected_text(axes));
  }
  if (!(a.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_)) {
    wrong_value(function, name, "is misaligned", "an aligned array");
  }
  if (!has_layout(a, layout)) {
    wrong_value(function, name, "has strides that do not fit",
                layout == Layout::contiguous ? "a C-contiguous array" : "a contiguous last axis");
  }
  return a;
}

template <class T, class Data>
View<T> view(const py::array& a, Data* data) {
  View<T> v;
  v.data = static_cast<T*>(data);
  for (py::ssize_t i = 0; i < a.ndim(); ++i) {
    v.shape[i] = a.shape(i);
    v.strides[i] = a.strides(i) / a.itemsize();
  }
  return v;
}

}  // namespace

template <class T>
View<const T> check_array(const std::string& function, const char* name, const py::handle& value,
                          std::initializer_list<Axis> axes, Layout layout) {
  const py::array a = check_common(function, name, value, py::dtype::of<T>(), axes, layout);
  return view<const T>(a, a.data());
}

template View<const float> check_array<float>(const std::string&, const char*, const py::handle&,
                                              std::initializer_list<Axis>, Layout);
template View<const std::int64_t> check_array<std::int64_t>(const std::string&, const char*,
                                                            const py::handle&,
                                                            std::initializer_list<Axis>, Layout);
template View<const std::uint16_t> check_array<std::uint16_t>(const std::string&, const char*,
                                                              const py::handle&,
                                                              std::initializer_list<Axis>, Layout);
template View<const std::int8_t> check_array<std::int8_t>(const std::string&, const char*,
                                                          const py::handle&,
                                                          std::initializer_list<Axis>, Layout);
template View<const bool> check_array<bool>(const std::string&, const char*, const py::handle&,
                                            std::initializer_list<Axis>, Layout);

bool has_float32_rows(const py::handle& value) {
  if (!py::isinstance<py::array>(value)) return false;
  const auto a = py::reinterpret_borrow<py::array>(value);
  return a.dtype().num() == py::dtype::of<float>().num() && a.dtype().byteorder() != '>' &&
         a.ndim() > 0 && (a.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_) &&
         a.strides(a.ndim() - 1) == a.itemsize();
}

View<float> check_output(const std::string& function, const char* name, const py::handle& value,
                         std::initializer_list<Axis> axes, Layout layout) {
  py::array a = check_common(function, name, value, py::dtype::of<float>(), axes, layout);
  if (!a.writeable()) {
    throw py::value_error(function + ": " + name + " is read-only, expected a writeable array");
  }
  return view<float>(a, a.mutable_data());
}

std::int64_t check_size(const std::string& function, const char* name, std::int64_t size,
                        std::int64_t least, std::int64_t most) {
  if (size >= least && size <= most) return size;
  throw py::value_error(function + ": " + name + " is " + std::to_string(size) + ", expected " +
                        std::to_string(least) + " to " + std::to_string(most));
}

std::int64_t checked_product(const std::string& function,
                             std::initializer_list<std::int64_t> sizes) {
  // The limit is a quarter of the address space, so that sums of a few such sizes, in bytes, cannot
  // overflow either.
  constexpr std::int64_t kMost = std::int64_t{1} << 56;
  std::int64_t product = 1;
  for (std::int64_t size : sizes) {
    if (size < 0 || __builtin_mul_overflow(product, size, &product) || product > kMost) {
      throw py::value_error(function + ": sizes multiply to more than memory can hold");
    }
  }
  return product;
}

py::array_t<float> new_array(const std::string& function, std::vector<std::int64_t> shape) {
  std::int64_t size = 1;
  for (std::int64_t n : shape) size = checked_product(function, {size, n});
  try {
    return py::array_t<float>(std::vector<py::ssize_t>(shape.begin(), shape.end()));
  } catch (const py::error_already_set& error) {
    if (!error.matches(PyExc_MemoryError)) throw;
  }
  const std::string text = function + ": the result would have " + std::to_string(4 * size) +
                           " bytes, expected sizes that fit in memory";
  py::set_error(PyExc_MemoryError, text.c_str());
  throw py::error_already_set();
}

}  // namespace treadle

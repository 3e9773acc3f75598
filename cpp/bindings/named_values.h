// Options and weights cross the border as a dict or as keywords: names decide, not an order.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <string>
#include <string_view>
#include <type_traits>

namespace treadle {

namespace py = pybind11;

// The entries of a dict, each of which is to be taken once by its name. The values live as long as
// this object, whatever other Python threads do to the dict.
class NamedValues {
 public:
  // `what` names the dict in errors. Throws TypeError for a key that is no text.
  NamedValues(const std::string& function, const char* what, const py::dict& values);

  // The value of this name, or None where the dict has no such name.
  py::object take(std::string_view name);

  // The value as a T, or `otherwise`; throws TypeError for another kind of value.
  template <class T>
  T take(std::string_view name, T otherwise);

  // The value as a T; throws TypeError where the dict has no such name, too.
  template <class T>
  T require(std::string_view name);

  // Throws TypeError if a name of the dict has not been taken, since it is then misspelt.
  void finish() const;

 private:
  struct Entry {
    py::object key, value;
    std::string_view name;  // the characters of the key
    bool taken = false;
  };
  static constexpr std::size_t kMost = 32;  // no kind of call has as many names

  Entry* find(std::string_view name);
  [[noreturn]] void refuse(std::string_view name, const std::string& problem) const;

  // The value of an entry that was found.
  template <class T>
  T converted(const Entry& entry) const;

  const std::string& function_;
  const char* what_;
  std::array<Entry, kMost> entries_;
  std::size_t size_ = 0;
};

template <class T>
T NamedValues::take(std::string_view name, T otherwise) {
  const Entry* entry = find(name);
  return entry ? converted<T>(*entry) : otherwise;
}

template <class T>
T NamedValues::require(std::string_view name) {
  const Entry* entry = find(name);
  if (!entry) refuse(name, "is missing");
  return converted<T>(*entry);
}

template <class T>
T NamedValues::converted(const Entry& entry) const {
  static_assert(!std::is_pointer_v<T> && !std::is_same_v<T, std::string_view>,
                "a caster's value must outlive the caster");
  py::detail::make_caster<T> caster;
  if (!caster.load(entry.value, true)) {
    const char* expected = std::is_same_v<T, std::string> ? "a str"
                           : std::is_same_v<T, py::dict>  ? "a dict"
                           : std::is_same_v<T, bool>      ? "a bool"
                           : std::is_arithmetic_v<T>      ? "a number"
                                                          : "a pair of numbers";
    refuse(entry.name, std::string("is of type ") + Py_TYPE(entry.value.ptr())->tp_name +
                           ", expected " + expected);
  }
  return py::detail::cast_op<T>(std::move(caster));
}

}  // namespace treadle

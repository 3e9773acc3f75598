#include "bindings/named_values.h"

#include <pybind11/critical_section.h>

namespace treadle {

NamedValues::NamedValues(const std::string& function, const char* what, const py::dict& values)
    : function_(function), what_(what) {
  {
    const py::scoped_critical_section unchanged(values);
    if (values.size() > kMost) {
      throw py::type_error(function + ": " + what + " has " + std::to_string(values.size()) +
                           " names, expected fewer");
    }
    for (const auto& [key, value] : values) {
      Entry& entry = entries_[size_++];
      entry.key = py::reinterpret_borrow<py::object>(key);
      entry.value = py::reinterpret_borrow<py::object>(value);
    }
  }
  for (std::size_t i = 0; i < size_; ++i) {
    PyObject* const key = entries_[i].key.ptr();
    Py_ssize_t size = 0;
    const char* name = PyUnicode_Check(key) ? PyUnicode_AsUTF8AndSize(key, &size) : nullptr;
    if (!name) {
      PyErr_Clear();
      throw py::type_error(function + ": " + what + " has a key that is no name");
    }
    entries_[i].name = {name, static_cast<std::size_t>(size)};
  }
}

NamedValues::Entry* NamedValues::find(std::string_view name) {
  for (std::size_t i = 0; i < size_; ++i) {
    if (entries_[i].name == name) {
      entries_[i].taken = true;
      return &entries_[i];
    }
  }
  return nullptr;
}

py::object NamedValues::take(std::string_view name) {
  const Entry* entry = find(name);
  return entry ? entry->value : py::none();
}

void NamedValues::finish() const {
  for (std::size_t i = 0; i < size_; ++i) {
    if (entries_[i].taken) continue;
    refuse(entries_[i].name, std::string("is no name that ") + what_ + " can have");
  }
}

void NamedValues::refuse(std::string_view name, const std::string& problem) const {
  throw py::type_error(function_ + ": " + std::string(name.substr(0, 60)) + " " + problem);
}

}  // namespace treadle

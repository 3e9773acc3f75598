// This header declares what treadle uses of DLPack's C interface, version 1 (dmlc/dlpack,
// include/dlpack/dlpack.h): a framework's type has a table of functions behind the attribute
// __dlpack_c_exchange_api__, and one of them describes a tensor without any call of Python.
#pragma once

#include <cstdint>

namespace treadle::dlpack {

constexpr std::int32_t kCpu = 1;       // a device
constexpr std::uint8_t kFloat = 2;     // a code of numbers
constexpr std::uint32_t kVersion = 1;  // the major one, which changes with the layout

struct Tensor {
  void* data;
  std::int32_t device, device_number;
  std::int32_t axes;
  std::uint8_t code, bits;
  std::uint16_t lanes;
  std::int64_t *shape, *strides;  // [axes], strides in elements; they belong to the tensor
  std::uint64_t byte_offset;
};

struct Functions {
  std::uint32_t major, minor;
  void* older;
  void *allocate, *export_object, *import_object;
  // Describes a tensor of the type that has the table; returns 0, or -1 with Python's exception.
  int (*describe)(void* object, Tensor* tensor);
  void* current_stream;
};

}  // namespace treadle::dlpack

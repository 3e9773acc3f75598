// Program reads a plan, as treadle.graph.plan writes it, and runs it on NumPy arrays.
#include "bindings/program.h"

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bindings/bound_recurrent.h"
#include "bindings/construct.h"
#include "bindings/gil.h"
#include "bindings/named_values.h"
#include "engine/conv/conv.h"
#include "engine/conv/conv_transpose.h"
#include "engine/conv/depthwise.h"
#include "engine/graph/ops/families.h"
#include "engine/product/linear.h"

namespace treadle {
namespace {

using graph::Program;
using graph::Tensor;
using graph::Type;

// NumPy's letters of the types, in the order of Type. "l" and "q" are both int64.
constexpr char kLetters[] = "?bBhHiIlLfd";

// NumPy's dtype of a type, by its number, which takes much less time than by its name.
py::dtype dtype_of(Type type) {
  return graph::with_type(type, [](auto zero) { return py::dtype::of<decltype(zero)>(); });
}

// Returns the view of an array of a supported type that is C-contiguous, aligned and in the
// machine's byte order; throws TypeError or ValueError.
Tensor view_of(const std::string& f, const std::string& name, const py::handle& value) {
  if (!py::isinstance<py::array>(value))
    throw py::type_error(f + ": " + name + " is no NumPy array");
  const auto array = py::reinterpret_borrow<py::array>(value);
  const py::dtype dtype = array.dtype();
  const char letter = dtype.char_() == 'q' ? 'l' : dtype.char_() == 'Q' ? 'L' : dtype.char_();
  const char* found = letter ? std::strchr(kLetters, letter) : nullptr;
  if (!found || dtype.byteorder() == '>') {
    throw py::type_error(f + ": " + name + " has dtype " + py::cast<std::string>(py::str(dtype)) +
                         ", which no program takes");
  }
  if (!(array.flags() & py::array::c_style) ||
      !(array.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_)) {
    throw py::value_error(f + ": " + name + " is not contiguous and aligned");
  }
  Tensor tensor;
  tensor.type = static_cast<Type>(found - kLetters);
  std::vector<std::int64_t> sizes(array.shape(), array.shape() + array.ndim());
  tensor.shape = graph::Shape(sizes.data(), sizes.size());
  tensor.data = const_cast<char*>(static_cast<const char*>(array.data()));
  return tensor;
}

// Copies elements; a byte of a bool becomes 0 or 1.
void copy_elements(const Tensor& from, char* to) {
  if (from.type == Type::boolean) {
    for (std::int64_t i = 0; i < from.count(); ++i) to[i] = from.data[i] != 0;
  } else if (from.count()) {
    std::memcpy(to, from.data, static_cast<std::size_t>(from.bytes()));
  }
}

template <class T>
bool all_of(const py::sequence& values) {
  return std::all_of(values.begin(), values.end(),
                     [](const py::handle& value) { return py::isinstance<T>(value); });
}

// Returns the native object of a class that Python holds, or nothing where it is another one's.
template <class T>
std::optional<std::shared_ptr<const T>> native(const py::handle& value) {
  if (!py::isinstance<T>(value)) return std::nullopt;
  return std::shared_ptr<const T>(value.cast<std::shared_ptr<T>>());
}

graph::Attribute attribute_of(const std::string& f, const std::string& name,
                              const py::handle& value) {
  if (py::isinstance<py::bool_>(value)) return std::int64_t{value.cast<bool>()};
  if (py::isinstance<py::int_>(value)) return value.cast<std::int64_t>();
  if (py::isinstance<py::float_>(value)) return value.cast<double>();
  if (py::isinstance<py::str>(value)) return value.cast<std::string>();
  if (auto program = native<Program>(value)) return *program;
  if (auto linear = native<Linear>(value)) return *linear;
  if (auto conv = native<Conv>(value)) return *conv;
  if (auto transposed = native<ConvTranspose>(value)) return *transposed;
  if (auto depthwise = native<Depthwise>(value)) return *depthwise;
  if (py::isinstance<BoundRecurrent>(value)) return value.cast<const BoundRecurrent&>().engine;
  if (py::isinstance<py::list>(value) || py::isinstance<py::tuple>(value)) {
    const auto list = py::reinterpret_borrow<py::sequence>(value);
    if (all_of<py::int_>(list)) return value.cast<std::vector<std::int64_t>>();
    if (all_of<py::float_>(list)) return value.cast<std::vector<double>>();
    if (all_of<py::str>(list)) return value.cast<std::vector<std::string>>();
  }
  if (py::isinstance<py::array>(value)) {
    auto owned = std::make_shared<graph::OwnedTensor>();
    owned->tensor = view_of(f, "attribute " + name, value);
    owned->memory.resize(static_cast<std::size_t>(owned->tensor.bytes() + 7) / 8);
    char* memory = reinterpret_cast<char*>(owned->memory.data());
    copy_elements(owned->tensor, memory);
    owned->tensor.data = memory;
    return std::shared_ptr<const graph::OwnedTensor>(std::move(owned));
  }
  throw py::type_error(f + ": attribute " + name + " is of a type that no operator takes");
}

// Lays copies of the constants one behind the other, each on a cache line.
std::pair<std::vector<Tensor>, Buffer> copy_constants(const std::string& f,
                                                      const py::tuple& arrays) {
  std::vector<Tensor> constants;
  std::int64_t bytes = 0;
  const auto padded = [](const Tensor& tensor) { return (tensor.bytes() + 63) / 64 * 64; };
  for (const py::handle& array : arrays) {
    constants.push_back(view_of(f, "a constant", array));
    bytes += padded(constants.back());
  }
  Buffer memory = Buffer::uninitialized(bytes / static_cast<std::int64_t>(sizeof(float)) + 16);
  char* to = reinterpret_cast<char*>(memory.data());
  for (Tensor& constant : constants) {
    copy_elements(constant, to);
    constant.data = to;
    to += padded(constant);
  }
  return {std::move(constants), std::move(memory)};
}

py::dict copy_of(const py::dict& values) {
  auto copy = py::reinterpret_steal<py::dict>(PyDict_Copy(values.ptr()));
  if (!copy) throw py::error_already_set();
  return copy;
}

graph::ProgramNode make_node(const std::string& f, const py::dict& plan,
                             const std::vector<Tensor>& constants) {
  NamedValues values(f, "node", plan);
  graph::ProgramNode node;
  node.op = values.require<std::string>("op");
  node.name = values.require<std::string>("name");
  node.inputs = values.require<std::vector<int>>("inputs");
  node.outputs = values.require<std::vector<int>>("outputs");
  node.last = values.require<std::vector<int>>("last");
  graph::NodeDescription description;
  description.op = node.op;
  description.outputs = static_cast<int>(node.outputs.size());
  for (const auto& [name, value] : copy_of(values.require<py::dict>("attributes"))) {
    const auto text = name.cast<std::string>();
    description.attributes.emplace(text, attribute_of(f, text, value));
  }
  values.finish();
  for (const int place : node.inputs) {
    const int number = graph::kFirstConstant - place;
    const bool constant = number >= 0 && number < static_cast<int>(constants.size());
    description.constants.push_back(constant ? &constants[number] : nullptr);
  }
  const auto found = graph::operators().find(node.op);
  if (found == graph::operators().end()) {
    const bool known = graph::operators().count("treadle." + node.op) != 0;
    throw py::value_error(f + ": node " + node.name + " (" + node.op + "): there is no operator " +
                          node.op +
                          (known ? " for this node: it must have one or two axes of "
                                   "pixels, constant weights, a known rank and one output"
                                 : ""));
  }
  try {
    node.run = found->second(description);
  } catch (const std::invalid_argument& error) {
    throw py::value_error(f + ": node " + node.name + " (" + node.op + "): " + error.what());
  }
  return node;
}

// Reads copies of the plan's dicts and lists, which other threads may change.
std::shared_ptr<Program> make_program(const std::string& f, const py::dict& plan) {
  NamedValues values(f, "plan", plan);
  const auto inputs = values.require<int>("inputs"), slots = values.require<int>("slots");
  auto outputs = values.require<std::vector<int>>("outputs");
  auto [constants, memory] = copy_constants(f, py::tuple(values.require<py::list>("constants")));
  std::vector<graph::ProgramNode> nodes;
  for (const py::handle& node : py::tuple(values.require<py::list>("nodes"))) {
    nodes.push_back(make_node(f, py::cast<py::dict>(node), constants));
  }
  values.finish();
  return std::make_shared<Program>(inputs, slots, std::move(outputs), std::move(constants),
                                   std::move(memory), std::move(nodes));
}

// The memory of a call's values follows from its inputs and the constants, not from sizes that a
// file names.
std::int64_t memory_limit(const Program& program, const std::vector<Tensor>& inputs) {
  constexpr std::int64_t kLeast = std::int64_t{1} << 30, kMost = std::int64_t{1} << 50;
  std::int64_t bytes = 0;
  for (const Tensor& input : inputs) bytes = std::min(kMost, bytes + input.bytes());
  return kLeast + 1024 * bytes + 64 * program.constant_bytes();
}

// A workspace of a program for one call, with the values that the call holds.
class Running {
 public:
  explicit Running(const Program& program)
      : program_(program), workspace_(program.take_workspace()) {}
  ~Running() {
    for (Tensor& value : held) {
      if (value.block) workspace_->release(value.block);
    }
    program_.give_back(std::move(workspace_));
  }
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;

  graph::Workspace& workspace() { return *workspace_; }
  std::vector<Tensor> held;

 private:
  const Program& program_;
  std::unique_ptr<graph::Workspace> workspace_;
};

}  // namespace

py::list run_program(const Program& program, const std::string& f, const py::sequence& arrays,
                     std::vector<double>* seconds) {
  std::vector<py::object> owners;  // the arrays live as long as the call
  std::vector<Tensor> inputs;
  for (const py::handle& array : arrays) {
    owners.push_back(py::reinterpret_borrow<py::object>(array));
    inputs.push_back(view_of(f, "input " + std::to_string(inputs.size()), array));
  }
  if (static_cast<int>(inputs.size()) != program.inputs()) {
    throw py::value_error(f + ": " + std::to_string(inputs.size()) +
                          " inputs are given, expected " + std::to_string(program.inputs()));
  }
  Running running(program);
  running.workspace().limit(memory_limit(program, inputs));
  std::vector<Tensor> outputs(program.outputs());
  try {
    interruptible([&](Interrupt& interrupt) {
      for (Tensor& input : inputs) {
        // Another thread may write into the caller's memory meanwhile: what decides about shapes
        // and places is read from a copy.
        if (input.type == Type::float32 || input.count() == 0) continue;
        graph::Block* block = running.workspace().take(input.bytes());
        copy_elements(input, block->data);
        input.data = block->data;
        input.block = block;
        running.held.push_back(input);
      }
      graph::Execution execution{running.workspace(), interrupt};
      program.run(execution, inputs.data(), outputs.data(), seconds ? seconds->data() : nullptr);
    });
  } catch (const std::invalid_argument& error) {
    throw py::value_error(f + ": " + error.what());
  }
  running.held.insert(running.held.end(), outputs.begin(), outputs.end());
  py::list results;
  std::vector<std::pair<const Tensor*, char*>> copies;
  for (const Tensor& output : outputs) {
    py::array result(dtype_of(output.type),
                     std::vector<py::ssize_t>(output.shape.begin(), output.shape.end()));
    copies.emplace_back(&output, static_cast<char*>(result.mutable_data()));
    results.append(std::move(result));
  }
  const auto copy = [&](Interrupt& interrupt) {
    constexpr std::int64_t kPiece = std::int64_t{1} << 20;
    for (const auto& [from, to] : copies) {
      for (std::int64_t at = 0; at < from->bytes() && !interrupt.stopped(); at += kPiece) {
        const std::int64_t bytes = std::min(kPiece, from->bytes() - at);
        std::memcpy(to + at, from->data + at, static_cast<std::size_t>(bytes));
        interrupt.progress(static_cast<double>(bytes));
      }
    }
  };
  std::int64_t bytes = 0;
  for (const Tensor& output : outputs) bytes += output.bytes();
  if (bytes > 1 << 16) {
    interruptible(copy);
  } else {
    Interrupt never(nullptr);
    copy(never);
  }
  return results;
}

[[gnu::cold]] void register_program(py::module_& m) {
  py::class_<Program, std::shared_ptr<Program>>(m, "Program", py::is_final(), constructed_by_new())
      .def(py::init(&make_program), py::arg("function"), py::arg("plan"))
      .def(
          "run",
          [](const Program& program, const std::string& f, const py::sequence& arrays) {
            return run_program(program, f, arrays);
          },
          py::arg("function"), py::arg("inputs"))
      .def(
          "profile",
          [](const Program& program, const std::string& f, const py::sequence& arrays) {
            std::vector<double> seconds(program.nodes().size());
            py::list results = run_program(program, f, arrays, &seconds);
            return py::make_tuple(results, seconds);
          },
          py::arg("function"), py::arg("inputs"))
      .def_property_readonly("constant_bytes", &Program::constant_bytes);
  m.def("operators", [] {
    std::vector<std::string> names;
    for (const auto& [name, make] : graph::operators()) names.emplace_back(name);
    return names;
  });
}

}  // namespace treadle

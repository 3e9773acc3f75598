// An Operator runs a node of a graph. It is made once, from the node's description, and packs
// constant weights then; it never changes afterwards, and any number of threads may run it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "engine/graph/call.h"
#include "engine/graph/tensor.h"

namespace treadle {
class Conv;
class ConvTranspose;
class Depthwise;
class Linear;
class RecurrentStack;
}  // namespace treadle

namespace treadle::graph {

class Program;

// An OwnedTensor is a tensor with memory of its own, which an attribute holds.
struct OwnedTensor {
  Tensor tensor;
  std::vector<std::uint64_t> memory;
};

// An attribute of a node. Native layers are packed by who describes the node.
using Attribute =
    std::variant<std::int64_t, double, std::string, std::vector<std::int64_t>, std::vector<double>,
                 std::vector<std::string>, std::shared_ptr<const Program>,
                 std::shared_ptr<const Linear>, std::shared_ptr<const Conv>,
                 std::shared_ptr<const ConvTranspose>, std::shared_ptr<const Depthwise>,
                 std::shared_ptr<const RecurrentStack>, std::shared_ptr<const OwnedTensor>>;

// A NodeDescription is what is known of a node before it runs.
class NodeDescription {
 public:
  std::string op;  // ONNX's name, or treadle.X
  std::map<std::string, Attribute> attributes;
  std::vector<const Tensor*> constants;  // of each input; null where it is no constant
  int outputs = 1;

  bool has(const std::string& name) const { return attributes.count(name) != 0; }
  // These return an attribute, or `otherwise` where it is missing; they throw std::invalid_argument
  // for another kind of attribute. Those without `otherwise` throw where it is missing, too.
  std::int64_t integer(const std::string& name) const;
  std::int64_t integer(const std::string& name, std::int64_t otherwise) const;
  double number(const std::string& name, double otherwise) const;
  std::string text(const std::string& name, const std::string& otherwise) const;
  std::vector<std::int64_t> integers(const std::string& name,
                                     std::vector<std::int64_t> otherwise) const;
  std::vector<double> numbers(const std::string& name, std::vector<double> otherwise) const;
  std::vector<std::string> texts(const std::string& name) const;
  template <class T>
  std::shared_ptr<const T> native(const std::string& name) const {
    return get<std::shared_ptr<const T>>(name);
  }

  const Tensor* constant(std::size_t i) const {
    return i < constants.size() ? constants[i] : nullptr;
  }

 private:
  [[noreturn]] static void wrong_attribute(const std::string& name, bool missing);
  template <class T>
  const T& get(const std::string& name) const {
    const auto found = attributes.find(name);
    if (found == attributes.end()) wrong_attribute(name, true);
    const T* value = std::get_if<T>(&found->second);
    if (!value) wrong_attribute(name, false);
    return *value;
  }
};

class Operator {
 public:
  virtual ~Operator() = default;
  // Computes every output of `call`. Throws std::invalid_argument for inputs that do not fit, and
  // std::bad_alloc.
  virtual void run(Call& call) const = 0;
};

// Makes the operator of a node. Throws std::invalid_argument for a description that does not fit.
using Make = std::unique_ptr<Operator> (*)(const NodeDescription&);

// An OperatorOf is an operator that calls a function object, which keeps what it needs by value.
template <class Run>
class OperatorOf final : public Operator {
 public:
  explicit OperatorOf(Run run) : run_(std::move(run)) {}
  void run(Call& call) const override { run_(call); }

 private:
  Run run_;
};

// Makes an operator of a callable run(Call&).
template <class Run>
std::unique_ptr<Operator> make_operator(Run run) {
  return std::make_unique<OperatorOf<Run>>(std::move(run));
}

// Makes an operator that has no attributes.
template <void (*run)(Call&)>
std::unique_ptr<Operator> make_plain(const NodeDescription&) {
  return make_operator(run);
}

// An OperatorTable has functions that make operators, by the operators' names.
using OperatorTable = std::map<std::string_view, Make>;

}  // namespace treadle::graph

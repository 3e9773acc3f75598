#include "engine/graph/operator.h"

namespace treadle::graph {

std::int64_t NodeDescription::integer(const std::string& name) const {
  return get<std::int64_t>(name);
}

std::int64_t NodeDescription::integer(const std::string& name, std::int64_t otherwise) const {
  return has(name) ? get<std::int64_t>(name) : otherwise;
}

double NodeDescription::number(const std::string& name, double otherwise) const {
  return has(name) ? get<double>(name) : otherwise;
}

std::string NodeDescription::text(const std::string& name, const std::string& otherwise) const {
  return has(name) ? get<std::string>(name) : otherwise;
}

std::vector<std::int64_t> NodeDescription::integers(const std::string& name,
                                                    std::vector<std::int64_t> otherwise) const {
  return has(name) ? get<std::vector<std::int64_t>>(name) : std::move(otherwise);
}

std::vector<double> NodeDescription::numbers(const std::string& name,
                                             std::vector<double> otherwise) const {
  return has(name) ? get<std::vector<double>>(name) : std::move(otherwise);
}

std::vector<std::string> NodeDescription::texts(const std::string& name) const {
  return get<std::vector<std::string>>(name);
}

void NodeDescription::wrong_attribute(const std::string& name, bool missing) {
  refuse("attribute " + name + (missing ? " is missing" : " is of another kind than expected"));
}

}  // namespace treadle::graph

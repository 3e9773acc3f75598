#include "engine/graph/call.h"

#include <new>
#include <string>

namespace treadle::graph {

Tensor& Call::output(int i, Type type, const Shape& shape) {
  const std::int64_t bytes = shape.count() * size_of(type);
  Tensor& value = wants(i) ? *outputs_[i] : unwanted_;
  value.type = type;
  value.shape = shape;
  if (wants(i)) {
    value.block = execution_.workspace.take(bytes);
    value.data = value.block->data;
  } else {
    value.data = scratch(bytes);
  }
  return value;
}

Tensor& Call::output_over(int i, int j, const Shape& shape) {
  const Tensor& from = input(j);
  if (!wants(i) || !dies(j) || shape.count() != from.count()) {
    return output(i, from.type, shape);
  }
  share(i, j, shape);
  return *outputs_[i];
}

void Call::share(int i, int j, const Shape& shape) {
  const Tensor& from = input(j);
  if (shape.count() != from.count()) {
    refuse("shape " + from.shape.text() + " cannot become " + shape.text());
  }
  view(i, j, 0, shape);
}

void Call::view(int i, int j, std::int64_t skipped, const Shape& shape) {
  const Tensor& from = input(j);
  if (skipped < 0 || shape.count() > from.count() - skipped) refuse("a view leaves its value");
  if (!wants(i)) return;
  Tensor& value = *outputs_[i];
  value.type = from.type;
  value.shape = shape;
  value.data = from.data ? from.data + skipped * size_of(from.type) : nullptr;
  value.block = from.block;
  if (value.block) execution_.workspace.share(value.block);
}

void Call::adopt(int i, Tensor&& value) {
  if (wants(i)) {
    *outputs_[i] = value;
  } else if (value.block) {
    execution_.workspace.release(value.block);
  }
  value = Tensor{};
}

char* Call::scratch(std::int64_t bytes) {
  scratch_.reserve(scratch_.size() + 1);
  scratch_.push_back(execution_.workspace.take(bytes));
  return scratch_.back()->data;
}

void Call::parallel_for(std::int64_t tasks, double work, const Task& task) {
  const double all = work * static_cast<double>(tasks);
  if (all < kShareWork || tasks < 2) return serial_for(tasks, work, task);
  run_team(all, [&](Team::Member& member) { member.parallel_for(tasks, work, task); });
}

void Call::serial_for(std::int64_t tasks, double work, const Task& task) {
  for (std::int64_t i = 0; i < tasks; ++i) {
    task(i);
    execution_.interrupt.progress(work);
    if (execution_.interrupt.stopped()) throw Interrupted{};
  }
}

std::int64_t Call::checked_bytes(std::int64_t count, std::int64_t size) {
  std::int64_t bytes;
  if (count < 0 || __builtin_mul_overflow(count, size, &bytes)) throw std::bad_alloc();
  return bytes;
}

std::vector<std::int64_t> Call::integers(int i, std::int64_t most) const {
  const Tensor& value = input(i);
  if (value.shape.rank() > 1) wrong_rank(i, 1);
  if (value.count() > most) {
    refuse("input " + std::to_string(i) + " has " + std::to_string(value.count()) +
           " numbers, expected at most " + std::to_string(most));
  }
  std::vector<std::int64_t> numbers(static_cast<std::size_t>(value.count()));
  with_type(value.type, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (std::is_floating_point_v<T> || std::is_same_v<T, bool>) {
      wrong_type(i, Type::int64);
    } else {
      const T* from = value.as<T>();
      for (std::size_t k = 0; k < numbers.size(); ++k) {
        numbers[k] = static_cast<std::int64_t>(from[k]);
      }
    }
  });
  return numbers;
}

std::int64_t Call::integer(int i) const {
  const Tensor& value = input(i);
  if (value.count() != 1)
    refuse("input " + std::to_string(i) + " has shape " + value.shape.text() +
           ", expected one element");
  return with_type(value.type, [&](auto zero) -> std::int64_t {
    using T = decltype(zero);
    if constexpr (std::is_floating_point_v<T>) {
      wrong_type(i, Type::int64);
    } else if constexpr (std::is_same_v<T, bool>) {
      return *value.as<std::uint8_t>() != 0;
    } else {
      return static_cast<std::int64_t>(*value.as<T>());
    }
  });
}

double Call::number(int i) const {
  const Tensor& value = input(i);
  if (value.type == Type::float32 && value.count() == 1) return *value.as<float>();
  if (value.type == Type::float64 && value.count() == 1) return *value.as<double>();
  return static_cast<double>(integer(i));
}

void Call::missing(int i) const { refuse("input " + std::to_string(i) + " is missing"); }

void Call::wrong_type(int i, Type type) const {
  refuse("input " + std::to_string(i) + " has dtype " + name_of(input(i).type) + ", expected " +
         name_of(type));
}

void Call::wrong_rank(int i, int rank) const {
  refuse("input " + std::to_string(i) + " has shape " + input(i).shape.text() + ", expected " +
         std::to_string(rank) + " axes");
}

}  // namespace treadle::graph

#include "engine/graph/ops/elementwise.h"

namespace treadle::graph {

void run_binary_rows(Call& call, const StridedLoop<3>& loop, double work, const void* a,
                     const void* b, void* y, const BinaryRow& row) {
  const auto *from = static_cast<const char*>(a), *other = static_cast<const char*>(b);
  auto* to = static_cast<char*>(y);
  const std::int64_t y_row = loop.row_step(0), a_row = loop.row_step(1), b_row = loop.row_step(2);
  const std::int64_t a_step = loop.step(1), b_step = loop.step(2);
  loop.run(call, work, [&](const std::int64_t (&at)[3], std::int64_t rows, std::int64_t n) {
    for (std::int64_t r = 0; r < rows; ++r) {
      row.run(row.f, from + (at[1] + r * a_row) * row.a_size, a_step,
              other + (at[2] + r * b_row) * row.b_size, b_step,
              to + (at[0] + r * y_row) * row.y_size, n);
    }
  });
}

void binary_floats(Call& call, const KernelTable& table, BinaryFunction f,
                   const StridedLoop<3>& loop, const float* a, const float* b, float* y) {
  BinaryArgs all{};
  all.f = f;
  all.a = {nullptr, loop.row_step(1), static_cast<int>(loop.step(1))};
  all.b = {nullptr, loop.row_step(2), static_cast<int>(loop.step(2))};
  loop.run(call, 10, [&](const std::int64_t (&at)[3], std::int64_t rows, std::int64_t n) {
    BinaryArgs args = all;
    args.rows = rows;
    args.columns = n;
    args.out = y + at[0];
    args.a.data = a + at[1];
    args.b.data = b + at[2];
    table.binary(args);
  });
}

Pair make_pair(Call& call, Type type) {
  const Tensor& a = call.input(0);
  const Tensor& b = call.input(1, a.type);
  const Shape shape = broadcast(a.shape, b.shape);
  const StridedLoop<3> loop = broadcast_loop(shape, {&shape, &a.shape, &b.shape});
  const auto becomes = [&](int j, const Tensor& x) {
    return x.type == type && x.shape == shape && call.dies(j);
  };
  Tensor& y = becomes(0, a)   ? call.output_over(0, 0, shape)
              : becomes(1, b) ? call.output_over(0, 1, shape)
                              : call.output(0, type, shape);
  return {a, b, y, loop};
}

Pair make_pair(Call& call) { return make_pair(call, call.input(0).type); }

void wrong_dtype(Type type, int i) {
  refuse("input " + std::to_string(i) + " has dtype " + name_of(type) +
         ", in which the operator does not compute");
}

}  // namespace treadle::graph

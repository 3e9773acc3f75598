// kernels/unpacked.h and kernels/unpacked_columns.h: products with weights that are not packed, on
// arrays each of which ends at a page that nobody may touch.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

#include "engine/product/linear.h"
#include "guarded.h"
#include "values.h"

namespace treadle {
namespace {

// A matrix whose rows are arrays of their own.
class Rows {
 public:
  Rows(std::int64_t rows, std::int64_t columns, unsigned seed) : values_(rows) {
    for (std::int64_t i = 0; i < rows; ++i) {
      values_[i] = random_floats(columns, seed + 1000 * static_cast<unsigned>(i));
      own_.push_back(std::make_unique<Guarded<float>>(values_[i]));
      read.push_back(own_.back()->data());
      written.push_back(own_.back()->data());
    }
  }
  // The numbers that the matrix began with.
  double first(std::int64_t row, std::int64_t column) const { return values_[row][column]; }

  std::vector<const float*> read;
  std::vector<float*> written;

 private:
  std::vector<std::vector<float>> values_;
  std::vector<std::unique_ptr<Guarded<float>>> own_;
};

// Returns the error of start + sum_k x[k] w(k), as a multiple of what its roundings allow.
template <class Weight>
double error_of(float found, double start, const Rows& x, std::int64_t row, std::int64_t k,
                Weight w) {
  double sum = start, size = std::fabs(start);
  for (std::int64_t i = 0; i < k; ++i) {
    const double term = x.first(row, i) * w(i);
    sum += term;
    size += std::fabs(term);
  }
  // A rounding for each term, one for its product where there is no fma, and those of the blocks.
  return std::fabs(found - sum) / ((2.0 * static_cast<double>(k) + 4) * 0x1p-24 * size);
}

void check_rows_of_outputs(const KernelTable& table, std::int64_t rows, std::int64_t outputs,
                           std::int64_t k) {
  CAPTURE(rows);
  CAPTURE(outputs);
  CAPTURE(k);
  const Rows x(rows, k, 1), weights(outputs, k, 2);
  const Rows sums(rows, outputs, 3);
  // The outputs of some panels alone, and then the rest.
  const std::int64_t middle = outputs / 2 / table.lanes * table.lanes;
  for (const auto& [begin, end] :
       {std::pair{middle, outputs}, std::pair{std::int64_t{0}, middle}}) {
    table.unpacked({rows, k, x.read.data(), sums.written.data(), weights.read.data(), begin, end});
  }
  double worst = 0;
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t n = 0; n < outputs; ++n) {
      worst = std::max(worst, error_of(sums.read[r][n], sums.first(r, n), x, r, k,
                                       [&](std::int64_t i) { return weights.first(n, i); }));
    }
  }
  CHECK(worst <= 1);
}

TEST_CASE("rows of weights: every number of rows, and every rest of k") {
  for_each_isa([](const KernelTable& table) {
    for (const std::int64_t rows : {1, 2, 3, 5, 8}) {
      for (const std::int64_t k : {1, 3, 4, 7, 8, 15, 16, 17, 31, 48, 255, 256, 257, 300, 531}) {
        check_rows_of_outputs(table, rows, 5 * table.lanes, k);
      }
    }
  });
}

TEST_CASE("rows of so many weights that they are fetched ahead") {
  for_each_isa([](const KernelTable& table) {
    for (const std::int64_t k : {1100, 1104}) check_rows_of_outputs(table, 1, 1952, k);
    check_rows_of_outputs(table, 3, 1952, 1101);
  });
}

TEST_CASE("columns of weights: every number of rows and columns, with and without a residual") {
  for_each_isa([](const KernelTable& table) {
    for (const std::int64_t columns : {1, 5, 16, 17, 48, 63, 384, 385, 400, 801}) {
      for (const std::int64_t k : {1, 7, 8, 9, 64, 256, 257, 300}) {
        const Rows weights(k, columns, 4);
        const Linear linear = Linear::unpacked(table, columns, weights.read);
        for (const std::int64_t rows : {1, 2, 3, 4, 7}) {
          CAPTURE(columns);
          CAPTURE(k);
          CAPTURE(rows);
          const Rows x(rows, k, 5), residual(rows, columns, 6);
          for (const bool adds : {false, true}) {
            const Rows out(rows, columns, 7);
            LinearArgs a = linear.args();
            a.rows = rows;
            a.x = x.read.data();
            a.out = out.written.data();
            a.residual = adds ? residual.read.data() : nullptr;
            // From the last panel to the first, one at a time.
            for (std::int64_t panel = linear.packed().panels(); panel-- > 0;) {
              a.panel_begin = panel;
              a.panel_end = panel + 1;
              table.of(Dtype::float32).linear(a);
            }
            double worst = 0;
            for (std::int64_t r = 0; r < rows; ++r) {
              for (std::int64_t n = 0; n < columns; ++n) {
                worst = std::max(worst,
                                 error_of(out.read[r][n], adds ? residual.first(r, n) : 0, x, r, k,
                                          [&](std::int64_t i) { return weights.first(i, n); }));
              }
            }
            CHECK(worst <= 1);
          }
        }
      }
    }
  });
}

}  // namespace
}  // namespace treadle

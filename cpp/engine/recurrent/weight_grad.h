// The gradients of weights, biases and peepholes are sums over time and batch, cut into tasks.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/recurrent/backward_buffers.h"
#include "engine/schedule/team.h"
#include "kernels/table.h"

namespace treadle {

class WeightGrad {
 public:
  // The call outlives this object. The stages before this one may fill the call's rows later.
  explicit WeightGrad(const BackwardCall& call);

  // Runs as one phase of a team. Returns false when the computation is to end.
  bool run(Team::Member& member) const;
  // One thread calls this after `run`, which sums only one of two biases with the same gradient.
  void copy_biases() const;

 private:
  using Rows = std::vector<const float*>;

  void list_products();
  void list_sums();
  // Lists the tasks of out [rows, columns], the products of `a` from `offset` on with `b`.
  void cut(const Rows& a, std::int64_t offset, std::int64_t rows, const Rows& b,
           std::int64_t columns, float* out);
  // Lists the tasks of out [H], the sum of a gate's pre-activations, times `b` unless that is null.
  void sum(std::int64_t offset, std::int64_t size, float* out, const Rows* b = nullptr);
  void add_products(Team::Member& member, OuterArgs a) const;
  void add_rows(Team::Member& member, SumArgs a) const;

  const KernelTable& table_;
  const CellShape& shape_;
  const std::int64_t width_, count_;  // floats of a term's row, and the number of terms
  const BackwardPass& p_;
  // The rows of the operands, for each term.
  const Rows& da_;
  Rows x_, h_, c_old_, c_new_, dp_, hidden_;
  std::vector<OuterArgs> products_;
  std::vector<SumArgs> sums_;
};

}  // namespace treadle

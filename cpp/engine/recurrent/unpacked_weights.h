// UnpackedWeights are the weights of a cell where their owner keeps them, row-major. A step reads
// them as they are then, so that nothing has to notice that they have changed. A step of a row or
// two takes no longer than with packed weights if these come from L3 or memory.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/product/packed_weights.h"
#include "engine/recurrent/cell_shape.h"
#include "kernels/table.h"

namespace treadle {

class UnpackedWeights {
 public:
  // The weights are float32 and outlive this object; a GRU resets after the product, and there are
  // no peepholes. `main` and `projection` are the layouts of the cell's sums.
  UnpackedWeights(const KernelTable& table, const CellShape& shape, const CellWeights& weights,
                  const PackedWeights& main, const PackedWeights& projection);

  // The products have the panels of `part`, and sums in the layout of the packed products.
  // This sets the sums to the biases and adds W x.
  void input_part(std::int64_t rows, const float* const* x, float* const* sums,
                  PanelShare part) const;
  // Adds R h. The state part of a GRU's candidate goes to `hidden`, [panels][lanes] for each row,
  // and begins with b_hn.
  void state_part(std::int64_t rows, const float* const* h, float* const* sums,
                  float* const* hidden, PanelShare part) const;
  // out = W_hr x; the sums are a buffer.
  void project(std::int64_t rows, const float* const* x, float* const* sums, float* const* out,
               PanelShare part) const;

  // Return how many floats a row of `sums` and one of `hidden` needs.
  std::int64_t sums() const;
  std::int64_t hidden() const { return main_.panels * lanes_; }

 private:
  // The panels of a product.
  struct Layout {
    std::int64_t panels, width, sums;  // a panel but the last has `width` sums
    explicit Layout(const PackedWeights& packed, int lanes)
        : panels(packed.panels()), width(packed.vectors() * lanes), sums(packed.sums()) {}
    std::int64_t begin(PanelShare part) const { return part.begin(panels) * width; }
    std::int64_t end(PanelShare part) const {
      return part.end(panels) == panels ? sums : part.end(panels) * width;
    }
  };
  void exchange_candidates(float* sums, float* hidden, PanelShare part) const;

  const KernelTable* table_;
  CellShape shape_;
  const float *bias_ih_, *bias_hh_;
  int lanes_, shared_vectors_;
  Layout main_, projected_;
  std::vector<std::int64_t> outputs_;                  // of the sums; -1 for padding
  std::vector<const float*> input_, state_, project_;  // a row of weights for each of the sums
};

}  // namespace treadle

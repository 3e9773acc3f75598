// The translation unit of level amx, which leaves to avx512_bf16 all that tiles do not improve.
#include "kernels/table.h"
#include "kernels/tile_products.h"
#include "kernels/tile_proof.h"

#define TREADLE_STRING(x) TREADLE_STRING_(x)
#define TREADLE_STRING_(x) #x

namespace treadle::TREADLE_ISA {

template <class Format>
void fill_products(KernelTable& t) {
  ProductKernels& p = t.products[static_cast<int>(Format::kDtype)];
  below[static_cast<int>(Format::kDtype)] = p;
  p.isa = TREADLE_STRING(TREADLE_ISA);
  p.linear = tile_linear<Format>;
  p.rnn_step = tile_rnn_step<Format>;
  p.lstm_step = tile_lstm_step<Format>;
  p.gru_step = tile_gru_step<Format>;
  p.gru_gates = tile_gru_gates<Format>;
  p.gru_candidate = tile_gru_candidate<Format>;
  p.multiply_loop = tile_multiply_loop<Format>;
  p.round_flops = kTileRoundFlops<Format>;
}

// Leaves the table as it is where the machine's tiles fail the proof.
void fill(KernelTable& t) {
  KernelTable better = t;
  better.isa = TREADLE_STRING(TREADLE_ISA);
  fill_products<BFloat16>(better);
  fill_products<Int8>(better);
  if (proved<BFloat16>() && proved<Int8>()) t = better;
}

}  // namespace treadle::TREADLE_ISA

// The one translation unit of an ISA level: compiled once per level by cmake/Isa.cmake.
//
// A level that adds instructions for a format or two overrides their products and no more.
#if defined(TREADLE_ISA_avx512_bf16) || defined(TREADLE_ISA_neon_dotprod)
#define TREADLE_FORMATS_ONLY
#endif
#if defined(TREADLE_ISA_neon_dotprod) && !defined(TREADLE_ISA_neon_bf16)
#define TREADLE_INT8_ONLY
#endif

#if !defined(TREADLE_INT8_ONLY)
#include "kernels/attention.h"
#endif
#include "kernels/epilogue_gru.h"
#include "kernels/epilogue_lstm.h"
#include "kernels/epilogue_rnn.h"
#include "kernels/linear.h"
#include "kernels/machine.h"
#if !defined(TREADLE_FORMATS_ONLY)
#include "kernels/attention_backward.h"
#include "kernels/attention_chunk.h"
#include "kernels/best.h"
#include "kernels/depthwise.h"
#include "kernels/elementwise.h"
#include "kernels/gru_backward.h"
#include "kernels/lstm_backward.h"
#include "kernels/outer.h"
#include "kernels/planes.h"
#include "kernels/pool.h"
#include "kernels/rnn_backward.h"
#include "kernels/rows.h"
#include "kernels/transpose.h"
#include "kernels/unpacked.h"
#endif

#define TREADLE_STRING(x) TREADLE_STRING_(x)
#define TREADLE_STRING_(x) #x

namespace treadle::TREADLE_ISA {

template <class Format>
void fill_products(KernelTable& t) {
  ProductKernels& p = t.products[static_cast<int>(Format::kDtype)];
  p.isa = TREADLE_STRING(TREADLE_ISA);
  if constexpr (Format::kDtype != Dtype::float32) p.encode = encode<Format>;
  p.linear = linear<Format>;
  p.rnn_step = rnn_step<Format>;
  p.lstm_step = lstm_step<Format>;
  p.gru_step = gru_step<Format>;
  p.gru_gates = gru_gates<Format>;
  p.gru_candidate = gru_candidate<Format>;
#if !defined(TREADLE_INT8_ONLY)
  if constexpr (Format::kDtype != Dtype::int8) {
    p.attention = attention<Format>;
    p.pack_keys = pack_keys<Format>;
    p.pack_values = pack_values<Format>;
  }
#endif
  p.multiply_loop = multiply_loop<Format>;
  p.round_flops = kRoundFlops<Format>;
  p.rnn_chain = rnn_chain<Format>;
  p.lstm_chain = lstm_chain<Format>;
  p.gru_chain = gru_chain<Format>;
}

#if !defined(TREADLE_FORMATS_ONLY)
template <class T>
void fill_stored(KernelTable& t, Dtype dtype) {
  ProductKernels& p = t.products[static_cast<int>(dtype)];
  p.attention_chunk = attention_chunk<T>;
  p.decode = decode<T>;
}
#endif

void fill(KernelTable& t) {
  t.isa = TREADLE_STRING(TREADLE_ISA);
  static_assert(kLanes <= kMostLanes);
  t.lanes = kLanes;
  t.narrow_columns = kNarrowColumns;
#if !defined(TREADLE_INT8_ONLY)
  fill_products<BFloat16>(t);
#endif
#if !defined(TREADLE_ISA_neon_bf16)  // neon_i8mm has those of int8
  fill_products<Int8>(t);
#endif
  t.apply = apply;
  t.read_loop = read_loop;
#if !defined(TREADLE_FORMATS_ONLY)  // the levels below have all else
  fill_products<Float32>(t);
  t.rnn_backward = rnn_backward;
  t.lstm_backward = lstm_backward;
  t.gru_backward = gru_backward;
  t.gru_backward_gates = gru_backward_gates;
  t.gru_backward_reset = gru_backward_reset;
  t.outer = outer;
  t.sum_rows = sum_rows;
  fill_stored<float>(t, Dtype::float32);
  fill_stored<std::uint16_t>(t, Dtype::bfloat16);
  fill_stored<std::int8_t>(t, Dtype::int8);
  t.attention_join = attention_join;
  t.attention_backward = attention_backward;
  t.row_dots = row_dots;
  t.is_finite = is_finite;
  t.transpose = transpose_matrix;
  t.unpacked = unpacked;
  t.layer_norm = layer_norm;
  t.rms_norm = rms_norm;
  t.softmax = softmax;
  t.log_softmax = log_softmax;
  t.rotate = rotate;
  t.best = best;
  t.unary = unary;
  t.binary = binary;
  t.scale_rows = scale_rows;
  t.column_sums = column_sums;
  t.row_sum = row_sum_of;
  t.planes = planes;
  t.depthwise_row = depthwise_row;
  t.max_pool_row = max_pool_row;
  t.average_pool_row = average_pool_row;
  t.blend_pixels = blend_pixels;
#endif
}

}  // namespace treadle::TREADLE_ISA

// Every kernel's signature and contract. A KernelTable is filled by `portable` and then overridden
// by each higher ISA level that the CPU has; block sizes travel with the kernels that expect them.
//
// Packed weights. The outputs of a product are cut into panels of `vectors` x `lanes` columns,
// stored k-major: panel p, step k, vector v, lane l at
//
//     weights[((p * depth + k) * vectors + v) * lanes + l]
//
// `depth` counts the rows of all the operands that a panel multiplies one after another (input,
// then state), so that a single time step reads one contiguous stream. In a gated cell the vectors
// of a panel are the gates of the same `lanes` hidden units. Columns beyond the last output are
// zero. Where the outputs are not gated, the last panel may have fewer vectors and is stored
// without the others. The same holds for the last panel of lstm_step and gru_step where at most
// half a vector of units is left over: its gates share one or two vectors, gate g in the columns [g
// * width, (g + 1) * width) of them, width = vectors * lanes / kSharedGates.
//
// Formats. The above is float32; in general a step takes a word of 32 bits of every output, that is
// one float32, two bfloat16 or four int8 that follow each other along k (the first in the low
// bits), and the rows of x and h are words, too: what `encode` makes of floats. A last word is
// filled up with zeros. int8 is cut along k in blocks of kSumBlock:
//
//     weights   a block is its words, then two steps of float32: the scales, w = scale * integer
//               with integers -128 to 127, and the sums of the block's integers
//     rows      a block is a scale and a zero (float32), then its words of integers, 0 to 255 or
//               (NEON) -128 to 127: x = scale * (integer - zero); zero is an integer
//
// so that sum x w = scale_x scale_w (sum of the integers' products - zero * sum of w's integers),
// the second sum being the one stored. The parenthesis is exact.
//
// Rows are reached through arrays of row pointers, so that strides, batch_first, reversed time and
// ragged batches cost no copy and no second code path. No kernel reads or writes past the last
// float of a row. Every output element is accumulated over k upwards by one thread, whatever the
// number of rows: results do not depend on the batch.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/attention_args.h"
#include "kernels/elementwise_args.h"
#include "kernels/row_args.h"
#include "kernels/spatial_args.h"
#include "kernels/words.h"

namespace treadle {

constexpr int kSharedGates = 4;  // room for so many in a shared panel; GRU leaves one empty

// Returns how many vectors the gates share in a last panel; 0 if `units` leaves too many or none.
constexpr int shared_vectors(std::int64_t units, int lanes) {
  const int left = static_cast<int>(units % lanes);
  return left == 0 || 2 * left > lanes ? 0 : 4 * left > lanes ? 2 : 1;
}

// The activations of the ONNX recurrent operators, with the meaning of alpha and beta there.
enum class ActivationFunction : int {
  linear,
  tanh,
  sigmoid,
  relu,
  hard_sigmoid,      // max(0, min(1, alpha x + beta))
  softsign,          // x / (1 + |x|)
  softplus,          // log(1 + e^x)
  elu,               // x >= 0 ? x : alpha (e^x - 1)
  leaky_relu,        // x >= 0 ? x : alpha x
  affine,            // alpha x + beta
  thresholded_relu,  // x > alpha ? x : 0
  scaled_tanh,       // alpha tanh(beta x)
  exp,
  log1p,  // log(1 + x) for x in [0, 1]
  erf,
  gelu,        // x Phi(x)
  gelu_tanh,   // the approximation of gelu by tanh
  silu,        // x sigmoid(x)
  hard_swish,  // x max(0, min(1, x / 6 + 1 / 2))
  clip,        // max(alpha, min(beta, x)); relu6 has 0 and 6
};

struct Activation {
  ActivationFunction function;
  float alpha, beta;
};

struct CellOptions {
  Activation f;       // applied to the gates
  Activation g;       // applied to the candidate; an RNN uses no other
  Activation h;       // applied to the LSTM's new cell: out = o h(c)
  float clip;         // > 0: pre-activations are clipped to [-clip, clip]
  bool input_forget;  // LSTM: f = 1 - i
  // LSTM: [panels][i, f, o][lanes], or null. i and f see the old c, o sees the new one.
  const float* peepholes;
};

// These kinds have their activations inlined and their gates saved after activation. Any other
// function, and clipping, takes the general path, which saves what enters the activations.
enum class RnnKind { tanh, relu, general };
inline RnnKind rnn_kind(const CellOptions& o) {
  if (o.clip > 0) return RnnKind::general;
  return o.g.function == ActivationFunction::tanh   ? RnnKind::tanh
         : o.g.function == ActivationFunction::relu ? RnnKind::relu
                                                    : RnnKind::general;
}
// The kind of an LSTM is the function of its candidate and of its new cell.
enum class LstmKind { tanh, relu, general };
inline LstmKind lstm_kind(const CellOptions& o) {
  if (o.f.function != ActivationFunction::sigmoid || o.g.function != o.h.function || o.clip > 0 ||
      o.input_forget || o.peepholes) {
    return LstmKind::general;
  }
  return o.g.function == ActivationFunction::tanh   ? LstmKind::tanh
         : o.g.function == ActivationFunction::relu ? LstmKind::relu
                                                    : LstmKind::general;
}
inline bool standard_gru(const CellOptions& o) {
  return o.f.function == ActivationFunction::sigmoid && o.g.function == ActivationFunction::tanh &&
         !(o.clip > 0);
}

// out[m, n] = f(bias[n] + sum_t sum_k x[t, m, k] w[n, t, k]) factor[m, n] + residual[m, n]
// or, with residual_first, f of all of it.
//
// A plain product has one tap t. A convolution has several: x[t, m] is what tap t of output m
// reads, wherever that lies.
struct LinearArgs {
  std::int64_t rows;
  const Word* const* x;  // [taps][rows] of row_words(K), from x_offset on
  float* const* out;     // [rows] of `columns` floats, from out_offset on
  std::int64_t out_offset;
  std::int64_t columns;  // N; or the padded panels * vectors * lanes, to keep the panel layout
  std::int64_t k;
  const Word* weights;
  std::int64_t panel_stride;  // words from one panel to the next
  const float* bias;          // [panels][vectors][lanes], or null
  const Activation* f;        // null applies none
  // [rows] of N floats, or null; without f a row may be that of `out`. It needs out_offset = 0.
  const float* const* residual;
  int vectors;  // every panel has so many, but perhaps the last
  std::int64_t panel_begin, panel_end;
  const Word* next;  // weights that are needed after these panels, or null
  std::int64_t taps = 1;
  std::int64_t tap_stride = 0;  // row pointers from one tap to the next
  // Where a tap has at most kSumBlock terms, so many taps are summed by themselves as one block.
  std::int64_t tap_block = 1;
  std::int64_t x_offset = 0;
  // [rows] of sums to go on from in place of the bias, in panel layout from start_offset on, or
  // null.
  const float* const* start = nullptr;
  std::int64_t start_offset = 0;
  bool residual_first = false;
  const float* const* factor = nullptr;  // [rows] of N floats, or null; without residual_first
  // float32: [k] rows of `columns` weights, W transposed, which are not packed and replace
  // `weights`; or null. There is no bias, f or start, and one tap.
  const float* const* unpacked = nullptr;
};

// sums[m, n] += sum_k x[m, k] w[n, k], with weights that are not packed, for the outputs [begin,
// end). The numbers are added in the order of a product with packed weights.
struct UnpackedArgs {
  std::int64_t rows, k;
  const float* const* x;        // [rows] of k floats
  float* const* sums;           // [rows] of `end` floats
  const float* const* weights;  // [end] rows of k floats, one for each output
  std::int64_t begin, end;      // multiples of `lanes`
};
constexpr std::int64_t kUnpackedStrip = 384;  // columns that `linear` takes at once if unpacked

// One time step of a cell: out = cell(x, h, c), over the panels [panel_begin, panel_end).
struct StepArgs {
  std::int64_t rows;
  const Word* const* x;         // [rows] of row_words(I); null where `partial` has the input part
  const float* const* partial;  // [rows] of panels * vectors * lanes: bias + W x, in panel layout,
  std::int64_t partial_offset;  // where this begins in a row
  const Word* const* h;         // [rows] of the previous state, row_words(P)
  const float* const* blend;    // GRU: [rows] of H floats of the previous state; LSTM: null
  float* const* c;              // [rows] of H floats: lstm_step updates its cell in place;
                                // gru_gates writes z here, gru_candidate reads it
  float* const* out;            // [rows] of H floats; never overlaps x, h or blend of any row
  std::int64_t input_size, state_size, hidden_size;  // I, P, H
  const Word* weights;
  std::int64_t panel_stride;
  const float* bias;         // [panels][vectors][lanes]
  const float* bias_hidden;  // gru_step: b_hn [panels][lanes]
  const CellOptions* options;
  std::int64_t panel_begin, panel_end;
  bool descending;  // takes the panels from the last to the first
  // [rows] for the backward pass, or null. A row has parts of H floats, in the order of
  // BackwardArgs::out. lstm_step saves i, f, g, o; gru_step n, r, z and the state part of n;
  // gru_gates r, z and gru_candidate n, all before activation, in the places that gru_step uses.
  // rnn_step saves what enters the activation, and nothing where the output tells the slope.
  float* const* saved;
  float* const* saved_c;  // lstm_step: [rows] of H floats for the new c, too, or null
};

// A backward step turns the gradients of the next step's pre-activations and of the output into
// those of this step's pre-activations, over panels of hidden units. The sums are
//
//     d[u] = sum_k next[k] w[k, u] + dy[u] + carry[u]
//
// d is the gradient of the unprojected output in rnn_backward, lstm_backward and gru_backward, and
// in gru_backward_gates, which serves the reset before the product. It leaves the reset gate to
// gru_backward_reset, whose d is the gradient of r h.
struct BackwardArgs {
  std::int64_t rows;
  const float* const* next;     // [rows] of `depth` floats; null leaves the product out
  const float* const* product;  // [rows] of H floats, the sums over k, if they are known; or null
  const float* const* dy;       // [rows] of H floats, or null
  const float* const* carry;    // [rows] of H floats, or null
  // [rows] as in StepArgs; rnn_backward takes the output unless general. May be the row of `out`.
  const float* const* saved;
  const float* const* old;  // [rows] of H floats, before the step: LSTM's c, GRU's h; null in RNN
  const float* const* c;    // LSTM: [rows] of H floats, c after the step; else null
  float* const* dc;         // LSTM: [rows] of H floats, the gradient of c, updated in place
  float* const* keep;       // GRU: [rows] of H floats that the step before gets besides a product;
                            // a row may be that of `carry`
  float* const* hidden;     // LSTM: [rows] of H floats, the unprojected output, or null
  // [rows] of H (RNN), of i, f, g, o (LSTM), of n, r, z and, if reset after, n's state part (GRU).
  float* const* out;
  std::int64_t hidden_size, depth;
  const float* weights;  // they lead from [depth] to [H], in plain panels of kBackwardVectors
  std::int64_t panel_stride;
  const CellOptions* options;
  std::int64_t panel_begin, panel_end;
};
constexpr int kBackwardVectors = 4;

// out[n, i] += sum_k a[k, n] b[k, i] for the rows [row_begin, row_end) and the columns
// [column_begin, column_end). k goes up in blocks of so many terms, each summed by itself and then
// added.
constexpr std::int64_t kOuterTerms = 256;
struct OuterArgs {
  std::int64_t terms;
  const float* const* a;  // [terms], from a_offset on
  std::int64_t a_offset;
  const float* const* b;  // [terms] of at least column_end floats
  float* out;
  std::int64_t out_stride;
  std::int64_t row_begin, row_end, column_begin, column_end;
  bool fresh;  // `out` has no numbers yet: what would be added to zeros is stored
};

// out[n] += sum_k a[k, n] b[k, n], without the factor b where it is null, in the same blocks.
struct SumArgs {
  std::int64_t terms;
  const float* const* a;  // [terms], from a_offset on
  std::int64_t a_offset;
  const float* const* b;  // [terms], or null
  std::int64_t size;
  float* out;
};

// out[r] = a[r] . b[r]
struct DotArgs {
  std::int64_t rows, size;
  const float* const* a;  // [rows] of `size` floats
  const float* const* b;
  float* out;
};

// `encode` writes rows of floats as words of a format, `stride` words apart.
struct EncodeArgs {
  std::int64_t rows, size;
  const float* const* x;  // [rows] of `size` floats
  Word* out;
  std::int64_t stride;
};

// The kernels of products with weights of one format.
struct ProductKernels {
  const char* isa;                    // the level that the kernels come from
  void (*encode)(const EncodeArgs&);  // null in float32, whose words are the floats
  void (*linear)(const LinearArgs&);
  void (*rnn_step)(const StepArgs&);       // out = g(W x + R h + b)
  void (*lstm_step)(const StepArgs&);      // gates i, f, g, o
  void (*gru_step)(const StepArgs&);       // gates r, z, n; n = g(W x + b + r (R h + b_hn))
  void (*gru_gates)(const StepArgs&);      // reset before the product: out = r h, c = z
  void (*gru_candidate)(const StepArgs&);  // n = g(W x + b + R h), h being r h; out = blend(n)
  // It serves many queries; null in int8, whose rounding would spoil attention probabilities.
  void (*attention)(const AttentionArgs&);
  void (*pack_keys)(const PackArgs&);
  void (*pack_values)(const PackArgs&);
  // attention_chunk and decode read keys and values in float32, bfloat16, or int8 with row scales.
  void (*attention_chunk)(const AttentionArgs&);  // takes a few queries and a chunk of the keys
  void (*decode)(const DecodeArgs&);
  // It multiplies at the machine's limit, round_flops a round; its result keeps the work alive.
  float (*multiply_loop)(std::int64_t rounds);
  int round_flops;
  // They go through the chain of operations of which each waits for the one before, in so many
  // steps of one vector of units: h is loaded, multiplied and activated, and the new h is stored.
  float (*rnn_chain)(const CellOptions&, std::int64_t steps);
  float (*lstm_chain)(const CellOptions&, std::int64_t steps);
  float (*gru_chain)(const CellOptions&, std::int64_t steps);
};

struct KernelTable {
  const char* isa;
  int lanes;
  // float32: `linear` takes rows as lanes where a product has at most so many columns.
  std::int64_t narrow_columns;
  ProductKernels products[kDtypes];
  const ProductKernels& of(Dtype dtype) const { return products[static_cast<int>(dtype)]; }
  void (*rnn_backward)(const BackwardArgs&);
  void (*lstm_backward)(const BackwardArgs&);
  void (*gru_backward)(const BackwardArgs&);
  void (*gru_backward_gates)(const BackwardArgs&);
  void (*gru_backward_reset)(const BackwardArgs&);
  void (*outer)(const OuterArgs&);
  void (*sum_rows)(const SumArgs&);
  void (*attention_join)(const JoinArgs&);
  void (*attention_backward)(const AttentionBackwardArgs&);
  void (*row_dots)(const DotArgs&);
  bool (*is_finite)(const FiniteArgs&);
  void (*transpose)(const TransposeArgs&);
  void (*unpacked)(const UnpackedArgs&);
  void (*layer_norm)(const RowArgs&);
  void (*rms_norm)(const RowArgs&);
  void (*softmax)(const RowArgs&);
  void (*log_softmax)(const RowArgs&);
  void (*rotate)(const RotateArgs&);
  void (*best)(const BestArgs&);
  // y[i] = f(x[i]); y may be x.
  void (*apply)(Activation f, const float* x, float* y, std::int64_t n);
  void (*unary)(UnaryFunction f, const float* x, float* y, std::int64_t n);  // as apply
  void (*binary)(const BinaryArgs&);
  void (*scale_rows)(const ScaleArgs&);
  void (*column_sums)(const ColumnSumArgs&);
  // Returns sum_i x[i], or sum_i (x[i] - mean)^2 if `squares` is true.
  double (*row_sum)(const float* x, std::int64_t n, float mean, bool squares);
  void (*planes)(const PlanesArgs&);
  void (*depthwise_row)(const DepthwiseArgs&);
  void (*max_pool_row)(const PoolArgs&);
  void (*average_pool_row)(const PoolArgs&);
  void (*blend_pixels)(const BlendArgs&);
  // It reads memory at the machine's limit; its result keeps the work alive.
  float (*read_loop)(const float* p, std::int64_t floats);  // floats: a multiple of 1024
};

}  // namespace treadle

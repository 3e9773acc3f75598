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
//     rows      a block is a scale and a zero (float32), then its words of integers 0 to 255:
//               x = scale * (integer - zero); zero is an integer
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

namespace treadle {

// 32 bits of a row or of weights, as float32 whatever they mean.
using Word = float;
enum class Dtype { float32, bfloat16, int8 };
constexpr int kDtypes = 3;

// The rounding errors of a long sum grow with its partial sums. It is cut into blocks of so many
// terms, each summed by itself, and the blocks are added up: at K = 1024 half of the error, for
// half a percent of the time. The blocks depend on k alone, like everything that decides about
// bits.
constexpr std::int64_t kSumBlock = 256;

constexpr int kMostLanes = 16;  // no ISA has more

// Returns how many numbers a word holds.
constexpr int per_word(Dtype dtype) {
  return dtype == Dtype::float32 ? 1 : dtype == Dtype::bfloat16 ? 2 : 4;
}
constexpr std::int64_t words(Dtype dtype, std::int64_t K) {
  return (K + per_word(dtype) - 1) / per_word(dtype);
}
constexpr std::int64_t sum_blocks(std::int64_t K) { return (K + kSumBlock - 1) / kSumBlock; }
// Returns a row's words, or a panel's steps, for K numbers; int8 has two more in each block.
constexpr std::int64_t row_words(Dtype dtype, std::int64_t K) {
  return words(dtype, K) + (dtype == Dtype::int8 ? 2 * sum_blocks(K) : 0);
}

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
  log1p,  // of x in [0, 1]
  erf,
  gelu,       // x Phi(x)
  gelu_tanh,  // its approximation by tanh
  silu,       // x sigmoid(x)
};

struct Activation {
  ActivationFunction function;
  float alpha, beta;
};

struct CellOptions {
  Activation f;       // gates
  Activation g;       // candidate; the only one of an RNN
  Activation h;       // LSTM output
  float clip;         // > 0: pre-activations are clipped to [-clip, clip]
  bool input_forget;  // LSTM: f = 1 - i
  // LSTM: [panels][i, f, o][lanes], or null. i and f see the old c, o sees the new one.
  const float* peepholes;
};

// The cells whose activations are inlined, and whose gates are saved after activation. Any other,
// or clipping, takes a general path, which saves what enters the activations.
enum class RnnKind { tanh, relu, general };
inline RnnKind rnn_kind(const CellOptions& o) {
  if (o.clip > 0) return RnnKind::general;
  return o.g.function == ActivationFunction::tanh   ? RnnKind::tanh
         : o.g.function == ActivationFunction::relu ? RnnKind::relu
                                                    : RnnKind::general;
}
inline bool standard_lstm(const CellOptions& o) {
  return o.f.function == ActivationFunction::sigmoid && o.g.function == ActivationFunction::tanh &&
         o.h.function == ActivationFunction::tanh && !(o.clip > 0) && !o.input_forget &&
         !o.peepholes;
}
inline bool standard_gru(const CellOptions& o) {
  return o.f.function == ActivationFunction::sigmoid && o.g.function == ActivationFunction::tanh &&
         !(o.clip > 0);
}

// out[m, n] = f(bias[n] + sum_k x[m, k] w[n, k]) + residual[m, n]
struct LinearArgs {
  std::int64_t rows;
  const Word* const* x;  // [rows] of row_words(K)
  float* const* out;     // [rows] of `columns` floats, from out_offset on
  std::int64_t out_offset;
  std::int64_t columns;  // N; or the padded panels * vectors * lanes, to keep the panel layout
  std::int64_t k;
  const Word* weights;
  std::int64_t panel_stride;  // words from one panel to the next
  const float* bias;          // [panels][vectors][lanes], or null
  const Activation* f;        // or null
  // [rows] of N floats, or null; without f a row may be the row of `out`. Only with out_offset = 0.
  const float* const* residual;
  int vectors;  // of every panel but perhaps the last
  std::int64_t panel_begin, panel_end;
  const Word* next;  // weights that are needed after these panels, or null
};

// One time step of a cell: out = cell(x, h, c), over the panels [panel_begin, panel_end).
struct StepArgs {
  std::int64_t rows;
  const Word* const* x;         // [rows] of row_words(I); null where `partial` has the input part
  const float* const* partial;  // [rows] of panels * vectors * lanes: bias + W x, in panel layout,
  std::int64_t partial_offset;  // from here on
  const Word* const* h;         // [rows] of the previous state, row_words(P)
  const float* const* blend;    // GRU: [rows] of H floats of the previous state; LSTM: null
  float* const* c;              // [rows] of H floats: LSTM's cell, in place; gru_gates: z out;
                                // gru_candidate: z in
  float* const* out;            // [rows] of H floats; never overlaps x, h or blend of any row
  std::int64_t input_size, state_size, hidden_size;  // I, P, H
  const Word* weights;
  std::int64_t panel_stride;
  const float* bias;         // [panels][vectors][lanes]
  const float* bias_hidden;  // gru_step: b_hn [panels][lanes]
  const CellOptions* options;
  std::int64_t panel_begin, panel_end;
  // [rows] for the backward pass, or null. A row has parts of H floats, in the order of
  // BackwardArgs::out. lstm_step saves i, f, g, o; gru_step n, r, z and the state part of n;
  // gru_gates r, z and gru_candidate n, all before activation, in the places that gru_step uses.
  // rnn_step saves what enters the activation, and nothing where the output tells the slope.
  float* const* saved;
  float* const* saved_c;  // lstm_step: [rows] of H floats for the new c, too, or null
};

// One time step back: from the gradients of the next step's pre-activations, and of the output, to
// those of this step's pre-activations, over panels of hidden units. The sums are
//
//     d[u] = sum_k next[k] w[k, u] + dy[u] + carry[u]
//
// rnn_backward, lstm_backward, gru_backward: d is the gradient of the unprojected output.
// gru_backward_gates: the same for the reset before the product; leaves the reset gate to
// gru_backward_reset, whose d is the gradient of r h.
struct BackwardArgs {
  std::int64_t rows;
  const float* const* next;   // [rows] of `depth` floats; null: no product
  const float* const* dy;     // [rows] of H floats, or null
  const float* const* carry;  // [rows] of H floats, or null
  // [rows] as in StepArgs, rnn_backward unless general: the output. May be the row of `out`.
  const float* const* saved;
  const float* const* old;  // [rows] of H floats: LSTM's c, GRU's h before the step; RNN: null
  const float* const* c;    // LSTM: [rows] of H floats, c after the step; else null
  float* const* dc;         // LSTM: [rows] of H floats, gradient of c, in place
  float* const* keep;       // GRU: [rows] of H floats, what the step before gets beside a product;
                            // may be the row of `carry`
  float* const* hidden;     // LSTM: [rows] of H floats, the unprojected output, or null
  // [rows]. RNN: H. LSTM: i, f, g, o. GRU: n, r, z and, reset after, the state part of n.
  float* const* out;
  std::int64_t hidden_size, depth;
  const float* weights;  // [depth] to [H], plain panels of kBackwardVectors
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
};

// out[n] += sum_k a[k, n] (b[k, n]) in the same blocks.
struct SumArgs {
  std::int64_t terms;
  const float* const* a;  // [terms], from a_offset on
  std::int64_t a_offset;
  const float* const* b;  // [terms], or null
  std::int64_t size;
  float* out;
};

// Rows of a matrix, `stride` floats apart, laid out as the weights of a product (above) with
// `vectors` = kAttentionVectors, in its format. pack_keys: the rows are its columns, k counts along
// a row. pack_values: the rows are k, their floats the columns. A call takes the rows [begin, end);
// begin is a multiple of kPackRows.
constexpr int kAttentionVectors = 4;
constexpr std::int64_t kPackRows = 1024;
struct PackArgs {
  const float* from;
  std::int64_t rows, size, stride;
  Word* to;
  std::int64_t begin, end;
};

constexpr std::int64_t kMostHeadSize = 256;  // E, F
static_assert(kMostHeadSize <= kSumBlock);   // scores are one block
// attention_chunk takes at most so many at once.
constexpr std::int64_t kChunkQueries = 16, kChunkKeys = 256;

// Which attention probabilities are kept: those whose random number (dropout.h) is at least
// `threshold`, times `factor`.
struct Dropout {
  std::uint64_t seed;
  std::uint32_t threshold;  // 0: all of them
  float factor;
};

// out[i] = sum_j w[i, j] v[j], w[i] = softmax over the keys [begin, end) of row i of
//
//     cap(scale q[i] . k[j]) - slope |position - j| + mask[i, j],    cap(s) = c tanh(s / c)
//
// A row that sees no key, or only keys at -infinity, is zero.
struct AttentionArgs {
  std::int64_t rows;                        // queries
  const Word* const* q;                     // [rows] of row_words(E)
  float* const* out;                        // [rows] of F floats
  const std::int64_t* begin;                // [rows]
  const std::int64_t* end;                  // [rows]
  const std::int64_t* position;             // [rows], or null without ALiBi
  const float* slope;                       // [rows], or null without ALiBi
  const void* const* mask;                  // [rows] of `keys` bytes or floats, or null
  bool mask_adds;                           // floats to be added; else bytes, where 0 hides the key
  float scale, softcap;                     // softcap 0: none
  std::int64_t key_size, value_size, keys;  // E, F, K
  const Word *k, *v;                // packed; attention in float32 takes rows of v, too, if F
                                    // is whole vectors; v_stride 0: packed
  const void *stored_k, *stored_v;  // attention_chunk: rows as they are stored
  std::int64_t k_stride, v_stride;  // numbers from one row to the next
  const float *k_scale, *v_scale;   // attention_chunk: [keys], of rows in int8; else null
  const Dropout* dropout;           // of the probabilities, or null
  const std::int64_t* number;  // [rows] that dropout goes by; not attention_chunk, which has none
  std::int64_t first, last;    // attention_chunk: only these keys,
  float* partial;  // [rows][F + 2]: sums of w v, of w, and the maximum they are relative to
  float* const* probabilities;  // attention: [rows] of `keys` floats for w, or null
  float* const*
      lse;  // attention: [rows] of one float, log(sum of e^score), or null; -infinity where
            // no key is seen
};

// Rows of stored numbers, `stride` apart, as floats.
struct DecodeArgs {
  const void* from;
  std::int64_t rows, size, stride;
  const float* scale;  // [rows] of int8, or null
  float* to;           // [rows, size]
};

// attention_join: the results of `chunks` calls of attention_chunk as one, in their order.
struct JoinArgs {
  std::int64_t rows, chunks, value_size;
  const float* partial;  // [chunks][rows][F + 2]
  float* const* out;     // [rows] of F floats
  float* const* lse;     // [rows], as in AttentionArgs
};

// Back through the softmax of the keys [first, last) of an attention call, in place: from q k and
// the gradients of the probabilities, dp, to
//
//     w = e^(score - lse),    d(q k) = w (dp - dot) scale cap'(scale q k)
struct AttentionBackwardArgs {
  AttentionArgs call;       // q, k, v, out, partial and probabilities are not used
  const float* const* lse;  // [rows] of one float
  const float* dot;         // [rows]: the row of the output times its gradient
  float* const* scores;     // [rows] of last - first floats, in whole vectors: q k -> w
  float* const* d;          // [rows], the same: dp -> d(q k)
};
// attention_backward takes at most so many at once.
constexpr std::int64_t kBackwardKeys = 256;

// out[r] = a[r] . b[r]
struct DotArgs {
  std::int64_t rows, size;
  const float* const* a;  // [rows] of `size` floats
  const float* const* b;
  float* out;
};

// Rows of N floats; out may be x. layer_norm: (x + residual) to mean 0 and variance 1 (of N, with
// eps added), times weight, plus bias. softmax: a row of -infinity gives zeros.
struct RowArgs {
  std::int64_t rows, size;
  const float* x;
  std::int64_t x_stride;
  const float* residual;  // or null
  std::int64_t residual_stride;
  float* out;
  std::int64_t out_stride;
  const float *weight, *bias;  // [N], or null
  float eps;
};

// Rows of floats as words of a format, so many words apart.
struct EncodeArgs {
  std::int64_t rows, size;
  const float* const* x;  // [rows] of `size` floats
  Word* out;
  std::int64_t stride;
};

// The kernels of products with weights of one format.
struct ProductKernels {
  const char* isa;                    // the level that the kernels come from
  void (*encode)(const EncodeArgs&);  // float32: null, its words are the floats
  void (*linear)(const LinearArgs&);
  void (*rnn_step)(const StepArgs&);       // out = g(W x + R h + b)
  void (*lstm_step)(const StepArgs&);      // gates i, f, g, o
  void (*gru_step)(const StepArgs&);       // gates r, z, n; n = g(W x + b + r (R h + b_hn))
  void (*gru_gates)(const StepArgs&);      // reset before the product: out = r h, c = z
  void (*gru_candidate)(const StepArgs&);  // n = g(W x + b + R h), h being r h; out = blend(n)
  // For many queries; null in int8, whose rounding would spoil attention probabilities.
  void (*attention)(const AttentionArgs&);
  void (*pack_keys)(const PackArgs&);
  void (*pack_values)(const PackArgs&);
  // attention_chunk and decode read keys and values in float32, bfloat16, or int8 with row scales.
  void (*attention_chunk)(const AttentionArgs&);  // a few queries, a chunk of the keys
  void (*decode)(const DecodeArgs&);
  // The machine's limit of multiply-adds: round_flops a round. The number keeps the work alive.
  float (*multiply_loop)(std::int64_t rounds);
  int round_flops;
};

struct KernelTable {
  const char* isa;
  int lanes;
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
  void (*layer_norm)(const RowArgs&);
  void (*softmax)(const RowArgs&);
  // y[i] = f(x[i]); y may be x.
  void (*apply)(Activation f, const float* x, float* y, std::int64_t n);
  // The machine's limit of reading; the number keeps the work alive.
  float (*read_loop)(const float* p, std::int64_t floats);  // floats: a multiple of 1024
};

}  // namespace treadle

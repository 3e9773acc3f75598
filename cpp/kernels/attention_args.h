// The arguments and contracts of the attention kernels, a part of table.h.
#pragma once

#include <cstdint>

#include "kernels/words.h"

namespace treadle {

// The kernels lay out the rows of a matrix, `stride` floats apart, as the weights of a product
// (table.h) with `vectors` = kAttentionVectors, in its format. In pack_keys the rows are columns,
// and k counts along a row. In pack_values k counts the rows, whose floats are the columns. A call
// takes the rows [begin, end); begin is a multiple of kPackRows, or any row for the values of
// float32.
constexpr int kAttentionVectors = 4;
constexpr std::int64_t kPackRows = 1024;
struct PackArgs {
  const float* from;
  std::int64_t rows, size, stride;
  Word* to;
  std::int64_t begin, end;
};

constexpr std::int64_t kMostHeadSize = 256;      // neither E nor F is larger
constexpr std::int64_t kMostTokens = INT32_MAX;  // a sequence, its cache included, is no longer
static_assert(kMostHeadSize <= kSumBlock);       // so that a score is one block of a sum
// attention_chunk takes at most so many at once.
constexpr std::int64_t kChunkQueries = 16, kChunkKeys = 256;
// attention takes so many rows at once, and needs so many floats of scratch memory. attention_chunk
// needs room for the scores of its rows and of one more.
constexpr std::int64_t kAttentionRows = 48;
constexpr std::int64_t kAttentionScratch = kAttentionRows * (1 + kMostLanes + kMostHeadSize);
constexpr std::int64_t chunk_scratch(std::int64_t rows) { return (rows + 1) * kChunkKeys; }

// Dropout keeps the attention probabilities whose random number (dropout.h) is at least
// `threshold`, and multiplies them by `factor`.
struct Dropout {
  std::uint64_t seed;
  std::uint32_t threshold;  // 0 keeps all of them
  float factor;
};

// out[i] = sum_j w[i, j] v[j], w[i] = softmax over the keys [begin, end) of row i of
//
//     cap(scale q[i] . k[j]) - slope |position - j| + mask[i, j],    cap(s) = c tanh(s / c)
//
// A row that sees no key, or only keys at -infinity, is zero. Keys that it does not see, and those
// at -infinity, contribute nothing, whatever they and their values hold.
struct AttentionArgs {
  std::int64_t rows;                        // queries
  const Word* const* q;                     // [rows] of row_words(E)
  float* const* out;                        // [rows] of F floats
  const std::int64_t* begin;                // [rows]
  const std::int64_t* end;                  // [rows]
  const std::int64_t* position;             // [rows], or null without ALiBi
  const float* slope;                       // [rows], or null without ALiBi
  const void* const* mask;                  // [rows] of `keys` bytes or floats, or null
  bool mask_adds;                           // mask holds floats to add; else bytes: 0 hides the key
  float hidden_score;                       // a key that bytes hide has this score: -infinity, or a
                                            // number, and then it is no longer hidden
  float scale, softcap;                     // softcap 0 caps nothing
  std::int64_t key_size, value_size, keys;  // E, F, K
  const Word *k, *v;                // packed; attention in float32 also takes v in rows if F is
                                    // whole vectors; v_stride 0 says that v is packed
  const void *stored_k, *stored_v;  // attention_chunk reads the rows as they are stored
  std::int64_t k_stride, v_stride;  // numbers from one row to the next
  const float *k_scale, *v_scale;   // attention_chunk: [keys], scales of rows in int8; else null
  const Dropout* dropout;           // acts on the probabilities, or null
  const std::int64_t* number;  // [rows] by which dropout counts; attention_chunk has no dropout
  std::int64_t first, last;    // attention_chunk takes only these keys
  float* scratch;              // kAttentionScratch floats; attention_chunk: chunk_scratch(rows)
  float* partial;  // [rows][F + 2]: the sums of w v and of w, and the maximum they are relative to
  float* const* probabilities;  // attention: [rows] of `keys` floats for w, or null
  float* const*
      lse;  // attention: [rows] of one float, log(sum of e^score), or null; -infinity where
            // no key is seen
};

// `decode` turns rows of stored numbers, `stride` apart, into floats.
struct DecodeArgs {
  const void* from;
  std::int64_t rows, size, stride;
  const float* scale;  // [rows], the scales of int8; or null
  float* to;           // [rows, size]
};

// attention_join makes one result of those of `chunks` calls of attention_chunk, in their order.
struct JoinArgs {
  std::int64_t rows, chunks, value_size;
  const float* partial;  // [chunks][rows][F + 2]
  float* const* out;     // [rows] of F floats
  float* const* lse;     // [rows], as in AttentionArgs
};

// attention_backward goes back through the softmax of the keys [first, last) of an attention call.
// In place, it turns q k and dp, the gradients of the probabilities, into
//
//     w = e^(score - lse),    d(q k) = w (dp - dot) scale cap'(scale q k)
//
// Keys that a row does not see have w = -0 and d(q k) = 0, whatever they hold; no other w is -0.
struct AttentionBackwardArgs {
  AttentionArgs call;       // q, k, v, out, partial and probabilities are not used
  const float* const* lse;  // [rows] of one float
  const float* dot;         // [rows]: the row of the output times its gradient
  float* const* scores;     // [rows] of last - first floats, in whole vectors: q k -> w
  float* const* d;          // [rows], the same: dp -> d(q k)
};
// attention_backward takes at most so many at once.
constexpr std::int64_t kBackwardKeys = 256;

}  // namespace treadle

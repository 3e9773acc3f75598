#include "engine/product/conv1d.h"

#include <algorithm>

#include "engine/product/transpose.h"

namespace treadle {
namespace {

// At most so many rows of all groups are listed at once.
constexpr std::int64_t kChunkRows = 8192;
// A piece has at most so many rows of one sequence. Its channels are turned by one thread.
constexpr std::int64_t kPieceRows = 256;
// A task multiplies so many rows by so many panels, whose results stay in L1 until they are turned.
constexpr std::int64_t kTaskRows = 48, kFewRows = 8, kFewPanels = 2;
constexpr std::int64_t kEncodedRows = 32;  // rows that a task encodes

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// Returns row `output` of a stored matrix of `columns` columns, as the first of another matrix.
StoredMatrix rows_from(const StoredMatrix& m, std::int64_t output, std::int64_t columns) {
  const std::int64_t at = output * columns;
  switch (m.dtype) {
    case Dtype::float32:
      return {m.dtype, m.floats() + at, nullptr};
    case Dtype::bfloat16:
      return {m.dtype, static_cast<const std::uint16_t*>(m.data) + at, nullptr};
    case Dtype::int8:
      break;
  }
  return {m.dtype, static_cast<const std::int8_t*>(m.data) + at,
          m.scales + output * sum_blocks(columns)};
}

// Copies the steps first, first + step, ... of x [channels, T] to `to` [count, channels]. Steps
// outside of x are zeros.
void turn(const float* x, std::int64_t channel_stride, std::int64_t channels, std::int64_t time,
          std::int64_t first, std::int64_t step, std::int64_t count, float* to) {
  const std::int64_t begin = std::min(first < 0 ? ceil_div(-first, step) : 0, count);
  const std::int64_t end =
      first >= time ? begin : std::clamp(ceil_div(time - first, step), begin, count);
  std::fill(to, to + begin * channels, 0.0f);
  std::fill(to + end * channels, to + count * channels, 0.0f);
  if (begin == end) return;
  if (step == 1) {
    return transpose(x + first + begin, channel_stride, channels, end - begin,
                     to + begin * channels, channels);
  }
  for (std::int64_t c = 0; c < channels; ++c) {
    const float* from = x + c * channel_stride;
    for (std::int64_t i = begin; i < end; ++i) to[i * channels + c] = from[first + i * step];
  }
}

}  // namespace

// A Chunk is some rows m = b * steps + t of the output, with what their products read.
struct Conv1d::Chunk {
  // A Piece is some rows of one sequence, with the place of the channels that they read.
  struct Piece {
    std::int64_t batch, t, count;
    std::int64_t row;            // its first row in the chunk
    std::int64_t phases, steps;  // turned steps; phases = 0: each window is a copy of its own
    const float* direct;         // the place in x, where nothing is to be turned
    std::int64_t offset;         // the place in `turned`, where one group takes `floats`
    std::int64_t floats;
  };

  std::int64_t first, count, floats = 0;  // rows, and floats of all turned pieces
  std::int64_t steps;                     // rows of one sequence
  std::vector<Piece> pieces;
  Buffer turned;
  std::vector<const float*> rows;  // [groups][count]
  EncodedRows encoded;             // likewise
  const Word* const* words;        // likewise
  float* y;
};

Conv1d::Conv1d(const KernelTable& table, const Conv1dShape& shape, const StoredMatrix& weight,
               const float* bias)
    : shape_(shape), table_(&table) {
  const std::int64_t outputs = shape.outputs / shape.groups, k = shape.taps * channels();
  groups_.reserve(shape.groups);
  for (std::int64_t g = 0; g < shape.groups; ++g) {
    groups_.emplace_back(table, outputs, k, rows_from(weight, g * outputs, k),
                         bias ? bias + g * outputs : nullptr);
  }
}

std::int64_t Conv1d::weight_bytes() const {
  std::int64_t bytes = 0;
  for (const Linear& group : groups_) bytes += group.weight_bytes();
  return bytes;
}

std::int64_t Conv1d::steps(std::int64_t time) const {
  const std::int64_t padded = time + shape_.before + shape_.after;
  return padded < span() ? 0 : (padded - span()) / shape_.stride + 1;
}

// Cuts the rows of a chunk into pieces and says where each finds its channels.
void Conv1d::list_pieces(const Conv1dInput& in, std::int64_t first, Chunk& chunk) const {
  const std::int64_t total = in.batch * chunk.steps;
  chunk.first = first;
  chunk.count =
      std::min(total - first, std::max(kChunkRows / shape_.groups, std::int64_t{kTaskRows}));
  chunk.pieces.clear();
  chunk.floats = 0;
  for (std::int64_t row = 0; row < chunk.count;) {
    const std::int64_t b = (first + row) / chunk.steps, t = (first + row) % chunk.steps;
    Chunk::Piece piece{};
    piece.batch = b;
    piece.t = t;
    piece.row = row;
    piece.count = std::min({chunk.steps - t, chunk.count - row, kPieceRows});
    const std::int64_t length = shape_.stride * (piece.count - 1) + span();
    const std::int64_t start = shape_.stride * t - shape_.before;
    piece.phases = std::min(shape_.dilation, length);
    piece.steps = ceil_div(length, shape_.dilation);
    piece.offset = chunk.floats;
    if (channels() == 1 && shape_.dilation == 1 && start >= 0 && start + length <= in.time) {
      piece.direct = in.x + b * in.batch_stride + start;
    } else if (piece.count * shape_.taps <= piece.phases * piece.steps) {
      piece.phases = 0;  // turning what lies between the windows would be more work
      piece.floats = piece.count * shape_.taps * channels();
    } else {
      piece.floats = piece.phases * piece.steps * channels();
    }
    chunk.floats += piece.floats * shape_.groups;
    chunk.pieces.push_back(piece);
    row += piece.count;
  }
}

// Turns the channels that a piece of a group reads, and lists its rows.
void Conv1d::gather(const Conv1dInput& in, std::int64_t group, std::int64_t number,
                    Chunk& chunk) const {
  const Chunk::Piece& piece = chunk.pieces[number];
  const std::int64_t C = channels(), start = shape_.stride * piece.t - shape_.before;
  const float* x = in.x + piece.batch * in.batch_stride + group * C * in.channel_stride;
  const float** rows = chunk.rows.data() + group * chunk.count + piece.row;
  if (piece.direct) {
    for (std::int64_t r = 0; r < piece.count; ++r) {
      rows[r] = piece.direct + group * in.channel_stride + r * shape_.stride;
    }
    return;
  }
  float* to = chunk.turned.data() + piece.offset + group * piece.floats;
  if (piece.phases == 0) {
    for (std::int64_t r = 0; r < piece.count; ++r, to += shape_.taps * C) {
      turn(x, in.channel_stride, C, in.time, start + r * shape_.stride, shape_.dilation,
           shape_.taps, to);
      rows[r] = to;
    }
    return;
  }
  for (std::int64_t phase = 0; phase < piece.phases; ++phase) {
    turn(x, in.channel_stride, C, in.time, start + phase, shape_.dilation, piece.steps,
         to + phase * piece.steps * C);
  }
  for (std::int64_t r = 0; r < piece.count; ++r) {
    const std::int64_t s = r * shape_.stride;
    rows[r] = to + (s % shape_.dilation * piece.steps + s / shape_.dilation) * C;
  }
}

// Computes some rows and panels of a group and stores them with time as the last axis.
void Conv1d::multiply(std::int64_t group, std::int64_t first, std::int64_t count,
                      std::int64_t panel, std::int64_t panel_end, const Activation* f, float* tile,
                      Chunk& chunk) const {
  const Linear& linear = groups_[group];
  LinearArgs a = linear.args();
  const std::int64_t N = linear.outputs();
  const std::int64_t width = static_cast<std::int64_t>(a.vectors) * table_->lanes;
  const std::int64_t column = panel * width, end = std::min(N, panel_end * width);
  const std::int64_t steps = chunk.steps, stride = (panel_end - panel) * width;
  const auto target = [&](std::int64_t m) {
    return chunk.y + (m / steps * shape_.outputs + group * N) * steps + m % steps;
  };
  float* out[kTaskRows];
  const bool direct = steps == 1;  // the outputs of a row are contiguous
  for (std::int64_t r = 0; r < count; ++r) {
    out[r] = direct ? target(chunk.first + first + r) : tile + r * stride;
  }
  a.rows = count;
  a.x = chunk.words + group * chunk.count + first;
  a.out = out;
  a.out_offset = direct ? 0 : -column;
  a.f = f;
  a.panel_begin = panel;
  a.panel_end = panel_end;
  table_->of(linear.dtype()).linear(a);
  if (direct) return;
  for (std::int64_t r = 0; r < count;) {
    const std::int64_t m = chunk.first + first + r, run = std::min(count - r, steps - m % steps);
    transpose(tile + r * stride, stride, run, end - column, target(m) + column * steps, steps);
    r += run;
  }
}

void Conv1d::run(const Conv1dInput& in, const Activation* f, float* y, Interrupt& interrupt) const {
  const std::int64_t G = shape_.groups, K = shape_.taps * channels();
  const Linear& one = groups_[0];
  Chunk chunk{};
  chunk.steps = steps(in.time);
  chunk.y = y;
  const std::int64_t total = in.batch * chunk.steps;
  if (total == 0 || one.outputs() == 0) return;
  const Dtype dtype = one.dtype();
  const std::int64_t panels = one.packed().panels();
  const std::int64_t panel_floats =
      static_cast<std::int64_t>(one.packed().vectors()) * table_->lanes;
  for (std::int64_t first = 0; first < total && !interrupt.stopped(); first += chunk.count) {
    list_pieces(in, first, chunk);
    if (chunk.turned.size() < chunk.floats) chunk.turned = Buffer::uninitialized(chunk.floats);
    chunk.rows.resize(G * chunk.count);
    chunk.encoded.reserve(dtype, G * chunk.count, K);
    const std::int64_t pieces = static_cast<std::int64_t>(chunk.pieces.size());
    const std::int64_t blocks = ceil_div(chunk.count, kTaskRows);
    const std::int64_t step = chunk.count <= kFewRows ? kFewPanels : 1;
    const std::int64_t parts = ceil_div(panels, step), tasks = G * parts * blocks;
    const double work = static_cast<double>(G) * one.work(chunk.count);
    Team team(work, interrupt);
    const std::int64_t tile = std::min(chunk.count, kTaskRows) * step * panel_floats;
    Buffer tiles = Buffer::uninitialized(chunk.steps == 1 ? 0 : team.size() * tile);
    chunk.words = dtype == Dtype::float32 ? chunk.rows.data() : chunk.encoded.rows();
    team.run([&](Team::Member& member) {
      if (!member.parallel_for(
              G * pieces, static_cast<double>(chunk.floats) / (G * pieces),
              [&](std::int64_t task) { gather(in, task / pieces, task % pieces, chunk); })) {
        return;
      }
      if (dtype != Dtype::float32) {
        const std::int64_t all = G * chunk.count;
        if (!member.parallel_for(ceil_div(all, kEncodedRows), static_cast<double>(kEncodedRows) * K,
                                 [&](std::int64_t task) {
                                   const std::int64_t from = task * kEncodedRows;
                                   chunk.encoded.encode(table_->of(dtype), dtype, chunk.rows.data(),
                                                        from, std::min(kEncodedRows, all - from),
                                                        K);
                                 })) {
          return;
        }
      }
      member.parallel_for(tasks, work / tasks, [&](std::int64_t task) {
        const std::int64_t block = task % blocks, part = task / blocks % parts;
        const std::int64_t begin = chunk.count * block / blocks;
        multiply(task / blocks / parts, begin, chunk.count * (block + 1) / blocks - begin,
                 part * step, std::min(panels, (part + 1) * step), f,
                 tiles.data() + (chunk.steps == 1 ? 0 : member.index() * tile), chunk);
      });
    });
  }
}

}  // namespace treadle

// The tasks of a convolution: they encode pixels, list the rows of blocks and multiply.
#include <algorithm>
#include <type_traits>

#include "engine/conv/conv.h"

namespace treadle {
namespace {

// A block of so few rows passes the weights of a panel once or twice: slices are of no use.
constexpr std::int64_t kUnslicedRows = 12;
// Rows of so few outputs are not told apart by the taps that meet x.
constexpr std::int64_t kLeastRun = 6;

// Copies the places [first, first + count) of x, which has `size` places of so many words. Places
// outside of x are zeros.
void copy_window(const Word* x, std::int64_t size, std::int64_t words, std::int64_t first,
                 std::int64_t count, Word* to) {
  const std::int64_t begin = std::clamp(-first, std::int64_t{0}, count);
  const std::int64_t end = std::clamp(size - first, begin, count);
  std::fill(to, to + begin * words, Word{0});
  if (begin < end) {
    std::copy(x + (first + begin) * words, x + (first + end) * words, to + begin * words);
  }
  std::fill(to + end * words, to + count * words, Word{0});
}

}  // namespace

// Lays out the memory of a block, and returns its size in floats.
std::int64_t Conv::slot_floats(const Job& job, Block* block, float* memory) const {
  constexpr std::int64_t kPointer = sizeof(void*) / sizeof(float), kLine = 16;
  const PackedWeights& packed = groups_[0].packed;
  std::int64_t at = 0;
  const auto take = [&](auto*& pointer, std::int64_t floats) {
    pointer = reinterpret_cast<std::remove_reference_t<decltype(pointer)>>(memory + at);
    at += ceil_div(floats, kLine) * kLine;
  };
  Block unused{};
  Block& b = block ? *block : unused;
  const std::int64_t rows = job.block_rows;
  take(b.tile, rows * packed.vectors() * table_->lanes);
  take(b.windows, rows_ == Rows::windows    ? job.copies * taps_ * tap_words_
                  : rows_ == Rows::gathered ? (rows + 1) * std::max(tap_words_, k_)
                                            : 0);
  take(b.rows, rows * taps_ * kPointer);
  take(b.out, rows * kPointer);
  take(b.sums, rows * kPointer);
  take(b.residual, rows * kPointer);
  return at;
}

std::int64_t Conv::encode_tasks(const Job& job, std::int64_t images) const {
  const std::int64_t numbers = images * job.call.height * job.call.width * shape_.inputs;
  return ceil_div(numbers, kEncodedNumbers);
}

// Encodes the pixels of a task, group by group.
void Conv::encode(const Job& job, std::int64_t image, std::int64_t images,
                  std::int64_t task) const {
  constexpr std::int64_t kPointers = 64;
  const std::int64_t C = shape_.group_inputs(), tasks = encode_tasks(job, images);
  const std::int64_t size = job.call.height * job.call.width, all = images * size;
  const float* x = job.call.x + image * size * shape_.inputs;
  const std::int64_t end = all * (task + 1) / tasks;
  for (std::int64_t pixel = all * task / tasks; pixel < end; pixel += kPointers) {
    const std::int64_t count = std::min(kPointers, end - pixel);
    for (std::int64_t g = 0; g < shape_.groups; ++g) {
      const float* rows[kPointers];
      for (std::int64_t i = 0; i < count; ++i) rows[i] = x + (pixel + i) * shape_.inputs + g * C;
      Word* to = job.encoded + pixel * pixel_words_ + g * group_words_;
      table_->of(dtype_).encode({count, C, rows, to, pixel_words_});
    }
  }
}

std::int64_t Conv::tasks(const Job& job, std::int64_t images) const {
  return shape_.groups * job.parts * ceil_div(images * job.height * job.width, job.block_rows);
}

// Calls place(r, count, image, row, column) for the outputs of a block, a row of them at a time.
template <class Place>
void Conv::for_each_row(const Job& job, const Block& block, Place&& place) const {
  std::int64_t column = block.first % job.width, row = block.first / job.width % job.height;
  std::int64_t image = block.first / job.width / job.height;
  for (std::int64_t r = 0; r < block.count;) {
    const std::int64_t count = std::min(job.width - column, block.count - r);
    place(r, count, image, row, column);
    r += count;
    column = 0;
    if (++row < job.height) continue;
    row = 0;
    ++image;
  }
}

// Calls place(r, image, i, j) for the outputs of a block, with the place of the first tap in x.
template <class Place>
void Conv::for_each_window(const Job& job, const Block& block, Place&& place) const {
  const ConvAxis &vertical = shape_.vertical, &horizontal = shape_.horizontal;
  for_each_row(job, block,
               [&](std::int64_t r, std::int64_t count, std::int64_t image, std::int64_t row,
                   std::int64_t column) {
                 const std::int64_t i = row * vertical.stride - vertical.before;
                 for (std::int64_t c = 0; c < count; ++c) {
                   place(r + c, image, i, (column + c) * horizontal.stride - horizontal.before);
                 }
               });
}

void Conv::list_windows(const Job& job, std::int64_t image, const Block& block) const {
  const ConvAxis &vertical = shape_.vertical, &horizontal = shape_.horizontal;
  const std::int64_t H = job.call.height, W = job.call.width, kw = horizontal.taps;
  const Word* x = encodes_pixels() ? job.encoded : job.call.x;
  const std::int64_t base = encodes_pixels() ? image : 0, step = horizontal.stride;
  const std::int64_t words = pixel_words_;
  Word* copy = block.windows;
  for_each_row(job, block,
               [&](std::int64_t r, std::int64_t count, std::int64_t b, std::int64_t row,
                   std::int64_t column) {
                 const std::int64_t j = column * step - horizontal.before, room = W - kw - j;
                 // The windows of the outputs [begin, end) lie within x, the others beyond a side.
                 const std::int64_t begin = j < 0 ? std::min(ceil_div(-j, step), count) : 0;
                 const std::int64_t end =
                     room < 0 ? begin : std::clamp(room / step + 1, begin, count);
                 std::int64_t i = row * vertical.stride - vertical.before;
                 for (std::int64_t tap = 0; tap < taps_; ++tap, i += vertical.dilation) {
                   const Word** to = block.rows + tap * block.count + r;
                   if (i < 0 || i >= H) {
                     std::fill_n(to, count, zeros_.data());
                     continue;
                   }
                   const Word* const line = x + ((b - base) * H + i) * W * words;
                   const auto copy_windows = [&](std::int64_t from, std::int64_t past) {
                     for (std::int64_t c = from; c < past; ++c, copy += tap_words_) {
                       copy_window(line, W, words, j + c * step, kw, copy);
                       to[c] = copy;
                     }
                   };
                   copy_windows(0, begin);
                   const std::int64_t first = j * words, stride = step * words;
                   for (std::int64_t c = begin; c < end; ++c) to[c] = line + (first + c * stride);
                   copy_windows(end, count);
                 }
               });
}

void Conv::list_pixels(const Job& job, std::int64_t image, const Block& block) const {
  const ConvAxis &vertical = shape_.vertical, &horizontal = shape_.horizontal;
  const std::int64_t H = job.call.height, W = job.call.width;
  const Word* x = encodes_pixels() ? job.encoded : job.call.x;
  const std::int64_t base = encodes_pixels() ? image : 0;
  const std::int64_t first =
      block.group * (encodes_pixels() ? group_words_ : shape_.group_inputs());
  for_each_window(job, block, [&](std::int64_t r, std::int64_t b, std::int64_t i, std::int64_t j) {
    const Word** to = block.rows + r;
    for (std::int64_t p = 0; p < vertical.taps; ++p, i += vertical.dilation) {
      const std::int64_t row = first + ((b - base) * H + i) * W * pixel_words_;
      const bool within = i >= 0 && i < H;
      std::int64_t at = j;
      for (std::int64_t q = 0; q < horizontal.taps; ++q, at += horizontal.dilation) {
        *to = within && at >= 0 && at < W ? x + row + at * pixel_words_ : zeros_.data();
        to += block.count;
      }
    }
  });
}

// Copies the windows of a block one by one, and encodes them.
void Conv::gather(const Job& job, const Block& block) const {
  const ConvAxis &vertical = shape_.vertical, &horizontal = shape_.horizontal;
  const std::int64_t H = job.call.height, W = job.call.width, C = shape_.group_inputs();
  const bool encodes = dtype_ != Dtype::float32;
  float* const window = block.windows + block.count * std::max(tap_words_, k_);
  for_each_window(job, block, [&](std::int64_t r, std::int64_t b, std::int64_t i, std::int64_t j) {
    Word* const words = block.windows + r * tap_words_;
    const float* const numbers = encodes ? window : words;
    float* to = encodes ? window : words;
    for (std::int64_t p = 0; p < vertical.taps; ++p, i += vertical.dilation) {
      const std::int64_t row = block.group * C + (b * H + i) * W * shape_.inputs;
      std::int64_t at = j;
      for (std::int64_t q = 0; q < horizontal.taps; ++q, at += horizontal.dilation, to += C) {
        if (i >= 0 && i < H && at >= 0 && at < W) {
          std::copy_n(job.call.x + row + at * shape_.inputs, C, to);
        } else {
          std::fill_n(to, C, 0.0f);
        }
      }
    }
    block.rows[r] = words;
    if (encodes) table_->of(dtype_).encode({1, k_, &numbers, words, tap_words_});
  });
}

// Multiplies the rows of a block by some panels.
void Conv::multiply(const Job& job, std::int64_t image, std::int64_t images,
                    std::int64_t task) const {
  const TaskSlots::Slot slot(job.slots);
  const std::int64_t size = job.height * job.width, all = images * size;
  const std::int64_t blocks = ceil_div(all, job.block_rows);
  const std::int64_t number = task % blocks, part = task / blocks % job.parts;
  Block block{};
  slot_floats(job, &block, slot.data());
  block.group = task / blocks / job.parts;
  block.first = image * size + all * number / blocks;
  block.count = image * size + all * (number + 1) / blocks - block.first;
  if (rows_ == Rows::windows) {
    list_windows(job, image, block);
  } else if (rows_ == Rows::pixels) {
    list_pixels(job, image, block);
  } else {
    gather(job, block);
  }
  const Group& group = groups_[block.group];
  const std::int64_t D = shape_.group_outputs(), panels = group.packed.panels();
  LinearArgs a{};
  a.rows = block.count;
  a.columns = D;
  a.k = k_;
  a.weights = group.packed.weights();
  a.panel_stride = group.packed.panel_stride();
  a.bias = group.bias.data();
  a.vectors = group.packed.vectors();
  a.x = block.rows;
  a.taps = taps_;
  a.tap_stride = block.count;
  a.tap_block = tap_block_;
  a.f = job.call.f;
  a.residual_first = job.call.residual_first;
  const std::int64_t width = static_cast<std::int64_t>(a.vectors) * table_->lanes;
  const ConvTarget& target = job.target;
  for (std::int64_t r = 0; r < block.count; ++r) block.sums[r] = block.tile + r * width;
  for_each_row(job, block,
               [&](std::int64_t r, std::int64_t count, std::int64_t b, std::int64_t row,
                   std::int64_t column) {
                 const std::int64_t at = b * target.image_stride + row * target.row_stride +
                                         column * target.column_stride + block.group * D;
                 const std::int64_t stride = target.column_stride;
                 const auto list = [&](auto* first, auto** to) {
                   for (std::int64_t c = 0; c < count; ++c) to[c] = first + c * stride;
                 };
                 list(job.call.y + at, block.out + r);
                 if (job.call.residual) list(job.call.residual + at, block.residual + r);
               });
  a.residual = job.call.residual ? block.residual : nullptr;
  const std::int64_t begin = panels * part / job.parts, end = panels * (part + 1) / job.parts;
  const Run run = run_from(job, block, 0);
  const bool sliced = slices_.size() > 1 && block.count > kUnslicedRows;
  const bool whole = run.count == block.count && run.tap == 0 && run.tap_end == taps_;
  if (whole && !sliced && !job.call.channels_first) {
    a.out = block.out;
    a.panel_begin = begin;
    a.panel_end = end;
    return table_->of(dtype_).linear(a);
  }
  for (std::int64_t panel = begin; panel < end; ++panel) {
    a.panel_begin = panel;
    a.panel_end = panel + 1;
    for (Run next = run;; next = run_from(job, block, next.first + next.count)) {
      multiply_run(job, block, next, a);
      if (next.first + next.count == block.count) break;
    }
    if (job.call.channels_first) turn_panel(job, block, a);
  }
}

// Returns the outputs from `first` on that read x through the same taps. Taps above and below x
// would add zeros.
Conv::Run Conv::run_from(const Job& job, const Block& block, std::int64_t first) const {
  Run run{first, block.count - first, 0, taps_};
  // A run of a few outputs, or of parts of taps, would take longer than the zeros.
  if (rows_ == Rows::gathered || job.width < kLeastRun || taps_ == 0) return run;
  const ConvAxis& axis = shape_.vertical;
  const auto taps_of = [&](std::int64_t row, std::int64_t& begin, std::int64_t& end) {
    const std::int64_t place = row * axis.stride - axis.before, room = job.call.height - place;
    begin = place >= 0 ? 0 : std::min(ceil_div(-place, axis.dilation), axis.taps);
    end = room <= 0 ? begin : std::clamp(ceil_div(room, axis.dilation), begin, axis.taps);
  };
  const std::int64_t output = block.first + first;
  std::int64_t row = output / job.width % job.height, begin, end;
  taps_of(row, begin, end);
  for (run.count = job.width - output % job.width; run.count < block.count - first;) {
    if (++row == job.height) row = 0;
    std::int64_t next_begin, next_end;
    taps_of(row, next_begin, next_end);
    if (next_begin != begin || next_end != end) break;
    run.count += job.width;
  }
  run.count = std::min(run.count, block.count - first);
  const std::int64_t each = taps_ / axis.taps;
  run.tap = begin * each / tap_block_ * tap_block_;  // blocks of terms begin where they always do
  run.tap_end = std::max(end * each, run.tap);
  return run;
}

// Multiplies the outputs of a run by one panel, slice by slice.
void Conv::multiply_run(const Job& job, const Block& block, const Run& run, LinearArgs a) const {
  const std::int64_t panel = a.panel_begin, D = a.columns;
  const std::int64_t column = panel * a.vectors * table_->lanes;
  const std::int64_t step =
      static_cast<std::int64_t>(groups_[block.group].packed.vectors_of(panel)) * table_->lanes;
  const Slice whole{0, taps_, 0, k_, 0};
  const bool sliced = slices_.size() > 1 && run.count > kUnslicedRows;
  const Slice* slice = sliced ? slices_.data() : &whole;
  const Slice* end = sliced ? slice + slices_.size() : slice + 1;
  while (end - slice > 1 && end[-1].tap >= run.tap_end) --end;
  while (end - slice > 1 && slice->tap + slice->taps <= run.tap) ++slice;
  const Word* const weights = a.weights;
  a.rows = run.count;
  a.start_offset = -column;
  for (; slice != end; ++slice) {
    const bool last = slice + 1 == end, direct = last && !job.call.channels_first;
    const std::int64_t tap = std::max(slice->tap, run.tap);
    a.x = block.rows + tap * a.tap_stride + run.first;
    a.x_offset = slice->offset;
    a.taps = std::max(std::min(slice->tap + slice->taps, run.tap_end) - tap, std::int64_t{0});
    a.k = slice->k;
    a.weights = weights + (slice->depth + (tap - slice->tap) * tap_words_) * step;
    a.out = (direct ? block.out : block.sums) + run.first;
    a.out_offset = direct ? 0 : -column;
    a.columns = last ? D : ceil_div(D, table_->lanes) * table_->lanes;
    a.f = last ? job.call.f : nullptr;
    a.residual = last && job.call.residual ? block.residual + run.first : nullptr;
    table_->of(dtype_).linear(a);
    a.start = block.sums + run.first;
  }
}

// Turns what a panel has made of a block to channels first.
void Conv::turn_panel(const Job& job, const Block& block, const LinearArgs& a) const {
  const std::int64_t size = job.height * job.width, D = a.columns;
  const std::int64_t width = static_cast<std::int64_t>(a.vectors) * table_->lanes;
  const std::int64_t column = a.panel_begin * width;
  for (std::int64_t r = 0; r < block.count;) {
    const std::int64_t m = block.first + r, count = std::min(block.count - r, size - m % size);
    float* y =
        job.call.y + (m / size * shape_.outputs + block.group * D + column) * size + m % size;
    table_->transpose({count, std::min(width, D - column), block.sums[r], width, y, size});
    r += count;
  }
}

}  // namespace treadle

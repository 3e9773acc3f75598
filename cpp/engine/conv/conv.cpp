#include "engine/conv/conv.h"

#include <algorithm>

namespace treadle {
namespace {

// A block has at most so many rows, whose inputs stay in L2 while panels pass by.
constexpr std::int64_t kBlockRows = 96, kLeastRows = 12;
// The weights of a slice stay in L2 while the rows of a block pass by.
constexpr std::int64_t kSliceWords = 2400;
// Weights of so many bytes stay in L2 with the inputs of a block.
constexpr std::int64_t kCachedBytes = std::int64_t{1} << 20;
// A task takes about so many multiply-adds at most, so that Ctrl-C is seen.
constexpr double kTaskWork = 1 << 26;
// So many words of encoded pixels are kept at a time, those of at least one image.
constexpr std::int64_t kEncodedWords = std::int64_t{1} << 20;
// The windows that a block copies have at most about so many words.
constexpr std::int64_t kBorderWords = 1 << 16;
// Up to so many channels, a tap of a row of the kernel is better than a tap of a pixel.
constexpr std::int64_t kWindowChannels = 128;

// Returns a matrix that begins at number `at` of another, and at scale `scale`.
StoredMatrix part(const StoredMatrix& m, std::int64_t at, std::int64_t scale) {
  switch (m.dtype) {
    case Dtype::float32:
      return {m.dtype, m.floats() + at, nullptr};
    case Dtype::bfloat16:
      return {m.dtype, static_cast<const std::uint16_t*>(m.data) + at, nullptr};
    case Dtype::int8:
      break;
  }
  return {m.dtype, static_cast<const std::int8_t*>(m.data) + at, m.scales + scale};
}

// Returns how many of so many outputs along an axis have a window that is not within the inputs.
std::int64_t border_outputs(const ConvAxis& axis, std::int64_t size, std::int64_t all) {
  const std::int64_t before = std::max(axis.before, std::int64_t{0});
  const std::int64_t first = std::min(ceil_div(before, axis.stride), all);
  const std::int64_t room = size + axis.before - axis.span();  // of the last window within
  const std::int64_t end = room < 0 ? 0 : std::min(room / axis.stride + 1, all);
  return all - std::max(end - first, std::int64_t{0});
}

}  // namespace

Conv::Rows Conv::rows_of(const ConvShape& shape, Dtype dtype, bool taps_are_rows) {
  const std::int64_t C = shape.group_inputs();
  if (shape.taps() == 0) return Rows::pixels;
  if (dtype == Dtype::int8) return taps_are_rows ? Rows::pixels : Rows::gathered;
  if (shape.groups == 1 && shape.horizontal.dilation == 1 && C < kWindowChannels &&
      C % per_word(dtype) == 0) {
    return Rows::windows;
  }
  return C < kFewChannels ? Rows::gathered : Rows::pixels;
}

Conv::Conv(const KernelTable& table, const ConvShape& shape, const StoredMatrix& weight,
           const float* bias, bool taps_are_rows)
    : shape_(shape),
      table_(&table),
      dtype_(weight.dtype),
      rows_(rows_of(shape, weight.dtype, taps_are_rows)) {
  const std::int64_t C = shape.group_inputs(), D = shape.group_outputs(), K = shape.taps() * C;
  taps_ = rows_ == Rows::windows ? shape.vertical.taps : rows_ == Rows::gathered ? 1 : shape.taps();
  k_ = taps_ ? K / taps_ : C;  // without taps, outputs are f(bias)
  tap_words_ = row_words(dtype_, k_);
  tap_block_ = dtype_ == Dtype::int8 ? 1 : std::max(kSumBlock / k_, std::int64_t{1});
  group_words_ = row_words(dtype_, C);
  pixel_words_ = encodes_pixels() ? shape.groups * group_words_ : shape.inputs;
  zeros_ = Buffer(rows_ == Rows::gathered ? 0 : tap_words_);
  cut_slices();

  const bool scaled = dtype_ == Dtype::int8 && taps_are_rows;
  const std::int64_t scales = scaled ? shape.taps() * sum_blocks(C) : sum_blocks(K);
  groups_.reserve(shape.groups);
  for (std::int64_t g = 0; g < shape.groups; ++g) {
    const StoredMatrix own = part(weight, g * D * K, g * D * scales);
    std::vector<Operand> operands;
    if (taps_ == 0) operands.push_back({own, 0});
    for (std::int64_t tap = 0; tap < taps_; ++tap) {
      operands.push_back({part(own, tap * k_, scaled ? tap * sum_blocks(C) : 0), k_, K, scales});
    }
    PackedWeights packed = PackedWeights::plain(D, operands, table.lanes);
    Buffer packed_bias = bias ? packed.pack_vector(bias + g * D) : Buffer();
    groups_.push_back({std::move(packed), std::move(packed_bias)});
  }
}

// Cuts the sums of a panel where their order is cut anyway: between blocks of terms.
void Conv::cut_slices() {
  const std::int64_t most =
      std::max(kSliceWords / tap_words_ / tap_block_ * tap_block_, tap_block_);
  if (2 * tap_words_ > 3 * kSliceWords && dtype_ != Dtype::int8) {  // the taps are cut
    const std::int64_t step = kSliceWords * per_word(dtype_);
    for (std::int64_t tap = 0; tap < taps_; ++tap) {
      for (std::int64_t k = 0; k < k_; k += step) {
        const std::int64_t before = words(dtype_, k);
        slices_.push_back({tap, 1, before, std::min(step, k_ - k), tap * tap_words_ + before});
      }
    }
    return;
  }
  for (std::int64_t tap = 0; tap < taps_; tap += most) {
    slices_.push_back({tap, std::min(most, taps_ - tap), 0, k_, tap * tap_words_});
  }
}

std::int64_t Conv::block_terms() const {
  if (k_ <= kSumBlock) return taps_ == 0 ? 0 : tap_block_ * k_;
  return taps_ == 1 || k_ % kSumBlock == 0 ? kSumBlock : 0;
}

std::int64_t Conv::weight_bytes() const {
  std::int64_t bytes = 0;
  for (const Group& group : groups_) bytes += group.packed.bytes();
  return bytes;
}

double Conv::work(const ConvCall& call) const {
  const std::int64_t rows = call.target ? call.target->rows : height(call);
  const std::int64_t columns = call.target ? call.target->columns : width(call);
  return static_cast<double>(call.batch) * rows * columns * shape_.outputs * shape_.taps() *
         shape_.group_inputs();
}

Conv::Job Conv::plan(const ConvCall& call, int threads) const {
  Job job{};
  job.call = call;
  job.call.target = nullptr;  // the job has a copy
  job.work = work(call);
  job.threads = threads;
  const std::int64_t D = shape_.outputs;
  job.height = call.target ? call.target->rows : height(call);
  job.width = call.target ? call.target->columns : width(call);
  job.target =
      call.target ? *call.target
                  : ConvTarget{job.height, job.width, job.height * job.width * D, job.width * D, D};
  job.images = call.batch;
  const std::int64_t pixels = job.height * job.width;
  if (encodes_pixels()) {
    const std::int64_t image_words = call.height * call.width * pixel_words_;
    job.images = std::clamp(kEncodedWords / std::max(image_words, std::int64_t{1}), std::int64_t{1},
                            std::max(call.batch, std::int64_t{1}));
    job.encoded_floats = ceil_div(job.images * image_words, 16) * 16;
  }
  const std::int64_t rows = job.images * pixels;
  const PackedWeights& packed = groups_[0].packed;
  const std::int64_t panels = std::max(packed.panels(), std::int64_t{1});
  job.block_rows = std::clamp(ceil_div(rows, threads), kLeastRows, kBlockRows);
  if (rows_ == Rows::windows && pixels) {
    const std::int64_t border =
        std::min(border_outputs(shape_.horizontal, call.width, job.width), job.block_rows);
    const std::int64_t window = taps_ * tap_words_;
    for (;; job.block_rows /= 2) {
      // Rows that follow each other begin and end anywhere in a row of outputs.
      job.copies = std::min(job.block_rows, (job.block_rows / job.width + 2) * border);
      if (job.copies * window <= kBorderWords || job.block_rows == 1) break;
    }
  }
  job.block_rows = std::min(job.block_rows, std::max(rows, std::int64_t{1}));
  const std::int64_t blocks = std::max(ceil_div(rows, job.block_rows), std::int64_t{1});
  const double parts_of_batch =
      static_cast<double>(ceil_div(std::max(call.batch, std::int64_t{1}), job.images));
  const double block_work = job.work / shape_.groups / parts_of_batch / blocks;
  const std::int64_t wanted =
      std::max({packed.bytes() > kCachedBytes ? panels : 1,
                threads > 1 ? ceil_div(4 * threads, blocks * shape_.groups) : 1,
                static_cast<std::int64_t>(block_work / kTaskWork)});
  job.parts = std::min(panels, wanted);
  job.slot_size = slot_floats(job, nullptr, nullptr);
  job.scratch_floats = job.encoded_floats + TaskSlots::floats(threads, job.slot_size);
  return job;
}

void convolve(const Conv& conv, const ConvCall& call, Interrupt& interrupt) {
  Team team(conv.work(call), interrupt);
  Conv::Job job = conv.plan(call, team.size());
  Buffer scratch = Buffer::uninitialized(job.scratch_floats);
  job.use(scratch.data());
  team.run([&](Team::Member& member) {
    conv.run([&](std::int64_t tasks, double work,
                 auto&& task) { return member.parallel_for(tasks, work, task); },
             job);
  });
}

}  // namespace treadle

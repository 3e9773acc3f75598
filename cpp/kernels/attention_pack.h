// Keys and values of attention are packed here like the weights of a product (PackArgs).
#pragma once

#include "kernels/gemm.h"

namespace treadle::TREADLE_ISA {
namespace {

constexpr std::int64_t kPanelKeys = kAttentionVectors * kLanes;

TREADLE_INLINE std::int64_t up_to_lanes(std::int64_t n) {
  return (n + kLanes - 1) / kLanes * kLanes;
}

template <class Format>
void pack_keys(const PackArgs& a) {
  constexpr int kEach = per_word(Format::kDtype);
  const std::int64_t size = words(Format::kDtype, a.size);
  for (std::int64_t first = a.begin; first < a.end; first += kPanelKeys) {
    const std::int64_t keys = a.rows - first < kPanelKeys ? a.rows - first : kPanelKeys;
    const std::int64_t width = up_to_lanes(keys);
    Word* panel = a.to + first * size;
    for (std::int64_t v = 0; v < width; v += kLanes) {
      const float* from = a.from + (first + v) * a.stride;
      const std::int64_t left = keys - v;
      // Fetches the next rows: a head's rows may lie too far apart for the hardware's prefetcher.
      for (std::int64_t i = kLanes; i < 2 * kLanes && v + i < keys; ++i) {
        fetch(from + i * a.stride, a.size);
      }
      for (std::int64_t k = 0; k < size; k += kLanes) {
        Vec rows[kLanes];
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) {
          rows[i] =
              i < left ? Format::read(from + i * a.stride + k * kEach, a.size - k * kEach) : Vec{};
        }
        transpose(rows);
        const std::int64_t steps = size - k < kLanes ? size - k : kLanes;
        Word* to = panel + k * width + v;
        if (steps == kLanes) {
#pragma GCC unroll 16
          for (int i = 0; i < kLanes; ++i) store(to + i * width, rows[i]);
        } else {
          for (int i = 0; i < steps; ++i) store(to + i * width, rows[i]);
        }
      }
    }
  }
}

template <class Format>
void pack_values(const PackArgs& a) {
  constexpr int kEach = per_word(Format::kDtype);
  for (std::int64_t first = 0; first < a.size; first += kPanelKeys) {
    const std::int64_t left = a.size - first;
    const std::int64_t width = left < kPanelKeys ? up_to_lanes(left) : kPanelKeys;
    Word* to = a.to + first * words(Format::kDtype, a.rows) + a.begin / kEach * width;
    for (std::int64_t row = a.begin; row < a.end; row += kEach, to += width) {
      const float* from = a.from + row * a.stride + first;
      if (row + 4 < a.end) fetch(from + 4 * a.stride, left < kPanelKeys ? left : kPanelKeys);
      for (std::int64_t i = 0; i < width; i += kLanes) {
        const Vec own = load_up_to(from + i, left - i);
        if constexpr (kEach == 1) {
          store(to + i, Format::below(own));
        } else {
          const Vec next = row + 1 < a.end ? load_up_to(from + a.stride + i, left - i) : Vec{};
          store(to + i, Format::below(own, next));
        }
      }
    }
  }
}

}  // namespace
}  // namespace treadle::TREADLE_ISA

// QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear.
#include "engine/graph/ops/quantize.h"

#include <algorithm>

#include "engine/graph/ops/families.h"
#include "runtime/isa.h"

namespace treadle::graph {
namespace {

// Scales say where the scale of an element lies. The tensor is looked at as rows: all elements of a
// row have scales that lie `step` apart.
struct Scales {
  std::int64_t rows, columns;  // of the tensor
  int step;                    // 0: one scale for a row
  // Row r begins at the scale (r / size * groups + r % size / block) * inner.
  std::int64_t size = 1, groups = 0, block = 1, inner = 1;
  bool one = false;  // for all

  std::int64_t first(std::int64_t r) const {
    if (one) return 0;
    return (r / size * groups + r % size / block) * inner;
  }
};

constexpr std::int64_t kPiece = 4096;

// Returns how the scales (input 1) belong to the elements of input 0: to all, to those of an index
// along the axis, or to blocks along it. Zero points (input 2) have the scales' shape.
Scales scales_of(Call& call, std::int64_t given, std::int64_t block) {
  const Shape& x = call.input(0).shape;
  const Shape& scale = call.input(1, Type::float32).shape;
  if (call.has(2) && call.input(2).shape != scale) {
    refuse("zero points have shape " + call.input(2).shape.text() + ", the scales " + scale.text());
  }
  if (scale.rank() == 0 || (scale.rank() == 1 && scale[0] == 1 && block == 0)) {
    Scales all{(x.count() + kPiece - 1) / kPiece, kPiece, 0};
    all.one = true;
    return all;
  }
  const int rank = x.rank(), axis = checked_axis(given, rank);
  const std::int64_t size = x[axis], inner = x.count(axis + 1, rank);
  if (block == 0) {
    if (scale != Shape{size}) {
      refuse("scales have shape " + scale.text() + ", expected one for each of " +
             std::to_string(size));
    }
    // Rows along the axis where it is the last: a row for each element would be short.
    if (inner == 1) return {x.count(0, axis), size, 1};
    Scales rows{x.count(0, axis + 1), inner, 0};
    rows.size = size;
    return rows;
  }
  if (block < 0 || block > (std::int64_t{1} << 56)) refuse("attribute block_size is negative");
  const std::int64_t groups = (size + block - 1) / block;
  if (scale != x.with(axis, groups)) {
    refuse("scales have shape " + scale.text() + ", expected " + x.with(axis, groups).text());
  }
  Scales blocks{x.count(0, axis + 1), inner, 1};
  blocks.size = size;
  blocks.groups = groups;
  blocks.block = block;
  blocks.inner = inner;
  return blocks;
}

// Calls f(begin, count, first scale, step) for pieces of the elements.
template <class F>
void for_rows(Call& call, const Scales& scales, std::int64_t count, double work, F&& f) {
  if (count == 0) return;
  const std::int64_t step = std::max<std::int64_t>(1, kPiece / scales.columns);
  const double task = work * static_cast<double>(step * scales.columns);
  call.parallel_for((scales.rows + step - 1) / step, task, [&](std::int64_t i) {
    for (std::int64_t r = i * step, end = std::min(scales.rows, r + step); r < end; ++r) {
      const std::int64_t begin = r * scales.columns;
      f(begin, std::min(scales.columns, count - begin), scales.first(r), scales.step);
    }
  });
}

Type quantized_type(Call& call, std::int64_t code) {
  const Type type = call.has(2) ? call.input(2).type : code ? type_of_code(code) : Type::uint8;
  if (code && type != type_of_code(code)) refuse("output_dtype is not that of the zero points");
  if (type < Type::int8 || type > Type::uint16) {
    refuse(std::string("numbers are not quantized to ") + name_of(type));
  }
  return type;
}

// Computes quantized() of x[i] / scale, in loops that become vectors.
template <class T>
void quantize_row(const KernelTable& table, const float* x, std::int64_t n, float scale, T zero,
                  T* to) {
  constexpr std::int64_t kBlock = 256;
  constexpr float kRound = 3 << 22;
  constexpr auto kLow = static_cast<float>(std::numeric_limits<T>::min());
  constexpr auto kHigh = static_cast<float>(std::numeric_limits<T>::max());
  const auto base = static_cast<float>(zero);
  const Activation clip{ActivationFunction::clip, kLow - base, kHigh - base};
  float values[kBlock] = {};
  std::int32_t integers[kBlock];
  for (std::int64_t begin = 0; begin < n; begin += kBlock) {
    const std::int64_t count = std::min(kBlock, n - begin);
    for (std::int64_t i = 0; i < count; ++i) values[i] = x[begin + i] / scale;
    table.apply(clip, values, values, count);
    for (std::int64_t i = 0; i < count; ++i) {
      const float whole = ((values[i] + kRound) - kRound) + base;
      integers[i] = static_cast<std::int32_t>(whole == whole ? whole : kLow);
    }
    for (std::int64_t i = 0; i < count; ++i) to[begin + i] = static_cast<T>(integers[i]);
  }
}

// QuantizeLinear: y = saturate(round(x / scale) + zero), rounded to the even one in the middle.
std::unique_ptr<Operator> make_quantize(const NodeDescription& node) {
  const std::int64_t axis = node.integer("axis", 1), block = node.integer("block_size", 0);
  const std::int64_t code = node.integer("output_dtype", 0);
  const KernelTable* table = &kernels();
  return make_operator([axis, block, code, table](Call& call) {
    const Tensor& x = call.input(0);
    const Scales scales = scales_of(call, axis, block);
    const Type type = quantized_type(call, code);
    const float* scale = call.input(1).floats();
    Tensor& y = call.output(0, type, x.shape);
    with_type(type, [&](auto zero) {
      using T = decltype(zero);
      if constexpr (std::is_integral_v<T> && sizeof(T) <= 2 && !std::is_same_v<T, bool>) {
        const T* zeros = call.has(2) ? call.input(2).as<T>() : nullptr;
        T* to = y.as<T>();
        const auto run = [&](auto from) {
          for_rows(call, scales, x.count(), 50,
                   [&](std::int64_t begin, std::int64_t n, std::int64_t first, int step) {
                     for (std::int64_t i = 0; i < n; ++i) {
                       const std::int64_t s = first + i * step;
                       const float value = static_cast<float>(from[begin + i]) / scale[s];
                       to[begin + i] = quantized<T>(value, zeros ? zeros[s] : T(0));
                     }
                   });
        };
        if (x.type == Type::float32 && scales.step == 0) {
          const float* from = x.floats();
          return for_rows(call, scales, x.count(), 10,
                          [&](std::int64_t begin, std::int64_t n, std::int64_t first, int) {
                            const T zero_of = zeros ? zeros[first] : T(0);
                            quantize_row(*table, from + begin, n, scale[first], zero_of,
                                         to + begin);
                          });
        }
        if (x.type == Type::float32) return run(x.as<float>());
        if (x.type == Type::int32) return run(x.as<std::int32_t>());
        refuse(std::string("input 0 has dtype ") + name_of(x.type) + ", expected float32 or int32");
      }
    });
  });
}

// DequantizeLinear: y = (x - zero) scale.
std::unique_ptr<Operator> make_dequantize(const NodeDescription& node) {
  const std::int64_t axis = node.integer("axis", 1), block = node.integer("block_size", 0);
  return make_operator([axis, block](Call& call) {
    const Tensor& x = call.input(0);
    const Scales scales = scales_of(call, axis, block);
    const float* scale = call.input(1).floats();
    if (call.has(2)) call.input(2, x.type);
    float* to = call.output(0, Type::float32, x.shape).floats();
    with_type(x.type, [&](auto zero) {
      using T = decltype(zero);
      if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool> && sizeof(T) <= 4 &&
                    !std::is_same_v<T, std::uint32_t>) {
        const T* from = x.as<T>();
        const T* zeros = call.has(2) ? call.input(2).as<T>() : nullptr;
        for_rows(call, scales, x.count(), 20,
                 [&](std::int64_t begin, std::int64_t n, std::int64_t first, int step) {
                   for (std::int64_t i = 0; i < n; ++i) {
                     const std::int64_t s = first + i * step;
                     const std::int64_t less = zeros ? zeros[s] : 0;
                     to[begin + i] = static_cast<float>(from[begin + i] - less) * scale[s];
                   }
                 });
      } else {
        refuse(std::string("input 0 has dtype ") + name_of(x.type) +
               ", expected int8, uint8, int16, uint16 or int32");
      }
    });
  });
}

// DynamicQuantizeLinear: uint8 with the scale and the zero point that the numbers need.
std::unique_ptr<Operator> make_dynamic_quantize(const NodeDescription&) {
  const KernelTable* table = &kernels();
  return make_operator([table](Call& call) {
    const Tensor& x = call.input(0, Type::float32);
    const std::int64_t count = x.count();
    const Quantization q = quantization_of(call, x.floats(), count);
    const Shape shape = x.shape;
    auto* to = call.output(0, Type::uint8, shape).as<std::uint8_t>();
    *call.output(1, Type::float32, Shape{}).floats() = q.scale;
    *call.output(2, Type::uint8, Shape{}).as<std::uint8_t>() = q.zero;
    const float* from = x.floats();
    call.parallel_for((count + kPiece - 1) / kPiece, kPiece * 10, [&](std::int64_t piece) {
      const std::int64_t begin = piece * kPiece;
      quantize_row(*table, from + begin, std::min(kPiece, count - begin), q.scale, q.zero,
                   to + begin);
    });
  });
}

}  // namespace

Quantization quantization_of(Call& call, const float* x, std::int64_t count) {
  constexpr int kParts = 16;                    // so that vectors can look at many numbers at once
  float lows[kParts] = {}, highs[kParts] = {};  // 0 is among the numbers
  call.serial_for((count + kPiece - 1) / kPiece, kPiece * 10, [&](std::int64_t piece) {
    float least[kParts], most[kParts];  // x is none of these, as the compiler sees
    std::copy_n(lows, kParts, least);
    std::copy_n(highs, kParts, most);
    const auto look = [&](int part, float value) {
      least[part] = value < least[part] ? value : least[part];
      most[part] = value > most[part] ? value : most[part];
    };
    const std::int64_t end = std::min(count, (piece + 1) * kPiece);
    std::int64_t i = piece * kPiece;
    for (; i + kParts <= end; i += kParts) {
      for (int part = 0; part < kParts; ++part) look(part, x[i + part]);
    }
    for (; i < end; ++i) look(0, x[i]);
    std::copy_n(least, kParts, lows);
    std::copy_n(most, kParts, highs);
  });
  const float low = *std::min_element(lows, lows + kParts);
  const float high = *std::max_element(highs, highs + kParts);
  const float scale = low == high ? 1.0f : (high - low) / 255.0f;
  return {scale, quantized<std::uint8_t>(-low / scale, 0)};
}

void put_quantized(const Tensor& zero, float value, char* to) {
  *to = static_cast<char>(zero.type == Type::int8
                              ? quantized<std::int8_t>(value, *zero.as<std::int8_t>())
                              : quantized<std::uint8_t>(value, *zero.as<std::uint8_t>()));
}

void list_quantize(OperatorTable& table) {
  table["QuantizeLinear"] = make_quantize;
  table["DequantizeLinear"] = make_dequantize;
  table["DynamicQuantizeLinear"] = make_dynamic_quantize;
}

}  // namespace treadle::graph

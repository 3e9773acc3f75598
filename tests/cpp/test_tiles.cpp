// The kernels of level amx over a model of its tiles (tile_model.h), beside avx512_bf16: in int8
// the same bits; in bfloat16 the bits of the manual's order, and the same bits where all sums are
// exact.
#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "engine/conv/conv.h"
#include "engine/product/linear.h"
#include "guarded.h"
#include "net.h"
#include "runtime/flush_to_zero.h"
#include "runtime/thread_pool.h"
#include "tile_model.h"
#include "values.h"

namespace treadle {

namespace amx_model {
void fill(KernelTable&);  // fill_tiles.cpp, compiled with the model
}

namespace {

using tile_model::Deviation;

// Returns the table of avx512_bf16 with what tiles override, unless the proof fails.
KernelTable filled(const KernelTable& table) {
  KernelTable t = table;
  const FlushToZero guard;
  amx_model::fill(t);
  return t;
}

// Calls test(avx512_bf16, tiles) if the CPU has the former. One thread, whose tiles are looked at.
template <class Test>
void with_tiles(Test test) {
  bool found = false;
  for (const std::string& isa : available_isas()) found = found || isa == "avx512_bf16";
  if (!found) {
    MESSAGE("skipped: the model's kernels need the vectors of avx512_bf16");
    return;
  }
  const std::string before = kernels().isa;
  set_isa("avx512_bf16");
  set_num_threads(1);
  const KernelTable table = kernels(), tiles = filled(table);
  set_isa(before);
  REQUIRE(std::string(tiles.isa) == "amx_model");
  const std::int64_t multiplications = tile_model::multiplications();
  test(table, tiles);
  CHECK(tile_model::multiplications() > multiplications);
  CHECK_FALSE(tile_model::configured());
}

// Numbers that bfloat16 has; if `exact`, multiples of 1/8 within 2, of which a thousand products
// have a sum that float32 has.
struct Halves {
  std::vector<float> floats;
  std::vector<std::uint16_t> bits;

  Halves(std::int64_t count, unsigned seed, bool exact = false)
      : floats(random_floats(count, seed)), bits(floats.size()) {
    for (std::size_t i = 0; i < floats.size(); ++i) {
      if (exact) floats[i] = std::round(16 * floats[i]) / 8;
      std::uint32_t word;
      std::memcpy(&word, &floats[i], sizeof word);
      word &= 0xffff0000u;
      std::memcpy(&floats[i], &word, sizeof word);
      bits[i] = static_cast<std::uint16_t>(word >> 16);
    }
  }
  StoredMatrix stored() const { return {Dtype::bfloat16, bits.data(), nullptr}; }
};

struct Bytes {
  std::vector<std::int8_t> integers;
  std::vector<float> scales;

  Bytes(std::int64_t rows, std::int64_t k, unsigned seed) {
    for (const float x : random_floats(rows * k, seed, 128)) {
      integers.push_back(static_cast<std::int8_t>(std::floor(x)));
    }
    scales = random_floats(rows * sum_blocks(k), seed + 1, 0.01f);
  }
  StoredMatrix stored() const { return {Dtype::int8, integers.data(), scales.data()}; }
};

const std::int64_t kRows[] = {1, 2, 3, 4, 5, 6, 15, 16, 17, 31, 33, 40};

TEST_CASE("tiles that depart from the manual fail the proof, and the table stays as it was") {
  with_tiles([](const KernelTable& table, const KernelTable&) {
    for (const Deviation deviation :
         {Deviation::one_sum, Deviation::keeps_denormals, Deviation::signed_rows}) {
      CAPTURE(static_cast<int>(deviation));
      tile_model::deviate(deviation);
      CHECK(std::string(filled(table).isa) == "avx512_bf16");
      tile_model::deviate(Deviation::none);
    }
    CHECK(std::string(filled(table).isa) == "amx_model");
  });
}

TEST_CASE("a level overrides products of low precision and nothing else") {
  with_tiles([](const KernelTable& table, const KernelTable& tiles) {
    const bool floats = tiles.of(Dtype::float32).linear == table.of(Dtype::float32).linear;
    CHECK(floats);
    for (const Dtype dtype : {Dtype::bfloat16, Dtype::int8}) {
      const ProductKernels &a = tiles.of(dtype), &b = table.of(dtype);
      CHECK(std::string(a.isa) == "amx_model");
      const bool products = a.linear != b.linear && a.lstm_step != b.lstm_step &&
                            a.gru_gates != b.gru_gates && a.gru_candidate != b.gru_candidate;
      CHECK(products);
      const bool rest = a.encode == b.encode && a.attention == b.attention && a.decode == b.decode;
      CHECK(rest);
      CHECK(a.round_flops > b.round_flops);
      CHECK(a.multiply_loop(3) > 0);
    }
  });
}

// The product of x [M, K] by both levels, with a function and a residual now and then.
template <class Compare>
void compare_products(const KernelTable& table, const KernelTable& tiles, const StoredMatrix& w,
                      const std::vector<float>& x, std::int64_t M, std::int64_t N, std::int64_t K,
                      const std::vector<float>& bias, const std::vector<float>& residual,
                      Compare compare) {
  const Activation gelu{ActivationFunction::gelu, 0, 0}, relu{ActivationFunction::relu, 0, 0};
  const Activation* const functions[] = {nullptr, &gelu, &relu};
  const Activation* f = functions[(M + N + K) % 3];
  const float* add = (M + N) % 2 ? residual.data() : nullptr;
  const float* from = K % 2 ? bias.data() : nullptr;
  const Guarded<float> rows(std::vector<float>(x.begin(), x.begin() + M * K));
  Guarded<float> expected(M * N), found(M * N);
  Interrupt interrupt(nullptr);
  product(Linear(table, N, K, w, from), M, rows.data(), K, f, add, expected.data(), interrupt);
  product(Linear(tiles, N, K, w, from), M, rows.data(), K, f, add, found.data(), interrupt);
  compare(found, expected);
}

TEST_CASE("int8: the bits of avx512_bf16, for every shape around the tiles") {
  with_tiles([](const KernelTable& table, const KernelTable& tiles) {
    for (const std::int64_t N : {1, 16, 48, 63, 64, 65, 130, 192}) {
      for (const std::int64_t K : {1, 3, 65, 191, 193, 230, 255, 256, 257, 600}) {
        const Bytes w(N, K, 1);
        const std::vector<float> x = random_floats(40 * K, 3), bias = random_floats(N, 4),
                                 residual = random_floats(40 * N, 5);
        for (std::int64_t M = 1; M <= 40; M = K == 193 ? M + 1 : M + 1 + M / 3) {
          CAPTURE(M);
          CAPTURE(N);
          CAPTURE(K);
          compare_products(table, tiles, w.stored(), x, M, N, K, bias, residual,
                           [&](const auto& found, const auto& expected) {
                             CHECK(first_difference(found, expected, M * N) == -1);
                           });
        }
      }
    }
  });
}

TEST_CASE("bfloat16: the bits of avx512_bf16 where every sum is exact") {
  with_tiles([](const KernelTable& table, const KernelTable& tiles) {
    for (const std::int64_t N : {1, 16, 48, 63, 64, 65, 130, 192}) {
      for (const std::int64_t K : {1, 2, 3, 31, 32, 33, 63, 65, 255, 256, 257, 600}) {
        const Halves w(N * K, 1, true), x(40 * K, 3, true), bias(N, 4, true);
        const std::vector<float> residual = random_floats(40 * N, 5);
        for (std::int64_t M = 1; M <= 40; M = K == 33 ? M + 1 : M + 1 + M / 3) {
          CAPTURE(M);
          CAPTURE(N);
          CAPTURE(K);
          compare_products(table, tiles, w.stored(), x.floats, M, N, K, bias.floats, residual,
                           [&](const auto& found, const auto& expected) {
                             CHECK(first_difference(found, expected, M * N) == -1);
                           });
        }
      }
    }
  });
}

// Adds K products to a sum as tiles of 16 words do: numbers with even places and those with odd
// ones by themselves.
void add_by_tiles(float& sum, const float* x, const float* w, std::int64_t K) {
  for (std::int64_t tile = 0; tile < K; tile += 32) {
    float pair[2] = {};
    for (std::int64_t k = tile; k < std::min(K, tile + 32); ++k) {
      pair[k % 2] = std::fma(x[k], w[k], pair[k % 2]);
    }
    sum += pair[0] + pair[1];
  }
}

// The sum of K products, block by block.
float in_order_of_tiles(const float* x, const float* w, std::int64_t K) {
  float total = 0;
  for (std::int64_t block = 0; block < K; block += kSumBlock) {
    float sum = 0;
    add_by_tiles(sum, x + block, w + block, std::min(K - block, kSumBlock));
    total += sum;
  }
  return total;
}

TEST_CASE("bfloat16: the order of the manual for any number of rows, and its rounding errors") {
  with_tiles([](const KernelTable&, const KernelTable& tiles) {
    constexpr std::int64_t N = 3 * 64 + 21;  // three panels and a narrow one
    for (const std::int64_t K : {1, 2, 31, 32, 33, 70, 255, 256, 257, 555}) {
      const Halves w(N * K, 1), x(40 * K, 2);
      std::vector<float> expected(40 * N);
      std::vector<double> exact(40 * N), magnitude(40 * N);
      for (std::int64_t i = 0; i < 40 * N; ++i) {
        const float *row = x.floats.data() + i / N * K, *column = w.floats.data() + i % N * K;
        expected[i] = in_order_of_tiles(row, column, K);
        for (std::int64_t k = 0; k < K; ++k) {
          const double term = static_cast<double>(row[k]) * column[k];
          exact[i] += term;
          magnitude[i] += std::fabs(term);
        }
      }
      const Linear linear(tiles, N, K, w.stored(), nullptr);
      for (const std::int64_t M : kRows) {
        CAPTURE(M);
        CAPTURE(K);
        std::vector<float> out(M * N);
        Interrupt interrupt(nullptr);
        product(linear, M, x.floats.data(), K, nullptr, nullptr, out.data(), interrupt);
        std::int64_t others = 0;
        double worst = 0;
        for (std::int64_t i = 0; i < M * N; ++i) {
          others += !same(out[i], expected[i]);
          worst = std::max(worst, std::fabs(out[i] - exact[i]) / magnitude[i]);
        }
        CHECK(others == 0);
        // A product goes through 16 multiply-adds, the sum of two, at most 8 tiles of a block, and
        // the blocks, each with a rounding of 2^-24.
        CHECK(worst <= 0x1p-24 * static_cast<double>(16 + 1 + 8 + sum_blocks(K)));
      }
    }
  });
}

TEST_CASE("convolutions: rows that lie anywhere, taps that are summed together, slices") {
  with_tiles([](const KernelTable& table, const KernelTable& tiles) {
    const ConvShape shapes[] = {
        {40, 70, 1, {3, 1, 1, 1, 1}, {3, 1, 1, 1, 1}},
        {130, 66, 1, {3, 1, 1, 1, 1}, {3, 2}},
        {3, 64, 1, {5, 2, 1, 2, 2}, {7, 2, 1, 3, 3}},
        {17, 192, 1, {1}, {3, 1, 1, 2, 0}},
        {300, 64, 1, {3, 1, 1, 1, 1}, {3, 1, 1, 1, 1}},
        {64, 128, 2, {1}, {4, 3, 2, 1, 1}},
        {600, 64, 1, {1}, {3, 1, 1, 1, 1}},
    };
    for (const ConvShape& shape : shapes) {
      CAPTURE(&shape - shapes);
      const std::int64_t B = 2, H = 5, W = 23, K = shape.taps() * shape.group_inputs();
      const Halves x(B * H * W * shape.inputs, 1, true), halves(shape.outputs * K, 2, true);
      const Bytes bytes(shape.outputs * K, 1, 3);  // scales enough for each number
      const std::int64_t size =
          B * shape.vertical.outputs(H) * shape.horizontal.outputs(W) * shape.outputs;
      for (const StoredMatrix& w : {halves.stored(), bytes.stored()}) {
        std::vector<float> expected(size), found(size);
        ConvCall call{B, H, W, x.floats.data(), expected.data()};
        Interrupt interrupt(nullptr);
        convolve(Conv(table, shape, w, nullptr), call, interrupt);
        call.y = found.data();
        convolve(Conv(tiles, shape, w, nullptr), call, interrupt);
        CHECK(first_difference(found, expected, size) == -1);
      }
    }
  });
}

TEST_CASE("bfloat16: as many taps as fit share a block of a convolution") {
  with_tiles([](const KernelTable&, const KernelTable& tiles) {
    for (const std::int64_t C : {40, 100, 128, 200}) {
      constexpr std::int64_t kTaps = 7, D = 64, H = 12, W = 5;
      const ConvShape shape{C, D, 1, {kTaps, 1, 1, 0, 0}, {1}};
      const Halves x(H * W * C, 1), w(D * kTaps * C, 2);
      const std::int64_t rows = H - kTaps + 1, together = std::max<std::int64_t>(kSumBlock / C, 1);
      std::vector<float> expected, found(rows * W * D);
      for (std::int64_t i = 0; i < rows * W; ++i) {
        for (std::int64_t d = 0; d < D; ++d) {
          float total = 0, sum = 0;
          for (std::int64_t tap = 0; tap < kTaps; ++tap) {
            add_by_tiles(sum, x.floats.data() + (i + tap * W) * C,
                         w.floats.data() + (d * kTaps + tap) * C, C);
            if ((tap + 1) % together && tap + 1 < kTaps) continue;
            total += sum;
            sum = 0;
          }
          expected.push_back(total);
        }
      }
      const ConvCall call{1, H, W, x.floats.data(), found.data()};
      Interrupt interrupt(nullptr);
      convolve(Conv(tiles, shape, w.stored(), nullptr), call, interrupt);
      CAPTURE(C);
      CHECK(first_difference(found, expected, rows * W * D) == -1);
    }
  });
}

// The weights of a recurrent net in both forms.
struct CellNumbers {
  NetShape shape;
  Halves ih, hh, hr, bias_ih, bias_hh;
  Bytes ih8, hh8, hr8;

  CellNumbers(const NetShape& s, bool exact)
      : shape(s),
        ih(rows() * s.I, 1, exact),
        hh(rows() * s.state_size(), 2, exact),
        hr(s.P * s.H, 3, exact),
        bias_ih(rows(), 4, exact),
        bias_hh(rows(), 5, exact),
        ih8(rows(), s.I, 6),
        hh8(rows(), s.state_size(), 7),
        hr8(s.P, s.H, 8) {}

  std::int64_t rows() const { return shape.gates() * shape.H; }

  RecurrentStack pack(const KernelTable& table, Dtype dtype) const {
    const bool bytes = dtype == Dtype::int8;
    const CellWeights w{bytes ? ih8.stored() : ih.stored(),
                        bytes ? hh8.stored() : hh.stored(),
                        bias_ih.floats.data(),
                        bias_hh.floats.data(),
                        bytes ? hr8.stored() : hr.stored(),
                        nullptr};
    const CellOptions options{shape.f, shape.g, shape.h, shape.clip, shape.input_forget, nullptr};
    std::vector<Cell> cells;
    cells.emplace_back(table, CellShape{shape.mode, shape.I, shape.H, shape.P, shape.reset_after},
                       w, options);
    return RecurrentStack(Direction::forward, std::move(cells));
  }

  Sequence sequence(std::int64_t T, std::int64_t B, bool exact) const {
    Sequence s;
    s.T = T;
    s.B = B;
    s.x = Halves(T * B * shape.I, 9, exact).floats;
    s.h_0 = Halves(B * shape.state_size(), 10, exact).floats;
    if (shape.mode == Mode::lstm) s.c_0 = random_floats(B * shape.H, 11);
    return s;
  }
};

// Calls test(numbers) for cells around the panels: whole ones, one with a rest of units, and one
// whose last panel's gates share vectors.
template <class Test>
void for_each_cell(bool exact, Test test) {
  for (const Mode mode : {Mode::lstm, Mode::gru, Mode::rnn}) {
    // In int8, tiles multiply states of 200 numbers, but not shorter ones.
    for (const std::int64_t H : {16, 20, 24, 31, 64, 70, 200}) {
      for (const std::int64_t I : {1, 32, 70}) {
        if (H == 200 && I != 32) continue;
        NetShape shape;
        shape.mode = mode;
        shape.H = H;
        shape.I = I;
        if (mode == Mode::lstm && H == 31) shape.P = 65;
        if (I == 70) shape.clip = 0.75f;
        if (H == 24) shape.reset_after = false;
        CAPTURE(static_cast<int>(mode));
        CAPTURE(H);
        CAPTURE(I);
        test(CellNumbers(shape, exact));
      }
    }
  }
}

TEST_CASE("steps of cells: the bits of avx512_bf16, in bfloat16 where every sum is exact") {
  with_tiles([](const KernelTable& table, const KernelTable& tiles) {
    for_each_cell(true, [&](const CellNumbers& numbers) {
      for (const std::int64_t B : kRows) {
        CAPTURE(B);
        const Sequence three = numbers.sequence(3, B, true), one = numbers.sequence(1, B, true);
        CHECK(same_bits(run(numbers.pack(tiles, Dtype::int8), numbers.shape, three),
                        run(numbers.pack(table, Dtype::int8), numbers.shape, three)));
        if (numbers.shape.P) continue;  // what is projected is not exact
        if (!numbers.shape.reset_after && numbers.shape.mode == Mode::gru) continue;  // nor is r h
        CHECK(same_bits(run(numbers.pack(tiles, Dtype::bfloat16), numbers.shape, one),
                        run(numbers.pack(table, Dtype::bfloat16), numbers.shape, one)));
      }
    });
  });
}

// Returns the rows [first, first + count) of an array [outer, rows, size].
std::vector<float> part(const std::vector<float>& all, std::int64_t outer, std::int64_t first,
                        std::int64_t count) {
  if (all.empty()) return {};
  const auto block = static_cast<std::int64_t>(all.size()) / outer;
  return {all.begin() + first * block, all.begin() + (first + count) * block};
}

TEST_CASE("bfloat16: a sequence has the same bits in any batch and step by step") {
  with_tiles([](const KernelTable&, const KernelTable& tiles) {
    constexpr std::int64_t T = 9;
    for_each_cell(false, [&](const CellNumbers& numbers) {
      const NetShape& shape = numbers.shape;
      const RecurrentStack net = numbers.pack(tiles, Dtype::bfloat16);
      const std::int64_t B = 18, S = shape.state_size();
      const Sequence all = numbers.sequence(T, B, false);
      const Outputs<float> together = run_plain(net, shape, all);
      for (const std::int64_t count : {1, 3, 5}) {  // the first rows of the batch
        CAPTURE(count);
        Sequence some;
        some.T = T;
        some.B = count;
        for (std::int64_t t = 0; t < T; ++t) {
          const auto from = all.x.begin() + t * B * shape.I;
          some.x.insert(some.x.end(), from, from + count * shape.I);
        }
        some.h_0 = part(all.h_0, B, 0, count);
        some.c_0 = part(all.c_0, B, 0, count);
        const Outputs<float> alone = run_plain(net, shape, some);
        std::int64_t others = 0;
        for (std::int64_t t = 0; t < T; ++t) {
          others += first_difference(alone.y.data() + t * count * S, together.y.data() + t * B * S,
                                     count * S) != -1;
        }
        CHECK(others == 0);
      }
      Sequence step = all;
      step.T = 1;
      std::int64_t others = 0;
      for (std::int64_t t = 0; t < T; ++t) {
        step.x = part(all.x, T, t, 1);
        const Outputs<float> next = run_plain(net, shape, step);
        others += first_difference(next.y, together.y.data() + t * B * S, B * S) != -1;
        step.h_0 = next.h_n;
        step.c_0 = next.c_n;
      }
      CHECK(others == 0);
    });
  });
}

}  // namespace
}  // namespace treadle

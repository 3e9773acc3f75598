#include "net.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "guarded.h"
#include "values.h"

namespace treadle {
namespace {

double activate(const Activation& a, double x) {
  switch (a.function) {
    case ActivationFunction::linear:
      return x;
    case ActivationFunction::tanh:
      return std::tanh(x);
    case ActivationFunction::sigmoid:
      return 1 / (1 + std::exp(-x));
    case ActivationFunction::relu:
      return std::max(x, 0.0);
    case ActivationFunction::hard_sigmoid:
      return std::max(0.0, std::min(1.0, static_cast<double>(a.alpha) * x + a.beta));
    case ActivationFunction::softsign:
      return x / (1 + std::fabs(x));
    default:
      throw std::invalid_argument("net.cpp: no definition of this activation");
  }
}

double clipped(float limit, double x) {
  return limit > 0 ? std::max<double>(-limit, std::min<double>(limit, x)) : x;
}

double at(const std::vector<float>& values, std::int64_t i) {
  return values.empty() ? 0.0 : values[i];
}

}  // namespace

Net::Net(const NetShape& shape, unsigned seed) : shape_(shape) {
  const std::int64_t H = shape.H, S = shape.state_size(), GH = shape.gates() * H;
  const float scale = 1.5f / std::sqrt(static_cast<float>(H));
  for (std::int64_t i = 0; i < shape.layers * shape.directions(); ++i) {
    const std::int64_t inputs = i < shape.directions() ? shape.I : shape.directions() * S;
    const auto random = [&](std::int64_t count) { return random_floats(count, seed++, scale); };
    Weights w;
    w.ih = random(GH * inputs);
    w.hh = random(GH * S);
    if (shape.bias) {
      w.bias_ih = random(GH);
      w.bias_hh = random(GH);
    }
    if (shape.P) w.hr = random(shape.P * H);
    if (shape.peepholes) w.peepholes = random(3 * H);
    cells_.push_back(std::move(w));
  }
}

std::shared_ptr<const RecurrentStack> Net::pack(const KernelTable& table) const {
  const auto pointer = [](const std::vector<float>& v) { return v.empty() ? nullptr : v.data(); };
  const CellOptions options{shape_.f, shape_.g, shape_.h, shape_.clip, shape_.input_forget,
                            nullptr};
  std::vector<Cell> cells;
  for (std::size_t i = 0; i < cells_.size(); ++i) {
    const Weights& w = cells_[i];
    const std::int64_t inputs =
        static_cast<std::int64_t>(w.ih.size()) / (shape_.gates() * shape_.H);
    cells.emplace_back(table,
                       CellShape{shape_.mode, inputs, shape_.H, shape_.P, shape_.reset_after},
                       CellWeights{pointer(w.ih), pointer(w.hh), pointer(w.bias_ih),
                                   pointer(w.bias_hh), pointer(w.hr), pointer(w.peepholes)},
                       options);
  }
  return std::make_shared<const RecurrentStack>(shape_.direction, std::move(cells));
}

Sequence Net::sequence(std::int64_t T, std::int64_t B, unsigned seed) const {
  const std::int64_t cells = static_cast<std::int64_t>(cells_.size());
  Sequence s;
  s.T = T;
  s.B = B;
  s.x = random_floats(T * B * shape_.I, seed + 100, 2.0f);
  s.h_0 = random_floats(cells * B * shape_.state_size(), seed + 101);
  if (shape_.mode == Mode::lstm) s.c_0 = random_floats(cells * B * shape_.H, seed + 102);
  return s;
}

double Net::sum(const std::vector<float>& weights, std::int64_t row, std::int64_t inputs,
                const double* x) const {
  double total = 0;
  for (std::int64_t k = 0; k < inputs; ++k) total += weights[row * inputs + k] * x[k];
  return total;
}

// Replaces the state (h, c) of one row by the next one.
void Net::step(const Weights& w, std::int64_t inputs, const double* x, double* h, double* c) const {
  const std::int64_t H = shape_.H, S = shape_.state_size();
  const auto input = [&](std::int64_t row) {
    return sum(w.ih, row, inputs, x) + at(w.bias_ih, row);
  };
  const auto state = [&](std::int64_t row) { return sum(w.hh, row, S, h) + at(w.bias_hh, row); };
  const auto gate = [&](const Activation& a, double v) {
    return activate(a, clipped(shape_.clip, v));
  };
  std::vector<double> out(H);
  if (shape_.mode == Mode::rnn) {
    for (std::int64_t u = 0; u < H; ++u) out[u] = gate(shape_.g, input(u) + state(u));
  } else if (shape_.mode == Mode::lstm) {
    for (std::int64_t u = 0; u < H; ++u) {
      double i = input(u) + state(u), f = input(H + u) + state(H + u);
      const double g = gate(shape_.g, input(2 * H + u) + state(2 * H + u));
      i = gate(shape_.f, i + at(w.peepholes, u) * c[u]);
      f = gate(shape_.f, f + at(w.peepholes, 2 * H + u) * c[u]);
      if (shape_.input_forget) f = 1 - i;
      c[u] = f * c[u] + i * g;
      const double o = input(3 * H + u) + state(3 * H + u) + at(w.peepholes, H + u) * c[u];
      out[u] = gate(shape_.f, o) * activate(shape_.h, c[u]);
    }
    if (shape_.P) {
      std::vector<double> projected(S);
      for (std::int64_t p = 0; p < S; ++p) projected[p] = sum(w.hr, p, H, out.data());
      out = projected;
    }
  } else {
    std::vector<double> r(H), z(H), n(H), reset(H);
    for (std::int64_t u = 0; u < H; ++u) {
      r[u] = gate(shape_.f, input(u) + state(u));
      z[u] = gate(shape_.f, input(H + u) + state(H + u));
      reset[u] = r[u] * h[u];
    }
    for (std::int64_t u = 0; u < H; ++u) {
      const std::int64_t row = 2 * H + u;
      const double recurrent = shape_.reset_after
                                   ? r[u] * state(row)
                                   : sum(w.hh, row, H, reset.data()) + at(w.bias_hh, row);
      n[u] = gate(shape_.g, input(row) + recurrent);
      out[u] = (1 - z[u]) * n[u] + z[u] * h[u];
    }
  }
  std::copy(out.begin(), out.end(), h);
}

Outputs<double> Net::definition(const Sequence& s) const {
  const std::int64_t H = shape_.H, S = shape_.state_size(), D = shape_.directions();
  const std::int64_t cells = static_cast<std::int64_t>(cells_.size());
  Outputs<double> out;
  out.h_n.resize(cells * s.B * S);
  if (shape_.mode == Mode::lstm) out.c_n.resize(cells * s.B * H);
  std::vector<double> x(s.x.begin(), s.x.end());
  for (std::int64_t i = 0; i < cells; ++i) {
    const bool reverse = shape_.direction == Direction::reverse || i % D == 1;
    const std::int64_t inputs = i < D ? shape_.I : D * S;
    if (i % D == 0) {
      if (i) x = out.y;
      out.y.assign(s.T * s.B * D * S, 0.0);
    }
    for (std::int64_t b = 0; b < s.B; ++b) {
      std::vector<double> h(S), c(H), last(S);
      const auto set = [&](const std::vector<float>& new_h, const std::vector<float>& new_c) {
        for (std::int64_t u = 0; u < S; ++u) h[u] = at(new_h, (i * s.B + b) * S + u);
        for (std::int64_t u = 0; u < H; ++u) c[u] = at(new_c, (i * s.B + b) * H + u);
      };
      set(s.h_0, s.c_0);
      const std::int64_t length = s.lengths.empty() ? s.T : s.lengths[b];
      for (std::int64_t step_index = 0; step_index < length; ++step_index) {
        const std::int64_t t = reverse ? length - 1 - step_index : step_index;
        // A reset at t parts t - 1 from t, in both directions.
        const bool parted =
            !s.resets.empty() &&
            (reverse ? step_index > 0 && s.resets[(t + 1) * s.B + b] : s.resets[t * s.B + b] != 0);
        if (parted) set(s.reset_h, s.reset_c);
        if (s.mask.empty() || s.mask[b * s.T + t]) {
          step(cells_[i], inputs, x.data() + (t * s.B + b) * inputs, h.data(), c.data());
          last = h;
        }
        std::copy(last.begin(), last.end(), out.y.begin() + ((t * s.B + b) * D + i % D) * S);
      }
      std::copy(h.begin(), h.end(), out.h_n.begin() + (i * s.B + b) * S);
      if (!out.c_n.empty()) std::copy(c.begin(), c.end(), out.c_n.begin() + (i * s.B + b) * H);
    }
  }
  return out;
}

namespace {

template <class T>
struct Plain : std::vector<T> {
  using std::vector<T>::vector;
  Plain(const std::vector<T>& values) : std::vector<T>(values) {}
};

template <template <class> class Array>
Outputs<float> run_on(const RecurrentStack& net, const NetShape& shape, const Sequence& s) {
  const Array<float> x(s.x), h_0(s.h_0), c_0(s.c_0), reset_h(s.reset_h), reset_c(s.reset_c);
  const Array<std::int64_t> lengths(s.lengths);
  const Array<std::uint8_t> mask(s.mask), resets(s.resets);
  const std::int64_t cells = shape.layers * shape.directions();
  const std::int64_t width = shape.directions() * shape.state_size();
  Array<float> y(s.T * s.B * width), h_n(cells * s.B * shape.state_size());
  Array<float> c_n(shape.mode == Mode::lstm ? cells * s.B * shape.H : 0);
  const auto pointer = [](auto& array) { return array.size() ? array.data() : nullptr; };
  RunArgs a{};
  a.in.T = s.T;
  a.in.B = s.B;
  a.in.x = x.data();
  a.in.x_t = s.B * shape.I;
  a.in.x_b = shape.I;
  a.y = y.data();
  a.y_t = s.B * width;
  a.y_b = width;
  a.in.h_0 = pointer(h_0);
  a.in.c_0 = pointer(c_0);
  a.h_n = h_n.data();
  a.c_n = pointer(c_n);
  a.in.lengths = pointer(lengths);
  a.in.mask = pointer(mask);
  a.in.resets = pointer(resets);
  a.in.reset_h = pointer(reset_h);
  a.in.reset_c = pointer(reset_c);
  // These numbers stay where run does not write, so that a test sees it.
  std::fill(y.begin(), y.end(), 1e30f);
  std::fill(h_n.begin(), h_n.end(), 1e30f);
  std::fill(c_n.begin(), c_n.end(), 1e30f);
  Interrupt interrupt(nullptr);
  net.run(a, interrupt);
  return {{y.begin(), y.end()}, {h_n.begin(), h_n.end()}, {c_n.begin(), c_n.end()}};
}

}  // namespace

Outputs<float> run(const RecurrentStack& net, const NetShape& shape, const Sequence& s) {
  return run_on<Guarded>(net, shape, s);
}

Outputs<float> run_plain(const RecurrentStack& net, const NetShape& shape, const Sequence& s) {
  return run_on<Plain>(net, shape, s);
}

namespace {

double largest_error(const std::vector<float>& actual, const std::vector<double>& expected) {
  if (actual.size() != expected.size()) return INFINITY;
  double worst = 0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    const double error = std::fabs(actual[i] - expected[i]);
    worst = std::isnan(error) ? INFINITY : std::max(worst, error);
  }
  return worst;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && first_difference(a, b, static_cast<std::int64_t>(a.size())) == -1;
}

}  // namespace

double largest_error(const Outputs<float>& actual, const Outputs<double>& expected) {
  return std::max({largest_error(actual.y, expected.y), largest_error(actual.h_n, expected.h_n),
                   largest_error(actual.c_n, expected.c_n)});
}

bool same_bits(const Outputs<float>& a, const Outputs<float>& b) {
  return same_bits(a.y, b.y) && same_bits(a.h_n, b.h_n) && same_bits(a.c_n, b.c_n);
}

}  // namespace treadle

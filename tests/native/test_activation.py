"""Elementwise functions in units in the last place, on every ISA, over every exponent.

Numbers below the smallest normal one are read and written as zero, intermediate results too. So all
bounds have that number added twice: it matters to results of 1e-36 and less.
"""

import functools

import numpy as np
import pytest
import torch

import treadle
from reference import recurrent as reference
from support import activations
from support.sizes import around_powers
from support.tolerance import TINY, ulp


def _torch(function):
    return lambda x, a, b: function(torch.from_numpy(x)).numpy()


FLUSHED = 2 * TINY

# Functions that are no activations have their definition here.
FUNCTIONS = reference.ACTIVATIONS | {
    "exp": (lambda x, a, b: np.exp(x), 0, 0),
    "erf": (_torch(torch.special.erf), 0, 0),
    "log1p": (lambda x, a, b: np.log1p(x), 0, 0),  # of [0, 1]
}

# The largest error in ULP: on the ISA levels with a fused multiply-add, and on portable x86, which
# has none. Measured over all numbers of 2^-25 <= |x| < 2^8, one by one; rounded up to 1/100.
MAX_ULP = {
    "exp": (1.58, 1.58),
    "erf": (1.02, 1.25),
    "log1p": (1.97, 1.97),
    "tanh": (2.57, 2.61),
    "sigmoid": (2.49, 2.49),
    "relu": (0.00, 0.00),
    "linear": (0.00, 0.00),
    "softsign": (1.50, 1.50),
    "softplus": (2.80, 2.80),
    "hard_sigmoid-keras": (0.50, 0.61),
    "hard_sigmoid-onnx": (0.50, 0.74),
    "elu": (0.95, 1.07),
    "elu-0.7": (1.69, 1.61),
    "leaky_relu": (0.50, 0.50),
    "thresholded_relu": (0.00, 0.00),
    "affine": (0.50, 0.97),
    "scaled_tanh": (3.80, 3.80),
    # In units in the last place of x: for x < 0 they are a product of x with almost nothing.
    "gelu": (1.07, 1.36),
    "gelu_tanh": (1.84, 1.84),
    "silu": (1.83, 1.83),
    "hard_swish": (1.00, 1.17),
    "clip": (0.00, 0.00),
}


# case id -> (name, alpha, beta), the parameters being float32 numbers
CASES = {
    "exp": ("exp", 0, 0),
    "erf": ("erf", 0, 0),
    "log1p": ("log1p", 0, 0),
    "tanh": ("tanh", 0, 0),
    "sigmoid": ("sigmoid", 0, 0),
    "relu": ("relu", 0, 0),
    "linear": ("linear", 0, 0),
    "softsign": ("softsign", 0, 0),
    "softplus": ("softplus", 0, 0),
    "hard_sigmoid-keras": ("hard_sigmoid", np.float32(1 / 6), 0.5),
    "hard_sigmoid-onnx": ("hard_sigmoid", np.float32(0.2), 0.5),
    "elu": ("elu", 1, 0),
    "elu-0.7": ("elu", np.float32(0.7), 0),
    "leaky_relu": ("leaky_relu", np.float32(0.01), 0),
    "thresholded_relu": ("thresholded_relu", np.float32(0.3), 0),
    "affine": ("affine", np.float32(0.3), np.float32(0.4)),
    "scaled_tanh": ("scaled_tanh", np.float32(1.7), np.float32(0.6)),
    "gelu": ("gelu", 0, 0),
    "gelu_tanh": ("gelu_tanh", 0, 0),
    "silu": ("silu", 0, 0),
    "hard_swish": ("hard_swish", 0, 0),
    "clip": ("clip", -1.5, 6),
}


def test_every_function_has_a_case(source):
    """A function of the kernels, of the package or of the references has its cases in this file."""
    names = {name for name, _, _ in CASES.values()}
    assert names == set(activations.enumerated(source)) == set(FUNCTIONS)
    assert names - {"exp", "erf", "log1p"} == set(activations.NAMES) == set(reference.ACTIVATIONS)
    assert set(CASES) == set(MAX_ULP)


def apply(case, x):
    name, alpha, beta = CASES[case]
    return treadle._core.apply(name, x, float(alpha), float(beta))


def exact(case, x):
    """The function in float64, of x read with denormals as zero."""
    name, alpha, beta = CASES[case]
    x = np.where(np.abs(x) < TINY, 0, x).astype(np.float64)
    with np.errstate(all="ignore"):
        return FUNCTIONS[name][0](x, np.float64(alpha), np.float64(beta))


@functools.cache
def sweep(case):
    """Every exponent and sign with 1024 mantissas, more where functions bend; with results."""
    rng = np.random.default_rng(0)
    exponents = np.concatenate([np.repeat(np.arange(255), 1024), np.repeat(range(110, 135), 16384)])
    mantissas = rng.integers(0, 2**23, exponents.size)
    mantissas[::64] = 0  # the powers of two
    mantissas[1::64] = 2**23 - 1
    positive = (exponents.astype(np.uint32) << 23 | mantissas.astype(np.uint32)).view(np.float32)
    x = np.concatenate([positive, -positive])
    if case == "log1p":
        x = positive[positive <= 1]
    return x, exact(case, x)


def largest_error(case):
    """In ULP over the sweep, beyond what flushing intermediate results to zero can do."""
    x, expected = sweep(case)
    actual = apply(case, x)
    assert actual.dtype == np.float32
    assert actual.shape == x.shape
    limit = np.float64(np.finfo(np.float32).max)
    over, under = np.abs(expected) > limit, np.abs(expected) < TINY
    # Beyond the range: infinity, or the largest number where the exact result rounds to that.
    np.testing.assert_array_equal(np.sign(actual[over]), np.sign(expected[over]))
    assert (np.abs(actual[over]) >= limit).all()
    one = scale(case, x, expected)
    assert (np.abs(actual[under]) <= TINY + one[under]).all()
    normal = ~over & ~under
    error = np.abs(actual[normal] - expected[normal]) - FLUSHED
    return float((np.maximum(error, 0) / one[normal]).max())


def scale(case, x, expected):
    """One ULP of the result; without fma, of the larger term of a sum that may cancel."""
    name, alpha, beta = CASES[case]
    size = np.abs(expected)
    if name in ("gelu", "gelu_tanh", "silu", "hard_swish"):
        size = np.abs(x)
    if name in ("affine", "hard_sigmoid") and treadle.isa() == "portable":
        size = np.maximum(size, np.maximum(np.abs(np.float64(alpha) * x), np.float64(beta)))
    return ulp(size)


@pytest.mark.parametrize("case", CASES)
def test_error(isa, case):
    worst = largest_error(case)
    bound = MAX_ULP[case][isa == "portable"]
    assert worst <= bound, f"{case} errs by {worst:.4f} ULP on {isa}, measured before: {bound}"


def test_gelu_of_negative_numbers(isa):
    """Keeps its digits where x (1 + erf) / 2 has none left; by 1.2e-5 at most, measured."""
    x = np.linspace(-5.5, -1e-3, 100_000, dtype=np.float32)
    expected = (
        x * torch.special.erfc(torch.from_numpy(-x.astype(np.float64)) * 0.5**0.5).numpy() / 2
    )
    np.testing.assert_allclose(apply("gelu", x), expected, rtol=2e-5)


NAN, INF, BIG = np.nan, np.inf, 3.4028235e38
SPECIAL = {
    # x, then the results of: NaN, inf, -inf, 0.0, -0.0, the largest number, minus that, a denormal
    "exp": [NAN, INF, 0.0, 1.0, 1.0, INF, 0.0, 1.0],
    "erf": [NAN, 1.0, -1.0, 0.0, -0.0, 1.0, -1.0, 0.0],
    "tanh": [NAN, 1.0, -1.0, 0.0, -0.0, 1.0, -1.0, 0.0],
    "sigmoid": [NAN, 1.0, 0.0, 0.5, 0.5, 1.0, 0.0, 0.5],
    "relu": [NAN, INF, 0.0, 0.0, 0.0, BIG, 0.0, 0.0],
    "linear": [NAN, INF, -INF, 0.0, -0.0, BIG, -BIG, 0.0],
    "softsign": [NAN, NAN, NAN, 0.0, -0.0, 1.0, -1.0, 0.0],  # inf / inf, as the formula says
    "hard_sigmoid-onnx": [NAN, 1.0, 0.0, 0.5, 0.5, 1.0, 0.0, 0.5],
    "elu": [NAN, INF, -1.0, 0.0, 0.0, BIG, -1.0, 0.0],
    "leaky_relu": [NAN, INF, -INF, 0.0, 0.0, BIG, np.float32(0.01) * -BIG, 0.0],
    "thresholded_relu": [NAN, INF, 0.0, 0.0, 0.0, BIG, 0.0, 0.0],
    "gelu": [NAN, INF, NAN, 0.0, 0.0, BIG, 0.0, 0.0],  # inf * 0, as the formula says
    "gelu_tanh": [NAN, INF, NAN, 0.0, 0.0, BIG, 0.0, 0.0],
    "silu": [NAN, INF, NAN, 0.0, 0.0, BIG, 0.0, 0.0],
    "hard_swish": [NAN, INF, NAN, 0.0, 0.0, BIG, 0.0, 0.0],
    "clip": [NAN, 6.0, -1.5, 0.0, -0.0, 6.0, -1.5, 0.0],
}


@pytest.mark.parametrize("case", SPECIAL)
def test_special_values(isa, case):
    """At every position of a vector, so that no lane and no tail is left out."""
    x = np.float32([NAN, INF, -INF, 0.0, -0.0, BIG, -BIG, 1e-41])
    expected = np.float32(SPECIAL[case])
    for value, result in zip(x, expected, strict=True):
        actual = apply(case, np.full(37, value))
        np.testing.assert_allclose(actual, result, rtol=1e-7, atol=TINY)
    if np.signbit(expected[4]):
        assert np.signbit(apply(case, np.float32([-0.0] * 37))).all()


@pytest.mark.parametrize("case", ["tanh", "erf", "softsign", "linear", "scaled_tanh"])
def test_odd_functions_are_odd_to_the_last_bit(isa, case):
    x, _ = sweep(case)
    np.testing.assert_array_equal(apply(case, -x), -apply(case, x))


@pytest.mark.parametrize("case", ["tanh", "sigmoid", "erf", "exp", "softplus"])
def test_range(isa, case):
    """A gate never leaves [0, 1], a squashed value never [-1, 1]."""
    x, _ = sweep(case)
    y = apply(case, x)
    low, high = {"tanh": (-1, 1), "erf": (-1, 1), "sigmoid": (0, 1)}.get(case, (0, y.max()))
    assert y.min() == low
    assert y.max() == high


@pytest.mark.parametrize("case", CASES)
def test_every_tail(isa, case):
    """An element's result does not depend on its position or on what stands beside it."""
    x = np.abs(np.random.default_rng(0).standard_normal(200, np.float32)) / 4
    whole = apply(case, x)
    for size in around_powers(70):
        for start in (0, 1, 3):
            part = apply(case, x[start : start + size])
            np.testing.assert_array_equal(part, whole[start : start + size])


def test_every_case_has_a_measured_bound():
    """On every ISA level: one that is new has to be measured first."""
    assert set(MAX_ULP) == set(CASES)
    known = {"portable", "avx2", "avx512", "avx512_bf16"}
    known |= {"neon", "neon_dotprod", "neon_i8mm", "neon_bf16"}  # fused, as all but portable x86
    known |= {"amx"}  # its functions are avx512_bf16's
    assert set(treadle.available_isas()) <= known


def test_unknown_name_and_wrong_arrays():
    x = np.zeros(3, np.float32)
    with pytest.raises(ValueError, match="nosuch"):
        treadle._core.apply("nosuch", x)
    with pytest.raises((TypeError, ValueError), match="x"):
        treadle._core.apply("tanh", x.astype(np.float64))
    with pytest.raises((TypeError, ValueError), match="x"):
        treadle._core.apply("tanh", x[None])

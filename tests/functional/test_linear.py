"""linear: y = x W^T + b within a few eps * sum|a||b| for every element, on every ISA."""

import numpy as np
import pytest

import treadle
from support import samples
from support.sizes import around_powers
from support.tolerance import assert_product, assert_same_bits

SIZES = around_powers(40)


def product(m, n, k, *, bias=True):
    x, weight = samples.normal([1, m, k], m, k), samples.normal([2, n, k], n, k)
    return x, weight, samples.normal([3, n], n) if bias else None


@pytest.mark.parametrize("m", SIZES, ids=lambda m: f"M{m}")
def test_rows(isa, m):
    """Every number of rows around the row block, columns around the panel."""
    for n in (1, 15, 16, 17, 33):
        x, weight, bias = product(m, n, 20)
        assert_product(treadle.functional.linear(x, weight, bias), x, weight, bias)


@pytest.mark.parametrize("n", around_powers(130), ids=lambda n: f"N{n}")
def test_columns(isa, n):
    for m in (1, 2, 7):
        x, weight, _ = product(m, n, 11, bias=False)
        assert_product(treadle.functional.linear(x, weight), x, weight)


@pytest.mark.parametrize("k", [*SIZES, 257, 1000, 4099], ids=lambda k: f"K{k}")
def test_depth(isa, k):
    """K = 0 is an empty sum: the bias alone."""
    for m, n in ((1, 9), (14, 40)):
        x, weight, bias = product(m, n, k)
        assert_product(treadle.functional.linear(x, weight, bias), x, weight, bias)


def test_cancellation(isa):
    """Terms of 1e4 that cancel to about 1: the bound is of the terms, not of the sum."""
    x, weight, bias = product(5, 19, 300)
    x[:, 1::2] = x[:, ::2] * 1e4
    weight[:, 1::2] = -weight[:, ::2]
    x[:, ::2] *= 1e4
    assert_product(treadle.functional.linear(x, weight, bias), x, weight, bias)


def test_special_values(isa):
    """NaN and infinity reach their row or column only, as in the formula."""
    x, weight, bias = product(9, 37, 21)
    clean = treadle.functional.linear(x, weight, bias)
    x[3, 5], weight[20, 7], bias[30] = np.nan, np.inf, -np.inf
    x[4, 7] = 0  # 0 * inf
    with np.errstate(invalid="ignore"):
        expected = x @ weight.T + bias
    result = treadle.functional.linear(x, weight, bias)
    bad = ~np.isfinite(expected)
    np.testing.assert_array_equal(result[bad], expected[bad])
    touched = bad.copy()
    touched[4] = True  # its x changed
    assert_same_bits(result[~touched], clean[~touched])


@pytest.mark.parametrize("k", [1, 7, 64, 501], ids=lambda k: f"K{k}")
def test_a_row_does_not_see_its_neighbours(isa, threads, k):
    """A row gets the same bits alone, at another position, and within any batch."""
    x, weight, bias = product(33, 50, k)
    whole = treadle.functional.linear(x, weight, bias)
    for row in (0, 1, 13, 32):
        assert_same_bits(
            whole[row : row + 1], treadle.functional.linear(x[row : row + 1], weight, bias)
        )
    assert_same_bits(whole[5:29], treadle.functional.linear(x[5:29], weight, bias))
    assert_same_bits(whole[::-1], treadle.functional.linear(x[::-1], weight, bias))


def test_columns_do_not_see_their_neighbours(isa):
    x, weight, bias = product(6, 70, 65)
    whole = treadle.functional.linear(x, weight, bias)
    for columns in (slice(0, 1), slice(69, 70), slice(3, 20), slice(31, 64)):
        part = treadle.functional.linear(x, weight[columns], bias[columns])
        assert_same_bits(whole[:, columns], part)


def test_core(isa):
    """The native function: the same, with the same checks."""
    x, weight, bias = product(6, 70, 65)
    assert_same_bits(
        treadle._core.linear(x, weight, bias), treadle.functional.linear(x, weight, bias)
    )
    with pytest.raises(ValueError, match=r"linear: x .*\(6, 65\).*K = 64"):
        treadle._core.linear(x, np.ascontiguousarray(weight[:, 1:]), bias)


@pytest.mark.parametrize("activation", ["relu", "gelu", "gelu_tanh", "silu", ("elu", 0.5)])
def test_epilogue(isa, activation):
    """A call gives the same bits as product, activation and sum one after the other."""
    x, weight, bias = product(13, 37, 29)
    residual = samples.normal(4, 13, 37)
    linear = treadle.functional.linear
    plain = linear(x, weight, bias)
    name, alpha, beta = treadle.layers.activation.parse("test", "activation", activation)
    after = treadle._core.apply(name, plain.ravel(), alpha, beta).reshape(plain.shape)
    assert_same_bits(linear(x, weight, bias, activation=activation), after)
    assert_same_bits(linear(x, weight, bias, residual=residual), plain + residual)
    both = linear(x, weight, bias, activation=activation, residual=residual)
    assert_same_bits(both, after + residual)


def test_wrong_epilogue():
    x, weight, bias = product(3, 4, 5)
    for residual in (np.zeros((3, 5), np.float32), np.zeros(4, np.float32), 0.0):
        with pytest.raises(ValueError, match=r"^treadle\.functional\.linear: residual "):
            treadle.functional.linear(x, weight, bias, residual=np.float32(residual))
    with pytest.raises(TypeError, match=r"^treadle\.functional\.linear: residual .*float64"):
        treadle.functional.linear(x, weight, bias, residual=np.zeros((3, 4)))
    for dtype in ("float64", None, 8):
        with pytest.raises(ValueError, match=r"^treadle\.functional\.linear: dtype "):
            treadle.functional.linear(x, weight, bias, dtype=dtype)
    with pytest.raises(ValueError, match=r"^treadle\.functional\.linear: activation "):
        treadle.functional.linear(x, weight, bias, activation="nosuch")

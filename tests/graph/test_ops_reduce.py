"""Reductions, ArgMax, ArgMin and CumSum against NumPy in float64."""

import itertools

import numpy as np
import pytest

from support.nodes import numbers, run

F4 = np.finfo(np.float32).eps

FUNCTIONS = {
    "ReduceSum": np.sum,
    "ReduceMean": np.mean,
    "ReduceProd": np.prod,
    "ReduceL1": lambda x, axis, keepdims: np.abs(x).sum(axis, keepdims=keepdims),
    "ReduceL2": lambda x, axis, keepdims: np.sqrt((x * x).sum(axis, keepdims=keepdims)),
    "ReduceSumSquare": lambda x, axis, keepdims: (x * x).sum(axis, keepdims=keepdims),
    "ReduceLogSum": lambda x, axis, keepdims: np.log(x.sum(axis, keepdims=keepdims)),
    "ReduceLogSumExp": lambda x, axis, keepdims: np.log(np.exp(x).sum(axis, keepdims=keepdims)),
    "ReduceMax": np.max,
    "ReduceMin": np.min,
}


def subsets(rank):
    return [s for n in range(1, rank + 1) for s in itertools.combinations(range(rank), n)]


@pytest.mark.parametrize("op", FUNCTIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_choice_of_axes(op, dtype):
    """Sums are made in float64: what is left is the rounding of the result."""
    rng = np.random.default_rng(0)
    for shape in [(5,), (3, 70), (2, 3, 4), (3, 1, 2, 5), (2, 3, 2, 3, 2)]:
        x = rng.uniform(0.5, 1.5, shape).astype(dtype)
        for axes in subsets(len(shape)):
            for keep in (0, 1):
                exact = FUNCTIONS[op](x.astype(float), axis=axes, keepdims=bool(keep))
                actual = run(op, x, np.array(axes) - len(shape) * keep, keepdims=keep)
                assert actual.dtype == dtype
                assert actual.shape == exact.shape
                # A sum of logarithms near 0 keeps the errors of its numbers.
                eps = 2 * np.finfo(dtype).eps if dtype == "float32" else 1e-14
                np.testing.assert_allclose(actual, exact, rtol=eps, atol=eps)


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint32", "uint64"])
def test_integers(dtype):
    x = numbers(np.random.default_rng(1), (3, 4, 5), dtype)
    for axis in range(3):
        for op in ("ReduceSum", "ReduceProd", "ReduceMax", "ReduceMin", "ReduceSumSquare"):
            exact = FUNCTIONS[op](x.astype(np.int64), axis=axis, keepdims=True).astype(dtype)
            np.testing.assert_array_equal(run(op, x, np.array([axis])), exact)
        mean = np.trunc(x.astype(np.int64).mean(axis, keepdims=True)).astype(dtype)
        np.testing.assert_array_equal(run("ReduceMean", x, np.array([axis])), mean)


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint32", "uint64"])
def test_exponentials_of_integers(dtype):
    """Exponentials are summed in float64; the logarithm loses its fraction, and does not wrap."""
    info = np.iinfo(dtype)
    x = np.array([[1, 0, 0, 0, 0, 0], [info.max] * 6, [info.max, info.min, 1, 1, 1, 1]], dtype)
    expected = np.array([2, info.max, info.max], dtype)
    assert int(np.log(np.exp(x[0].astype(float)).sum())) == expected[0]
    np.testing.assert_array_equal(run("ReduceLogSumExp", x, np.array([1]), keepdims=0), expected)
    columns = np.ascontiguousarray(x.T)
    actual = run("ReduceLogSumExp", columns, np.array([0]), keepdims=0)
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int16"])
def test_small_types_have_an_order(dtype):
    x = numbers(np.random.default_rng(2), (3, 40), dtype)
    np.testing.assert_array_equal(run("ReduceMax", x, np.array([1])), x.max(1, keepdims=True))
    np.testing.assert_array_equal(run("ReduceMin", x, np.array([0])), x.min(0, keepdims=True))
    with pytest.raises(ValueError, match=f"dtype {dtype}"):
        run("ReduceSum", x)


def test_axes_that_are_absent_or_empty():
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    none = np.array([], np.int64)
    assert run("ReduceSum", x).tolist() == [[15]]
    assert run("ReduceSum", x, none, keepdims=0).shape == ()
    np.testing.assert_array_equal(run("ReduceSum", x, none, noop_with_empty_axes=1), x)
    np.testing.assert_array_equal(run("ReduceSum", x, noop_with_empty_axes=1), x)
    assert run("ReduceSum", x[0, 2]) == 2


def test_nothing_to_reduce():
    x = np.zeros((2, 0, 3), np.float32)
    expected = {"ReduceSum": 0, "ReduceProd": 1, "ReduceMax": -np.inf, "ReduceMin": np.inf}
    expected |= {"ReduceMean": np.nan, "ReduceL2": 0, "ReduceLogSumExp": -np.inf}
    expected |= {"ReduceLogSum": -np.inf}
    for op, value in expected.items():
        np.testing.assert_array_equal(run(op, x, np.array([1])), np.full((2, 1, 3), value))
        assert run(op, x, np.array([0])).shape == (1, 0, 3)
    low = np.iinfo(np.int32).min
    assert run("ReduceMax", x.astype(np.int32), np.array([1]))[0, 0, 0] == low


def test_infinity_and_nan():
    x = np.array([[-np.inf, -np.inf], [np.inf, 1], [np.nan, 1], [1000, 1000]], np.float32)
    with np.errstate(all="ignore"):
        actual = run("ReduceLogSumExp", x, np.array([1]), keepdims=0)
    np.testing.assert_allclose(actual, [-np.inf, np.inf, np.nan, 1000 + np.log(2)], rtol=F4)
    np.testing.assert_array_equal(
        run("ReduceMax", x, np.array([1]), keepdims=0)[1:3], [np.inf, np.nan]
    )
    np.testing.assert_array_equal(run("ReduceMin", x, np.array([0]), keepdims=0), [np.nan, -np.inf])


def test_bits_depend_on_the_numbers_alone(threads):
    """A reduction has the same bits alone, in a batch, and along another axis."""
    rng = np.random.default_rng(3)
    x = (rng.standard_normal((50, 3001)) * 10.0 ** rng.integers(-6, 6, (50, 3001))).astype("f4")
    for op in ("ReduceSum", "ReduceMean", "ReduceL2", "ReduceLogSumExp", "ReduceProd"):
        rows = run(op, x, np.array([1]), keepdims=0)
        np.testing.assert_array_equal(run(op, x[7:8], np.array([1]), keepdims=0), rows[7:8])
        columns = run(op, np.ascontiguousarray(x.T), np.array([0]), keepdims=0)
        np.testing.assert_array_equal(columns, rows)
        both = run(op, x.reshape(50, 1, 3001, 1), np.array([2, 1]), keepdims=0)
        np.testing.assert_array_equal(both[:, 0], rows)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64", "uint8"])
def test_arg(dtype):
    x = numbers(np.random.default_rng(4), (4, 7, 5), dtype)
    for axis in (0, 1, 2, -1):
        for op, function in {"ArgMax": np.argmax, "ArgMin": np.argmin}.items():
            exact = function(x, axis=axis)
            actual = run(op, x, axis=axis, keepdims=0)
            np.testing.assert_array_equal(actual, exact)
            assert actual.dtype == np.int64
            last = x.shape[axis] - 1 - function(np.flip(x, axis), axis=axis)
            kept = run(op, x, axis=axis, select_last_index=1)
            np.testing.assert_array_equal(kept, np.expand_dims(last, axis))


def test_arg_of_nan():
    x = np.array([1, np.nan, 3, np.nan], np.float32)
    assert run("ArgMax", x) == 1
    assert run("ArgMin", x) == 1
    assert run("ArgMax", x, select_last_index=1) == 3


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64"])
def test_cum_sum(dtype):
    x = numbers(np.random.default_rng(5), (3, 4, 5), dtype)
    for axis in range(-3, 3):
        exact = np.cumsum(x, axis, dtype=dtype)
        np.testing.assert_array_equal(run("CumSum", x, np.array(axis)), exact)
        np.testing.assert_array_equal(run("CumSum", x, np.array([axis]), exclusive=1), exact - x)
        back = np.flip(np.cumsum(np.flip(x, axis), axis, dtype=dtype), axis)
        np.testing.assert_array_equal(run("CumSum", x, np.array(axis), reverse=1), back)
        both = run("CumSum", x, np.array(axis), reverse=1, exclusive=1)
        np.testing.assert_array_equal(both, back - x)


F = np.zeros((2, 3), np.float32)


@pytest.mark.parametrize(
    ("op", "inputs", "attributes"),
    [
        ("ReduceSum", [F, np.array([2])], {}),
        ("ReduceSum", [F, np.array([0, -2])], {}),
        ("ReduceSum", [F, np.array([0.0])], {}),
        ("ReduceSum", [F > 0], {}),
        ("ArgMax", [F], {"axis": 2}),
        ("ArgMax", [F[:, :0]], {"axis": 1}),
        ("ArgMin", [F > 0], {}),
        ("CumSum", [F, np.array(2)], {}),
        ("CumSum", [F, np.array([0, 1])], {}),
        ("CumSum", [F > 0, np.array(0)], {}),
        ("CumSum", [F], {}),
    ],
)
def test_refused(op, inputs, attributes):
    with pytest.raises(ValueError, match="the_node"):
        run(op, *inputs, **attributes)

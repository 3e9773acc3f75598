"""Operators that read, write or choose elements by index, against NumPy."""

import numpy as np
import pytest

from support.nodes import DTYPES, numbers, run


def values(shape, dtype="float32", seed=0):
    return numbers(np.random.default_rng(seed), shape, dtype)


def same(actual, expected):
    np.testing.assert_array_equal(actual, expected)
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape


@pytest.mark.parametrize("dtype", DTYPES)
def test_gather(dtype):
    rng = np.random.default_rng(1)
    x = values((4, 5, 3), dtype)
    for axis in (0, 1, 2, -1):
        for shape in [(), (1,), (0,), (3,), (2, 4)]:
            indices = rng.integers(-x.shape[axis], x.shape[axis], shape)
            same(run("Gather", x, indices, axis=axis), np.take(x, indices, axis))
            same(run("Gather", x, indices.astype(np.int32), axis=axis), np.take(x, indices, axis))


def test_gather_with_threads(threads):
    x = values((1000, 64))
    indices = np.random.default_rng(2).integers(0, 1000, 20000)
    same(run("Gather", x, indices), x[indices])


@pytest.mark.parametrize("dtype", DTYPES)
def test_elements(dtype):
    rng = np.random.default_rng(3)
    x = values((4, 5, 3), dtype)
    for axis in range(-3, 3):
        shape = [3, 4, 2]
        shape[axis] = 6
        indices = rng.integers(-x.shape[axis], x.shape[axis], shape)
        grid = list(np.indices(shape, sparse=True))
        grid[axis] = indices
        same(run("GatherElements", x, indices, axis=axis), x[tuple(grid)])
        indices = np.argsort(rng.random((3, 3, 2)), axis=axis)
        grid = list(np.indices(indices.shape, sparse=True))
        grid[axis] = indices
        updates = values(indices.shape, dtype, 4)
        expected = x.copy()
        expected[tuple(grid)] = updates
        same(run("ScatterElements", x, indices, updates, axis=axis), expected)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64", "uint8"])
@pytest.mark.parametrize(
    ("reduction", "function"),
    [("add", np.add), ("mul", np.multiply), ("min", np.minimum), ("max", np.maximum)],
)
def test_reductions_of_scatters(dtype, reduction, function):
    x = values((4, 3), dtype)
    indices = np.array([[0, 1, 1], [0, -1, 1]])
    updates = values((2, 3), dtype, 1)
    expected = x.copy()
    for i in range(2):
        for j in range(3):
            expected[indices[i, j], j] = function(expected[indices[i, j], j], updates[i, j])
    same(run("ScatterElements", x, indices, updates, reduction=reduction), expected)
    expected = x.copy()
    rows = np.array([[1], [1], [-1]])
    updates = values((3, 3), dtype, 2)
    function.at(expected, rows[:, 0], updates)
    same(run("ScatterND", x, rows, updates, reduction=reduction), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_tuples_of_indices(dtype):
    rng = np.random.default_rng(5)
    x = values((3, 4, 5, 2), dtype)
    for k in range(1, 5):
        indices = np.stack([rng.integers(-n, n, (2, 3)) for n in x.shape[:k]], axis=-1)
        same(run("GatherND", x, indices), x[tuple(np.moveaxis(indices, -1, 0))].copy())
    for k in range(1, 4):
        indices = np.stack([rng.integers(-n, n, (3, 6)) for n in x.shape[1 : 1 + k]], axis=-1)
        expected = np.stack([x[b][tuple(np.moveaxis(indices[b], -1, 0))] for b in range(3)])
        same(run("GatherND", x, indices, batch_dims=1), expected)
    places = np.array([[0, 1], [2, -1], [1, 0]])
    updates = values((3, 5, 2), dtype, 6)
    expected = x.copy()
    expected[places[:, 0], places[:, 1]] = updates
    same(run("ScatterND", x, places, updates), expected)


def test_one_hot():
    indices = np.array([[0, 2], [-1, 7]])
    pair = np.array([5, 9], np.int32)
    expected = np.full((2, 2, 3), 5, np.int32)
    expected[0, 0, 0] = expected[0, 1, 2] = expected[1, 0, 2] = 9
    same(run("OneHot", indices, np.array(3), pair), expected)
    for axis in range(-3, 3):
        moved = np.moveaxis(expected, -1, axis).copy()
        same(run("OneHot", indices.astype(np.float32), np.array([3.0]), pair, axis=axis), moved)
    assert run("OneHot", indices, np.array(0), pair).shape == (2, 2, 0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_choices(dtype):
    rng = np.random.default_rng(7)
    x = values((3, 1, 5), dtype)
    y = values((4, 1), dtype, 1)
    for shape in [(), (5,), (3, 4, 5), (2, 1, 1, 1)]:
        condition = rng.random(shape) < 0.5
        same(run("Where", condition, x, y), np.where(condition, x, y))
    some = np.array([True, False, True])
    same(run("Compress", x, some, axis=0), x[some])
    same(run("Compress", x, some, axis=-1), x[..., [0, 2]].copy())
    same(run("Compress", x, some), x.reshape(-1)[[0, 2]])
    same(run("NonZero", x), np.array(np.nonzero(x), np.int64))


@pytest.mark.parametrize("dtype", DTYPES[1:])
def test_top_k(dtype, threads):
    x = values((3, 20, 4), dtype)
    for axis in range(3):
        for k in (0, 1, 3, x.shape[axis]):
            for largest in (0, 1):
                key = -x.astype(np.int64) if largest else x.astype(np.int64)
                order = np.argsort(key, axis, kind="stable").take(np.arange(k), axis)
                numbers_of, indices = run(
                    "TopK", x, np.array([k]), outputs=2, axis=axis, largest=largest
                )
                same(indices, order)
                same(numbers_of, np.take_along_axis(x, order, axis))


def test_top_k_of_nan():
    x = np.array([1, np.nan, 3, np.nan, 2], np.float32)
    assert run("TopK", x, np.array([3]), outputs=2)[1].tolist() == [1, 3, 2]
    assert run("TopK", x, np.array([3]), outputs=2, largest=0)[1].tolist() == [0, 4, 2]


@pytest.mark.parametrize("dtype", ["float32", "int64", "uint8", "bool"])
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_unique(dtype, axis):
    x = (values((4, 3, 2), dtype) % 2).astype(dtype)
    x[2] = x[0]
    named = {} if axis is None else {"axis": axis}
    y, first, inverse, counts = np.unique(
        x, return_index=True, return_inverse=True, return_counts=True, axis=axis
    )
    actual = run("Unique", x, outputs=4, **named)
    for one, expected in zip(actual, (y, first, inverse.reshape(-1), counts), strict=True):
        same(one, expected)
    order = np.argsort(first)
    shown = run("Unique", x, outputs=4, sorted=0, **named)
    same(shown[1], first[order])
    same(shown[0], y[order] if axis is None else np.take(y, order, axis))
    same(shown[2], np.argsort(order)[inverse.reshape(-1)])
    same(shown[3], counts[order])


F = np.zeros((2, 3), np.float32)
I0 = np.array([[0]])


@pytest.mark.parametrize(
    ("op", "inputs", "attributes"),
    [
        ("Gather", [F, np.array([2])], {}),
        ("Gather", [F, np.array([-3])], {}),
        ("Gather", [F, np.array([np.iinfo(np.int64).min])], {}),
        ("Gather", [F, np.array([0.0])], {}),
        ("Gather", [F, np.array([0])], {"axis": 2}),
        ("Gather", [F[0, 0], np.array([0])], {}),
        ("Gather", [F[:, :0], np.array([0])], {"axis": 1}),
        ("Gather", [F, np.zeros((1,) * 8, np.int64)], {}),
        ("GatherElements", [F, np.array([0])], {}),
        ("GatherElements", [F, np.zeros((1, 4), np.int64)], {}),
        ("GatherElements", [F, np.full((1, 3), 2)], {}),
        ("ScatterElements", [F, I0, F], {}),
        ("ScatterElements", [F, I0 + 2, F[:1, :1]], {}),
        ("ScatterElements", [F, I0, np.zeros((1, 1))], {}),
        ("ScatterElements", [F, I0, F[:1, :1]], {"reduction": "other"}),
        ("GatherND", [F, np.array(0)], {}),
        ("GatherND", [F, np.zeros((1, 3), np.int64)], {}),
        ("GatherND", [F, np.zeros((1, 0), np.int64)], {}),
        ("GatherND", [F, np.array([[0, 3]])], {}),
        ("GatherND", [F, np.array([[0]])], {"batch_dims": 2}),
        ("GatherND", [F, np.array([[0], [0], [0]])], {"batch_dims": 1}),
        ("ScatterND", [F, I0, F], {}),
        ("ScatterND", [F, I0 + 2, F[:1]], {}),
        ("OneHot", [I0, np.array(-1), np.zeros(2)], {}),
        ("OneHot", [I0, np.array([1, 1]), np.zeros(2)], {}),
        ("OneHot", [I0, np.array(1), np.zeros(3)], {}),
        ("OneHot", [I0, np.array(np.nan), np.zeros(2)], {}),
        ("Where", [F, F, F], {}),
        ("Where", [F > 0, F, F.astype(float)], {}),
        ("Where", [F > 0, F, F[:, :2]], {}),
        ("Compress", [F, np.ones(3, bool)], {"axis": 0}),
        ("Compress", [F, np.ones((1, 1), bool)], {}),
        ("TopK", [F, np.array([4])], {}),
        ("TopK", [F, np.array([-1])], {}),
        ("TopK", [F, np.array([1])], {"axis": 2}),
        ("Unique", [F], {"axis": 2}),
    ],
)
def test_refused(op, inputs, attributes):
    with pytest.raises(ValueError, match="the_node"):
        run(op, *inputs, outputs=1, **attributes)

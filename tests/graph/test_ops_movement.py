"""Operators that move elements, against NumPy, for every dtype."""

import itertools

import numpy as np
import pytest

from support.nodes import DTYPES, numbers, run

SHAPES = [(), (0,), (5,), (2, 3), (3, 1, 4), (2, 0, 3), (70, 33), (2, 3, 4, 5), (2, 1, 2, 1, 3, 2)]


def values(shape, dtype="float32", seed=0):
    return numbers(np.random.default_rng(seed), shape, dtype)


def same(actual, expected):
    np.testing.assert_array_equal(actual, expected)
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(2, 3), (65, 70), (3, 4, 5), (2, 1, 40, 33)])
def test_transpose_of_every_dtype(dtype, shape):
    x = values(shape, dtype)
    same(run("Transpose", x), x.T.copy())


@pytest.mark.parametrize("shape", [(4, 5), (3, 4, 5), (2, 3, 4, 5), (2, 1, 3, 2, 2), (0, 3, 2)])
def test_every_order_of_axes(shape):
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    for perm in itertools.permutations(range(len(shape))):
        same(run("Transpose", x, perm=list(perm)), x.transpose(perm).copy())


def test_transpose_with_threads(threads):
    x = np.arange(3 * 400 * 500, dtype=np.float32).reshape(3, 400, 500)
    same(run("Transpose", x, perm=[2, 0, 1]), x.transpose(2, 0, 1).copy())


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes(shape):
    x = values(shape)
    same(run("Shape", x), np.array(shape, np.int64))
    same(run("Shape", x, start=-2, end=9), np.array(shape[-2:], np.int64))
    same(run("Size", x), np.array(x.size, np.int64))
    same(run("Identity", x), x)
    same(run("Flatten", x, axis=0), x.reshape(1, -1) if x.size else x.reshape(1, 0))
    same(run("Unsqueeze", x, np.array([-1, 0])), x[None, ..., None])
    same(run("Squeeze", x), np.squeeze(x))
    same(run("Squeeze", x[None], np.array([0])), x)
    same(run("Reshape", x, np.array(shape[::-1], np.int64), allowzero=1), x.reshape(shape[::-1]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_slice(dtype):
    rng = np.random.default_rng(1)
    for _ in range(20):
        rank = int(rng.integers(1, 5))
        x = values(tuple(rng.integers(0, 6, rank)), dtype)
        axes = rng.permutation(rank)[: rng.integers(0, rank + 1)]
        starts, ends = rng.integers(-8, 9, (2, len(axes)))
        steps = rng.choice([-5, -2, -1, 1, 2, 3], len(axes))
        expected = [slice(None)] * rank
        for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
            # ONNX clamps an end below the first element to it, NumPy takes it for "from behind".
            last = None if step < 0 and end < -x.shape[axis] else int(end)
            expected[axis] = slice(int(start), last, int(step))
        same(run("Slice", x, starts, ends, axes, steps), x[tuple(expected)].copy())


def test_slice_at_the_limits_of_int64():
    x = np.arange(5)
    low, high = np.iinfo(np.int64).min, np.iinfo(np.int64).max
    one = np.array
    same(run("Slice", x, one([low]), one([high])), x)
    same(run("Slice", x, one([high]), one([low]), one([0]), one([-1])), x[::-1].copy())
    same(run("Slice", x, one([3]), one([low]), one([0]), one([low])), x[3:4])
    same(run("Slice", x, one([1]), one([high]), one([0]), one([high])), x[1:2])


@pytest.mark.parametrize("dtype", DTYPES)
def test_concat_and_split(dtype):
    x = values((4, 7, 3), dtype)
    for axis in (-3, 0, 1, 2):
        cuts = [1, 1, x.shape[axis] - 1]
        parts = [part.copy() for part in np.split(x, cuts, axis)]
        same(run("Concat", *parts, axis=axis), x)
        sizes = np.array([part.shape[axis] for part in parts])
        for actual, expected in zip(
            run("Split", x, sizes, outputs=4, axis=axis), parts, strict=True
        ):
            same(actual, expected)
    for actual, expected in zip(
        run("Split", x, outputs=3, axis=1, num_outputs=3),
        (x[:, :3], x[:, 3:6], x[:, 6:]),
        strict=True,
    ):
        same(actual, expected.copy())


@pytest.mark.parametrize("dtype", DTYPES)
def test_expand_and_tile(dtype):
    x = values((3, 1, 2), dtype)
    expected = np.broadcast_to(x, (4, 3, 5, 2)).copy()
    same(run("Expand", x, np.array([4, 3, 5, 2])), expected)
    same(run("Expand", x, np.array([1, 5, 1])), np.broadcast_to(x, (3, 5, 2)).copy())
    for repeats in [(1, 1, 1), (2, 3, 4), (0, 1, 1), (1, 1, 2)]:
        same(run("Tile", x, np.array(repeats)), np.tile(x, repeats))
    wide = values((2, 1, 2, 1, 2, 1, 2, 3), dtype)
    same(run("Tile", wide, np.array([2] * 8)), np.tile(wide, [2] * 8))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "wrap"])
def test_pad(dtype, mode):
    rng = np.random.default_rng(2)
    for shape in [(4,), (3, 5), (2, 3, 4), (1, 4, 1, 3)]:
        x = values(shape, dtype)
        pads = rng.integers(0, 8, (2, len(shape)))
        pads[:, rng.random(len(shape)) < 0.3] = 0
        named = {"constant_values": np.array(1, dtype)} if mode == "constant" else {}
        expected = np.pad(x, list(zip(*pads, strict=True)), mode, **named)
        given = [np.array(1, dtype)] if named else []
        same(run("Pad", x, pads.reshape(-1), *given, mode=mode), expected)
    x = values((2, 6), dtype)
    same(run("Pad", x, np.array([-1, -2]), None, np.array([-1])), x[:, 1:-2].copy())
    expected = np.pad(x[:, 2:], ((0, 0), (0, 3)), mode)
    if mode in ("constant", "edge"):
        same(run("Pad", x, np.array([-2, 3]), None, np.array([1]), mode=mode), expected)


@pytest.mark.parametrize("upper", [0, 1])
def test_trilu(upper):
    x = values((2, 4, 6), "int64")
    for k in range(-7, 8):
        expected = np.triu(x, k) if upper else np.tril(x, k)
        same(run("Trilu", x, np.array(k), upper=upper), expected)


def test_depth_and_space():
    x = values((2, 12, 3, 5))
    for mode, axes in (("DCR", (0, 3, 4, 1, 5, 2)), ("CRD", (0, 1, 4, 2, 5, 3))):
        split = x.reshape((2, 2, 2, 3, 3, 5) if mode == "DCR" else (2, 3, 2, 2, 3, 5))
        expected = split.transpose(axes).reshape(2, 3, 6, 10)
        same(run("DepthToSpace", x, blocksize=2, mode=mode), expected)
        same(run("SpaceToDepth", expected, blocksize=2, mode=mode), x)


def test_reverse_sequence():
    x = values((4, 3, 2))
    expected = x.copy()
    for b, length in enumerate((0, 2, 4)):
        expected[:length, b] = x[:length, b][::-1]
    lengths = np.array([0, 2, 4])
    same(run("ReverseSequence", x, lengths, batch_axis=1, time_axis=0), expected)
    other = run("ReverseSequence", x.swapaxes(0, 1), lengths, batch_axis=0, time_axis=1)
    same(other, expected.swapaxes(0, 1).copy())


@pytest.mark.parametrize("dtype", DTYPES)
def test_cast(dtype):
    x = values((5, 4), dtype)
    numbers_of = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7, "bool": 9}
    numbers_of |= {"uint16": 4, "int16": 5, "float64": 11, "uint32": 12, "uint64": 13}
    for to, number in numbers_of.items():
        whole = np.abs(x) if x.dtype.kind == "f" and to.startswith("u") else x
        same(run("Cast", whole, to=number), whole.astype(to))
        same(run("CastLike", whole, np.zeros(1, to)), whole.astype(to))


def test_cast_of_numbers_that_no_integer_holds():
    x = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30, -0.7, 127.9, -128.9], np.float32)
    same(run("Cast", x, to=3), np.array([0, 127, -128, 127, -128, 0, 127, -128], np.int8))
    same(run("Cast", x[:6], to=2), np.array([0, 255, 0, 255, 0, 0], np.uint8))
    low, high = np.iinfo(np.int64).min, np.iinfo(np.int64).max
    same(run("Cast", x[:6], to=7), np.array([0, high, low, high, low, 0]))
    same(run("Cast", x[:6], to=9), np.ones(6, bool))
    same(run("Cast", np.array([300, -1]), to=2), np.array([44, 255], np.uint8))


def test_ranges():
    same(run("Range", np.array(3), np.array(11), np.array(3)), np.array([3, 6, 9]))
    same(run("Range", np.array(3), np.array(-4), np.array(-2)), np.array([3, 1, -1, -3]))
    same(run("Range", np.array(3), np.array(3), np.array(1)), np.zeros(0, np.int64))
    x = run("Range", *(np.array(v, np.float32) for v in (1, 2.1, 0.25)))
    same(x, np.array([1, 1.25, 1.5, 1.75, 2], np.float32))
    low, high = np.iinfo(np.int64).min, np.iinfo(np.int64).max
    assert run("Range", np.array(high - 1), np.array(high), np.array(high)).tolist() == [high - 1]
    assert run("Range", np.array(low), np.array(high), np.array(high)).tolist() == [
        low,
        -1,
        high - 1,
    ]


def test_filled():
    same(run("ConstantOfShape", np.array([2, 3])), np.zeros((2, 3), np.float32))
    same(run("ConstantOfShape", np.array([], np.int64), value=np.array([7])), np.array(7))
    eye = run("EyeLike", np.zeros((3, 5), np.int32), k=1, dtype=11)
    same(eye, np.eye(3, 5, 1))
    for k in (-9, -2, 0, 4, 9):
        same(run("EyeLike", np.zeros((3, 5), np.int32), k=k), np.eye(3, 5, k, dtype=np.int32))


F = np.zeros((2, 3), np.float32)
ONE = np.array([1])


@pytest.mark.parametrize(
    ("op", "inputs", "attributes"),
    [
        ("Transpose", [F], {"perm": [0]}),
        ("Transpose", [F], {"perm": [0, 0]}),
        ("Transpose", [F], {"perm": [0, 2]}),
        ("Flatten", [F], {"axis": 3}),
        ("Squeeze", [F, ONE], {}),
        ("Unsqueeze", [F, np.array([0, 0])], {}),
        ("Unsqueeze", [F, np.arange(7)], {}),
        ("Slice", [F, ONE, ONE, np.array([2])], {}),
        ("Slice", [F, ONE, ONE, ONE, np.array([0])], {}),
        ("Slice", [F, ONE, np.array([1, 1])], {}),
        ("Slice", [F, np.array([0, 0]), np.array([1, 1]), np.array([0, -2])], {}),
        ("Slice", [F, ONE.astype(np.float32), ONE], {}),
        ("Concat", [F, F[:1]], {"axis": 1}),
        ("Concat", [F, F.astype(np.float64)], {"axis": 1}),
        ("Concat", [F, F], {"axis": 2}),
        ("Concat", [F, F], {}),
        ("Split", [F, np.array([1, 1])], {"axis": 1}),
        ("Split", [F, np.array([-1, 4])], {"axis": 1}),
        ("Split", [F, np.array([], np.int64)], {"axis": 1}),
        ("Split", [F], {"num_outputs": 2}),
        ("Expand", [F, np.array([2])], {}),
        ("Expand", [F, np.array([-1, 2, 3])], {}),
        ("Expand", [F, np.array([2**40, 2**40, 2, 3])], {}),
        ("Tile", [F, ONE], {}),
        ("Tile", [F, np.array([1, -1])], {}),
        ("Tile", [F, np.array([1, 2**62])], {}),
        ("Pad", [F, ONE], {}),
        ("Pad", [F, np.array([0, -4, 0, 0])], {}),
        ("Pad", [F, np.array([0, 2**62, 0, 2**62])], {}),
        ("Pad", [F, np.array([0, 1, 0, 0]), np.zeros(1)], {}),
        ("Pad", [F[:, :0], np.array([0, 1, 0, 0])], {"mode": "edge"}),
        ("Pad", [F, np.zeros(4, np.int64)], {"mode": "other"}),
        ("Trilu", [F[0]], {}),
        ("DepthToSpace", [F[None, None]], {"blocksize": 2}),
        ("DepthToSpace", [F[None, None]], {"blocksize": 0}),
        ("SpaceToDepth", [F], {"blocksize": 1}),
        ("ReverseSequence", [F, np.array([1, 1, 9])], {}),
        ("ReverseSequence", [F, ONE], {}),
        ("Cast", [F], {"to": 8}),
        ("Range", [np.array(0), np.array(1), np.array(0)], {}),
        ("Range", [np.array(0), np.array(1), np.array(1.0)], {}),
        ("Range", [np.array(0.0), np.array(np.nan), np.array(1.0)], {}),
        ("ConstantOfShape", [np.array([-1])], {}),
        ("ConstantOfShape", [np.array([2**40, 2**40])], {}),
        ("ConstantOfShape", [ONE], {"value": np.zeros(2)}),
        ("EyeLike", [F[0]], {}),
        ("Shape", [], {}),
    ],
)
def test_refused(op, inputs, attributes):
    with pytest.raises(ValueError, match="the_node"):
        run(op, *inputs, **attributes)


@pytest.mark.parametrize(
    ("op", "inputs"),
    [
        ("ConstantOfShape", [np.array([2**40])]),
        ("Expand", [F, np.array([2**40, 2, 3])]),
        ("Tile", [F, np.array([2**40, 1])]),
        ("Pad", [F, np.array([2**40, 0, 0, 0])]),
        ("Range", [np.array(0), np.array(2**50), np.array(1)]),
    ],
)
def test_sizes_beyond_the_memory_of_a_call(op, inputs):
    with pytest.raises(MemoryError):
        run(op, *inputs)

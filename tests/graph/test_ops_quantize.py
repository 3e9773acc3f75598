"""Operators of small integers, against NumPy: the integers are exact."""

import itertools

import numpy as np
import pytest

from support.nodes import run
from treadle.graph.ir import Graph, Node, Value
from treadle.graph.model import Model

BYTES = ("int8", "uint8")
LIMITS = {d: (np.iinfo(d).min, np.iinfo(d).max) for d in ("int8", "uint8", "int16", "uint16")}


def same(actual, expected):
    np.testing.assert_array_equal(actual, expected)
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape


def bytes_of(rng, shape, dtype):
    low, high = LIMITS[dtype]
    return rng.integers(low, high + 1, shape).astype(dtype)


def quantized(x, scale, zero):
    """The quotient is rounded to float32, its middle between two integers to the even one."""
    whole = np.rint(x.astype(np.float32) / scale) + np.asarray(zero, np.float32)
    return np.clip(whole, *LIMITS[zero.dtype.name]).astype(zero.dtype)


@pytest.mark.parametrize("dtype", LIMITS)
def test_quantize_and_back(dtype):
    rng = np.random.default_rng(0)
    x = rng.uniform(-300, 300, (3, 4, 5)).astype(np.float32)
    low, high = LIMITS[dtype]
    cases = [((), {}), ((1,), {})] + [((x.shape[a],), {"axis": a}) for a in range(-3, 3)]
    for shape, attributes in cases:
        scale = rng.uniform(0.5, 2, shape).astype(np.float32)
        zero = np.asarray(rng.integers(low // 2, high // 2, shape)).astype(dtype)
        wide = [1, 1, 1]
        wide[attributes.get("axis", 0)] = scale.size
        s, z = scale.reshape(wide), zero.reshape(wide)
        y = run("QuantizeLinear", x, scale, zero, **attributes)
        same(y, quantized(x, s, z))
        back = run("DequantizeLinear", y, scale, zero, **attributes)
        same(back, (y.astype(np.int32) - z.astype(np.int32)).astype(np.float32) * s)


def test_blocks():
    rng = np.random.default_rng(1)
    x = rng.uniform(-300, 300, (2, 7, 3)).astype(np.float32)
    scale = rng.uniform(0.5, 2, (2, 3, 3)).astype(np.float32)
    zero = bytes_of(rng, (2, 3, 3), "int8")
    s, z = (np.repeat(a, 3, axis=1)[:, :7] for a in (scale, zero))
    y = run("QuantizeLinear", x, scale, zero, axis=1, block_size=3)
    same(y, quantized(x, s, z))
    back = run("DequantizeLinear", y, scale, zero, axis=1, block_size=3)
    same(back, (y.astype(np.int32) - z).astype(np.float32) * s)


def test_quantize_at_the_limits():
    x = np.array([np.nan, np.inf, -np.inf, 1e30, 0.5, 1.5, 2.5, -0.5], np.float32)
    one = np.array(1, np.float32)
    same(run("QuantizeLinear", x, one), np.array([0, 255, 0, 255, 0, 2, 2, 0], np.uint8))
    same(run("QuantizeLinear", x[4:], one, output_dtype=3), np.array([0, 2, 2, 0], np.int8))
    assert run("QuantizeLinear", x, np.array(0, np.float32)).dtype == np.uint8


@pytest.mark.parametrize("shape", [(4,), (3, 5000), (0, 2)])
def test_dynamic_quantize(shape):
    x = np.random.default_rng(2).uniform(-3, 7, shape).astype(np.float32)
    for numbers in (x, np.abs(x), -np.abs(x), x * 0):
        low, high = min(0, numbers.min(initial=0)), max(0, numbers.max(initial=0))
        scale = np.float32(1) if low == high else (high - low) / np.float32(255)
        zero = np.uint8(np.rint(-np.float32(low) / scale))
        y, actual_scale, actual_zero = run("DynamicQuantizeLinear", numbers, outputs=3)
        assert (actual_scale, actual_zero) == (scale, zero)
        same(y, quantized(numbers, scale, zero))


SHAPES = [((4, 5), (5, 3)), ((5,), (5, 3)), ((4, 5), (5,)), ((2, 3, 4, 5), (5, 6))]
SHAPES += [
    ((2, 3, 4, 5), (3, 5, 2)),
    ((3, 0), (0, 2)),
    ((0, 5), (5, 3)),
    ((2, 1, 4, 5), (1, 3, 5, 4)),
]


@pytest.mark.parametrize("a_dtype", BYTES)
@pytest.mark.parametrize("b_dtype", BYTES)
def test_matmul_integer(a_dtype, b_dtype, isa):
    rng = np.random.default_rng(3)
    for a_shape, b_shape in SHAPES:
        a, b = bytes_of(rng, a_shape, a_dtype), bytes_of(rng, b_shape, b_dtype)
        wide_a, wide_b = a.astype(np.int32), b.astype(np.int32)
        same(run("MatMulInteger", a, b), np.asarray(wide_a @ wide_b, np.int32))
        zero_a, zero_b = bytes_of(rng, (), a_dtype), bytes_of(rng, (), b_dtype)
        exact = (wide_a - zero_a) @ (wide_b - zero_b)
        same(run("MatMulInteger", a, b, zero_a, zero_b), np.asarray(exact, np.int32))
        if len(b_shape) > 1 and b_shape[-2]:
            columns = bytes_of(rng, b_shape[-1:], b_dtype)
            exact = wide_a @ (wide_b - columns)
            same(run("MatMulInteger", a, b, None, columns), np.asarray(exact, np.int32))


def test_sums_beyond_float32(isa, threads):
    """Long sums of the largest numbers are cut into pieces that float32 holds."""
    K = 70_001
    a = np.full((3, K), 255, np.uint8)
    b = np.full((K, 2), -128, np.int8)
    b[::3, 1] = 127
    exact = (a.astype(np.int64) @ b.astype(np.int64)).astype(np.int32)  # which wraps
    same(run("MatMulInteger", a, b), exact)


def test_constant_weights(isa):
    """A weight that is known before is packed once, with its zero points."""
    rng = np.random.default_rng(4)
    b, zero = bytes_of(rng, (300, 70), "int8"), bytes_of(rng, (70,), "int8")
    x = Value("x", "uint8", ("n", 300))
    z = Value("z", "uint8", ())
    node = Node("MatMulInteger", ["x", "b", "z", "bz"], ["y"])
    graph = Graph([x, z], [Value("y", "int32", None)], [node], {"b": b, "bz": zero})
    a = bytes_of(rng, (5, 300), "uint8")
    exact = (a.astype(np.int32) - 7) @ (b.astype(np.int32) - zero)
    model = Model(graph)
    same(model(a, np.array(7, np.uint8))["y"], exact.astype(np.int32))
    same(model(a[2:3], np.array(7, np.uint8))["y"], exact[2:3].astype(np.int32))


@pytest.mark.parametrize("dtype", BYTES)
def test_qlinear_matmul(dtype, isa):
    rng = np.random.default_rng(5)
    a, b = bytes_of(rng, (4, 50), dtype), bytes_of(rng, (50, 6), "int8")
    za, zb, zy = bytes_of(rng, (), dtype), bytes_of(rng, (), "int8"), bytes_of(rng, (), dtype)
    sums = (a.astype(np.int32) - za) @ (b.astype(np.int32) - zb)
    sy = np.array(3, np.float32)
    for sa, sb in itertools.product([(), (4, 1)], [(), (6,)]):
        sa, sb = (rng.uniform(0.01, 0.1, s).astype(np.float32) for s in (sa, sb))
        exact = np.rint(sums.astype(np.float32) * (sa * sb / sy)) + np.float32(zy)
        exact = np.clip(exact, *LIMITS[dtype]).astype(dtype)
        same(
            run("QLinearMatMul", a, sa.reshape(-1) if sa.ndim else sa, za, b, sb, zb, sy, zy), exact
        )


def convolved(x, w, strides, dilations, pads, group):
    """Convolve int64 in two dimensions, position by position."""
    x = np.pad(x, [(0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])])
    D, c, R, S = w.shape
    reach = [(n - 1) * d + 1 for n, d in zip((R, S), dilations, strict=True)]
    H, W = ((n - r) // s + 1 for n, r, s in zip(x.shape[2:], reach, strides, strict=True))
    y = np.zeros((len(x), D, H, W), np.int64)
    for d, i, j in np.ndindex(D, H, W):
        first = d // (D // group) * c
        rows = slice(i * strides[0], i * strides[0] + reach[0], dilations[0])
        columns = slice(j * strides[1], j * strides[1] + reach[1], dilations[1])
        part = x[:, first : first + c, rows, columns]
        y[:, d, i, j] = (part * w[d]).sum((1, 2, 3))
    return y


@pytest.mark.parametrize("w_dtype", BYTES)
@pytest.mark.parametrize(
    ("strides", "dilations", "pads", "group"),
    [
        ([1, 1], [1, 1], [0, 0, 0, 0], 1),
        ([2, 1], [1, 2], [1, 0, 2, 1], 1),
        ([1, 2], [2, 1], [1, 1, 1, 1], 2),
        ([1, 1], [1, 1], [1, 1, 1, 1], 4),
    ],
)
def test_convolutions(w_dtype, strides, dilations, pads, group, isa):
    rng = np.random.default_rng(6)
    x, w = bytes_of(rng, (2, 4, 7, 6), "uint8"), bytes_of(rng, (8, 4 // group, 3, 2), w_dtype)
    named = {"strides": strides, "dilations": dilations, "pads": pads, "group": group}
    zx, zw = bytes_of(rng, (), "uint8"), bytes_of(rng, (8,), w_dtype)
    centred = w.astype(np.int64) - zw[:, None, None, None]
    sums = convolved(x.astype(np.int64) - zx, centred, strides, dilations, pads, group)
    same(run("ConvInteger", x, w, zx, zw, **named), sums.astype(np.int32))
    sx, sy, zy = np.float32(0.02), np.float32(0.9), np.uint8(100)
    sw = rng.uniform(0.01, 0.03, 8).astype(np.float32)
    bias = rng.integers(-999, 999, 8).astype(np.int32)
    total = (sums + bias[:, None, None]).astype(np.float32)
    exact = np.clip(np.rint(total * (sx * sw / sy)[:, None, None]) + zy, 0, 255).astype(np.uint8)
    scales = [np.array(v) for v in (sx, sy, zy)]
    same(
        run("QLinearConv", x, scales[0], zx, w, sw, zw, scales[1], scales[2], bias, **named), exact
    )


def test_convolution_of_one_axis():
    rng = np.random.default_rng(7)
    x, w = bytes_of(rng, (1, 3, 9), "uint8"), bytes_of(rng, (2, 3, 3), "int8")
    for auto, pads in (("SAME_UPPER", (0, 1)), ("SAME_LOWER", (1, 0)), ("VALID", (0, 0))):
        x_even = x[..., :8]
        exact = convolved(
            *(a.astype(np.int64)[:, :, None] for a in (x_even, w)),
            (1, 2),
            (1, 1),
            (0, pads[0], 0, pads[1]),
            1,
        )[:, :, 0]
        actual = run("ConvInteger", np.ascontiguousarray(x_even), w, strides=[2], auto_pad=auto)
        same(actual, exact.astype(np.int32))


F = np.zeros((2, 3), np.float32)
B = np.zeros((2, 3), np.uint8)
ONE = np.array(1, np.float32)
ZERO = np.array(0, np.uint8)
X = np.zeros((1, 2, 4, 4), np.uint8)
W = np.zeros((2, 2, 3, 3), np.uint8)


@pytest.mark.parametrize(
    ("op", "inputs", "attributes"),
    [
        ("QuantizeLinear", [F, np.ones(2, np.float32)], {"axis": 1}),
        ("QuantizeLinear", [F, np.ones(3, np.float32), ZERO], {"axis": 1}),
        ("QuantizeLinear", [F, np.ones(3, np.float32)], {"axis": 2}),
        ("QuantizeLinear", [F, np.ones((2, 1), np.float32)], {"axis": 1, "block_size": 2}),
        ("QuantizeLinear", [F, np.ones((2, 2), np.float32)], {"axis": 1, "block_size": -1}),
        ("QuantizeLinear", [F, ONE, np.array(0)], {}),
        ("QuantizeLinear", [F, ONE, ZERO], {"output_dtype": 3}),
        ("QuantizeLinear", [F > 0, ONE], {}),
        ("DequantizeLinear", [F, ONE], {}),
        ("DequantizeLinear", [B, ONE, np.array(0, np.int8)], {}),
        ("DynamicQuantizeLinear", [F.astype(float)], {}),
        ("MatMulInteger", [B, B], {}),
        ("MatMulInteger", [F, B.T], {}),
        ("MatMulInteger", [B, B.T, np.zeros(3, np.uint8)], {}),
        ("MatMulInteger", [B, B.T, np.array(0, np.int8)], {}),
        ("MatMulInteger", [B, ZERO], {}),
        ("QLinearMatMul", [B, ONE, ZERO, B.T, ONE, ZERO, ONE, ONE], {}),
        ("QLinearMatMul", [B, np.ones(3, "f4"), ZERO, B.T, ONE, ZERO, ONE, ZERO], {}),
        ("ConvInteger", [X, W], {"kernel_shape": [2, 2]}),
        ("ConvInteger", [X, W], {"strides": [0, 1]}),
        ("ConvInteger", [X, W], {"strides": [1]}),
        ("ConvInteger", [X, W], {"pads": [-1, 0, 0, 0]}),
        ("ConvInteger", [X, W], {"dilations": [9, 9]}),
        ("ConvInteger", [X, W], {"group": 2}),
        ("ConvInteger", [X, W], {"group": 0}),
        ("ConvInteger", [X, W], {"auto_pad": "OTHER"}),
        ("ConvInteger", [X, W[:, :1]], {}),
        ("ConvInteger", [X[0, 0], W[0, 0]], {}),
        ("ConvInteger", [X, W, ZERO, np.zeros(3, np.uint8)], {}),
        ("QLinearConv", [X, ONE, ZERO, W, np.ones(3, "f4"), ZERO, ONE, ZERO], {}),
        ("QLinearConv", [X, ONE, ZERO, W, ONE, ZERO, ONE, ZERO, np.zeros(3, np.int32)], {}),
    ],
)
def test_refused(op, inputs, attributes):
    with pytest.raises(ValueError, match="the_node"):
        run(op, *inputs, **attributes)

"""Operators that compute number by number, against NumPy, with broadcasting, for every dtype."""

import math

import numpy as np
import pytest

from support.nodes import DTYPES, numbers, run
from treadle.graph.ir import Graph, Node, Value
from treadle.graph.model import Model

EPS = np.finfo(np.float32).eps
INTEGERS = [d for d in DTYPES if "int" in d]
NUMBERS = [*INTEGERS, "float32", "float64"]
SIGNED = [d for d in NUMBERS if not d.startswith("u")]
PAIRS = [
    ((), ()),
    ((5,), ()),
    ((), (3, 4)),
    ((3, 1), (1, 4)),
    ((2, 3, 5), (3, 1)),
    ((1, 3, 1), (2, 1, 37)),
    ((2, 1, 3, 1, 2), (4, 1, 7, 1)),
    ((0, 3), (1, 3)),
    ((1,), (0, 2)),
    ((130, 33), (130, 33)),
    ((3, 200), (200,)),
]


def same(actual, expected):
    np.testing.assert_array_equal(actual, expected)
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape


def pairs(dtype, seed=0):
    rng = np.random.default_rng(seed)
    for a, b in PAIRS:
        yield numbers(rng, a, dtype), numbers(rng, b, dtype)


def divided(a, b):
    """Divide integers towards zero."""
    quotient = np.abs(a).astype(object) // np.abs(b).astype(object)
    return (quotient * np.sign(a) * np.sign(b)).astype(a.dtype)


@pytest.mark.parametrize("dtype", NUMBERS)
def test_arithmetic(dtype, isa):
    functions = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply}
    functions |= {"Min": np.minimum, "Max": np.maximum}
    for a, b in pairs(dtype):
        for op, function in functions.items():
            same(run(op, a, b), function(a, b).astype(dtype))
        b[b == 0] = 1
        exact = a / b if dtype.startswith("float") else divided(*np.broadcast_arrays(a, b))
        same(run("Div", a, b), exact.astype(dtype))
        same(run("Mod", a, b), np.mod(a, b).astype(dtype))
        same(run("Mod", a, b, fmod=1), np.fmod(a, b).astype(dtype))


def test_broadcasting_to_eight_axes(isa):
    rng = np.random.default_rng(3)
    for _ in range(60):
        sizes = rng.integers(1, 4, rng.integers(1, 9))
        first, second = (np.where(rng.random(len(sizes)) < 0.5, 1, sizes) for _ in range(2))
        a, b = (
            rng.standard_normal(s).astype(np.float32) for s in (first, second[len(sizes) // 3 :])
        )
        same(run("Add", a, b), a + b)
        same(run("Less", a, b), a < b)


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64"])
def test_integers_at_their_limits(dtype):
    limits = np.iinfo(dtype)
    low = np.array([limits.min], dtype)
    minus_one = np.array([-1], dtype)
    same(run("Div", low, minus_one), low)
    same(run("Mod", low, minus_one), np.zeros(1, dtype))
    same(run("Mod", low, minus_one, fmod=1), np.zeros(1, dtype))
    same(run("Neg", low), low)
    same(run("Abs", low), low)
    same(run("Sub", low, np.array([1], dtype)), np.array([limits.max], dtype))
    for op in ("Div", "Mod"):
        with pytest.raises(ValueError, match=r"the_node \(\w+\): an integer is divided by 0"):
            run(op, np.ones(3, dtype), np.array([1, 0, 1], dtype))


@pytest.mark.parametrize("dtype", NUMBERS)
def test_many_inputs(dtype, isa):
    rng = np.random.default_rng(4)
    parts = [numbers(rng, shape, dtype) for shape in [(3, 1), (4,), (2, 3, 4), ()]]
    for op, function in {"Max": np.maximum, "Min": np.minimum, "Sum": np.add}.items():
        for count in range(1, 5):
            expected = parts[0]
            for part in parts[1:count]:
                expected = function(expected, part).astype(dtype)
            same(run(op, *parts[:count]), expected)
    if dtype.startswith("float"):
        total = (((parts[0] + parts[1]) + parts[2]) + parts[3]).astype(dtype)
        same(run("Mean", *parts), total / np.array(4, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_comparisons(dtype):
    functions = {"Equal": np.equal, "Greater": np.greater, "Less": np.less}
    functions |= {"GreaterOrEqual": np.greater_equal, "LessOrEqual": np.less_equal}
    for a, b in pairs(dtype):
        for op, function in functions.items():
            if op == "Equal" or dtype != "bool":
                same(run(op, a, b), function(a, b))
    if dtype == "bool":
        with pytest.raises(ValueError, match="dtype bool"):
            run("Less", a, b)


def test_logic():
    for a, b in pairs("bool"):
        for op, function in {"And": np.logical_and, "Or": np.logical_or}.items():
            same(run(op, a, b), function(a, b))
        same(run("Xor", a, b), np.logical_xor(a, b))
        same(run("Not", a), np.logical_not(a))


@pytest.mark.parametrize("dtype", INTEGERS)
def test_bits(dtype):
    for a, b in pairs(dtype):
        same(run("BitwiseAnd", a, b), a & b)
        same(run("BitwiseOr", a, b), a | b)
        same(run("BitwiseXor", a, b), a ^ b)
        same(run("BitwiseNot", a), ~a)
        places = np.abs(b) % 8
        same(run("BitShift", a, places, direction="RIGHT"), np.right_shift(a, places).astype(dtype))
        expected = np.left_shift(a.astype(np.int64), places.astype(np.int64)).astype(dtype)
        same(run("BitShift", a, places, direction="LEFT"), expected)
    bits = np.iinfo(dtype).bits
    one = np.ones(3, dtype)
    beyond = np.array([bits - 1, bits, bits + 1], dtype)
    left = run("BitShift", one, beyond, direction="LEFT")
    same(left, np.array([1 << (bits - 1), 0, 0], object).astype(f"u{bits // 8}").astype(dtype))
    same(run("BitShift", one, beyond, direction="RIGHT"), np.zeros(3, dtype))


def test_what_floats_are():
    for dtype in (np.float32, np.float64):
        x = np.array([np.nan, np.inf, -np.inf, 0, 1], dtype)
        same(run("IsNaN", x), np.isnan(x))
        same(run("IsInf", x), np.isinf(x))
        same(run("IsInf", x, detect_negative=0), np.isposinf(x))
        same(run("IsInf", x, detect_positive=0), np.isneginf(x))


def test_nan_in_min_and_max(isa):
    a = np.array([np.nan, 1, np.nan], np.float32)
    b = np.array([1, np.nan, np.nan], np.float32)
    for op in ("Min", "Max"):
        assert np.isnan(run(op, a, b)).all()
        assert np.isnan(run(op, a.astype(float), b.astype(float))).all()
    assert np.isnan(run("Clip", a, np.array(0, np.float32), np.array(2, np.float32))[0])


@pytest.mark.parametrize("dtype", NUMBERS)
def test_numeric(dtype, isa):
    x = numbers(np.random.default_rng(5), (3, 37), dtype)
    same(run("Abs", x), np.abs(x))
    same(run("Sign", x), np.sign(x))
    low, high = np.array(2, dtype), np.array(5, dtype)
    same(run("Clip", x, low, high), np.clip(x, low, high))
    same(run("Clip", x, None, high), np.minimum(x, high))
    same(run("Clip", x, low), np.maximum(x, low))
    same(run("Clip", x), x)
    same(run("Clip", x, high, low), np.full_like(x, low))
    slope = np.array([[2], [3], [1]], dtype)
    same(run("PRelu", x, slope), np.where(x < 0, slope * x, x).astype(dtype))
    if dtype in SIGNED:
        same(run("Neg", x), -x)
        same(run("Relu", x), np.maximum(x, 0).astype(dtype))


def test_powers(isa):
    rng = np.random.default_rng(6)
    x = rng.uniform(0.1, 3, (4, 37)).astype(np.float32)
    for e in (2, 3, 0.5, 1, -1, 1.7):
        exact = x.astype(float) ** float(np.float32(e))
        for exponent in (np.array(e, np.float32), np.full((1, 37), e, np.float32)):
            np.testing.assert_allclose(run("Pow", x, exponent), exact, rtol=2 * EPS)
    same(run("Pow", x, np.array(2)), x * x)
    base = np.array([-3, -1, 0, 1, 2])
    for dtype in ("int32", "int64"):
        for e in range(5):
            same(run("Pow", base.astype(dtype), np.array(e)), base.astype(dtype) ** e)
    same(run("Pow", base, np.array([2.0, 3, 0, 5, 0.5])), np.array([9, -1, 1, 1, 1]))
    same(run("Pow", np.array([10]), np.array([30.0])), np.array([np.iinfo(np.int64).max]))
    with pytest.raises(ValueError, match="negative power -1"):
        run("Pow", base, np.array(-1))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softplus(x):
    return np.logaddexp(0, x)


erf = np.vectorize(math.erf, otypes=[float])

# Each has its function in float64, its attributes and the interval of its numbers.
FUNCTIONS = {
    "Sqrt": (np.sqrt, {}, (0, 9)),
    "Reciprocal": (np.reciprocal, {}, (0.1, 9)),
    "Floor": (np.floor, {}, (-9, 9)),
    "Ceil": (np.ceil, {}, (-9, 9)),
    "Round": (np.round, {}, (-9, 9)),
    "Log": (np.log, {}, (0.01, 99)),
    "Exp": (np.exp, {}, (-20, 20)),
    "Erf": (erf, {}, (-4, 4)),
    "Sigmoid": (sigmoid, {}, (-20, 20)),
    "Tanh": (np.tanh, {}, (-9, 9)),
    "Softplus": (softplus, {}, (-20, 20)),
    "Softsign": (lambda x: x / (1 + np.abs(x)), {}, (-9, 9)),
    "Sin": (np.sin, {}, (-9, 9)),
    "Cos": (np.cos, {}, (-9, 9)),
    "Tan": (np.tan, {}, (-1.5, 1.5)),
    "Asin": (np.arcsin, {}, (-1, 1)),
    "Acos": (np.arccos, {}, (-1, 1)),
    "Atan": (np.arctan, {}, (-9, 9)),
    "Sinh": (np.sinh, {}, (-9, 9)),
    "Cosh": (np.cosh, {}, (-9, 9)),
    "Asinh": (np.arcsinh, {}, (-9, 9)),
    "Acosh": (np.arccosh, {}, (1, 9)),
    "Atanh": (np.arctanh, {}, (-0.99, 0.99)),
    "LeakyRelu": (lambda x: np.where(x < 0, 0.1 * x, x), {"alpha": 0.1}, (-9, 9)),
    "Elu": (lambda x: np.where(x < 0, 2 * np.expm1(x), x), {"alpha": 2.0}, (-9, 9)),
    "Celu": (
        lambda x: np.maximum(x, 0) + np.minimum(0, 2 * np.expm1(x / 2)),
        {"alpha": 2.0},
        (-9, 9),
    ),
    "Selu": (
        lambda x: 1.5 * np.where(x < 0, 2 * np.expm1(x), x),
        {"alpha": 2.0, "gamma": 1.5},
        (-9, 9),
    ),
    "ThresholdedRelu": (lambda x: np.where(x > 2, x, 0), {"alpha": 2.0}, (-9, 9)),
    "HardSigmoid": (
        lambda x: np.clip(0.25 * x + 0.125, 0, 1),
        {"alpha": 0.25, "beta": 0.125},
        (-9, 9),
    ),
    "HardSwish": (lambda x: x * np.clip(x / 6 + 0.5, 0, 1), {}, (-9, 9)),
    "treadle.HardSwish": (
        lambda x: x * np.clip(0.25 * x + 0.125, 0, 1),
        {"alpha": 0.25, "beta": 0.125},
        (-9, 9),
    ),
    "treadle.Silu": (lambda x: x * sigmoid(x), {}, (-20, 20)),
    "Swish": (lambda x: x * sigmoid(1.5 * x), {"alpha": 1.5}, (-9, 9)),
    "Mish": (lambda x: x * np.tanh(softplus(x)), {}, (-9, 9)),
    "Gelu": (lambda x: x / 2 * (1 + erf(x / np.sqrt(2))), {}, (-4, 4)),
    "Shrink": (
        lambda x: np.where(x < -2, x + 0.5, np.where(x > 2, x - 0.5, 0)),
        {"bias": 0.5, "lambd": 2.0},
        (-9, 9),
    ),
}


@pytest.mark.parametrize("op", FUNCTIONS)
def test_functions(op, isa):
    """Errors are a few roundings of the result, or of numbers of the argument's size."""
    function, attributes, (low, high) = FUNCTIONS[op]
    x = np.random.default_rng(7).uniform(low, high, (3, 700))
    for dtype, eps in ((np.float32, EPS), (np.float64, np.finfo(float).eps)):
        given = x.astype(dtype)
        exact = function(given.astype(float))
        actual = run(op, given, **attributes)
        assert actual.dtype == dtype
        bound = 8 * eps * (np.abs(exact) + np.minimum(1, np.abs(given)))
        assert (np.abs(actual - exact) <= bound).all()
        assert run(op, given[:0], **attributes).shape == (0, 700)
        assert run(op, given[0, 0], **attributes).shape == ()


def test_gelu_by_tanh(isa):
    x = np.linspace(-4, 4, 100).astype(np.float32)
    wide = x.astype(float)
    exact = wide / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (wide + 0.044715 * wide**3)))
    actual = run("Gelu", x, approximate="tanh")
    assert (np.abs(actual - exact) <= 8 * EPS * np.maximum(1, np.abs(exact))).all()


def test_magnitude(isa):
    x = np.random.default_rng(8).standard_normal((2, 3, 2 * 37)).astype(np.float32)
    wide = x.astype(float)
    exact = np.hypot(wide[..., :37], wide[..., 37:])
    np.testing.assert_allclose(run("treadle.Magnitude", x), exact, rtol=4 * EPS)


def test_threads_and_batch_change_no_bit(isa, threads):
    rng = np.random.default_rng(9)
    x = rng.standard_normal((300, 700)).astype(np.float32)
    y = rng.standard_normal((1, 700)).astype(np.float32)
    same(run("Mul", x, y), x * y)
    for op in ("Gelu", "Exp", "Sin"):
        same(run(op, x)[123:124], run(op, x[123:124]))


def test_memory_of_an_input_that_others_need():
    """A value is overwritten only after its last use, and never where it is a view of an input."""
    nodes = [
        Node("Relu", ["x"], ["a"]),
        Node("Reshape", ["a", "s"], ["b"]),
        Node("Neg", ["b"], ["c"]),
        Node("Add", ["a", "a"], ["d"]),
        Node("Exp", ["d"], ["e"]),
        Node("Add", ["e", "c"], ["f"]),
        Node("Identity", ["x"], ["v"]),
        Node("Neg", ["v"], ["g"]),
    ]
    outputs = [Value(name, "float32", None) for name in ("c", "f", "g")]
    graph = Graph([Value("x", "float32", None)], outputs, nodes, {"s": np.array([-1])})
    x = np.array([-1, 2, 3], np.float32)
    given = x.copy()
    out = Model(graph)(x)
    a = np.maximum(x, 0)
    same(out["c"], -a)
    np.testing.assert_allclose(out["f"], np.exp(a + a) - a, rtol=4 * EPS)
    same(out["g"], -given)
    same(x, given)


F = np.zeros((2, 3), np.float32)


@pytest.mark.parametrize(
    ("op", "inputs", "attributes"),
    [
        ("Add", [F, F[:, :2]], {}),
        ("Add", [F, F.astype(np.float64)], {}),
        ("Add", [F > 0, F > 0], {}),
        ("Add", [F], {}),
        ("Max", [F, F, F[:, :2]], {}),
        ("Max", [F > 0, F > 0], {}),
        ("Max", [], {}),
        ("Mean", [np.zeros(2, np.int64), np.zeros(2, np.int64)], {}),
        ("And", [F, F], {}),
        ("Not", [F], {}),
        ("Neg", [np.zeros(2, np.uint8)], {}),
        ("Neg", [F > 0], {}),
        ("Abs", [F > 0], {}),
        ("Exp", [np.zeros(2, np.int64)], {}),
        ("BitwiseAnd", [F, F], {}),
        ("BitwiseNot", [F], {}),
        ("BitShift", [np.ones(1, np.uint8), np.ones(1, np.uint8)], {"direction": "UP"}),
        ("BitShift", [F, F], {"direction": "LEFT"}),
        ("Clip", [F, np.zeros(2, np.float32)], {}),
        ("Clip", [F, np.zeros((), np.float64)], {}),
        ("PRelu", [F[0], F], {}),
        ("Gelu", [F], {"approximate": "other"}),
        ("Gelu", [F], {"approximate": 1}),
        ("LeakyRelu", [F], {"alpha": "x"}),
        ("IsNaN", [np.zeros(2, np.int64)], {}),
        ("Pow", [F, F > 0], {}),
        ("treadle.Magnitude", [F], {}),
        ("treadle.Magnitude", [F[0, 0]], {}),
        ("Add", [np.zeros((2,) * 8, np.float32), np.zeros((2,) * 8)], {}),
    ],
)
def test_refused(op, inputs, attributes):
    with pytest.raises(ValueError, match="the_node"):
        run(op, *inputs, **attributes)

"""weft._core as users who look find it: as safe as what is built upon it."""

import copy
import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import samples
import weft
from entries import INPUT, WRONG_DTYPES, B, H, T

F32 = np.float32


def refused(function, right, wrong):
    """The right arguments do; each wrong value in the place of one of them does not."""
    function(*right)
    for index, values in wrong.items():
        for value in values:
            arguments = list(right)
            arguments[index] = value
            with pytest.raises((ValueError, TypeError)):
                function(*arguments)


def misaligned(*shape):
    """Zeros that begin one byte off."""
    size = 4 * math.prod(shape)
    return np.zeros(size + 1, np.uint8)[1:].view(F32).reshape(shape)


def native_arguments():
    weights = [(*samples.layer("lstm", INPUT, H)[0], None, None)]
    tanh, sigmoid = ("tanh", 0.0, 0.0), ("sigmoid", 0.0, 0.0)
    options = {
        "activations": {"f": sigmoid, "g": tanh, "h": tanh},
        "clip": 0.0, "input_forget": False, "reset_after": True,
    }  # fmt: skip
    return ["weft.X", "lstm", INPUT, H, 0, 1, "forward", weights, options]


NATIVE_WRONG = {
    "mode": (1, ["lstmx", "", None, 5]),
    "input_size": (2, [0, -1, 6, 2**31, 2**62, 2**63, "5", None]),
    "hidden_size": (3, [0, -1, 8, 2**31, 2**61, 2**62, 2**63, "7", None]),
    "proj_size": (4, [-1, 3, 8, 2**62]),
    "num_layers": (5, [0, -1, 2, 2**31, 2**62]),
    "direction": (6, ["bidirectional", "backward", "", None]),
    "weights": (7, [[], None, [()], [(None,) * 6], 5, "abc", [(1, 2, 3, 4, 5, 6)], [([],) * 6]]),
    "options": (8, [{}, None, {"activations": {}}, {"activations": None}]),
}


@pytest.mark.parametrize("argument", NATIVE_WRONG)
def test_native_constructor(argument):
    index, values = NATIVE_WRONG[argument]
    weft._core.Recurrent(*native_arguments())
    for value in values:
        arguments = native_arguments()
        arguments[index] = value
        with pytest.raises((ValueError, TypeError, KeyError)):
            weft._core.Recurrent(*arguments)


@settings(max_examples=200)
@given(st.integers(0, 3), st.sampled_from(WRONG_DTYPES), st.booleans())
def test_native_weights(index, dtype, transposed):
    """Wrong dtypes and shapes in the place of each weight."""
    arguments = native_arguments()
    row = list(arguments[7][0])
    row[index] = row[index].T[..., :-1].copy() if transposed else row[index].astype(object)
    if not transposed:
        row[index] = np.zeros(row[index].shape, dtype)
    arguments[7] = [tuple(row)]
    with pytest.raises((ValueError, TypeError)):
        weft._core.Recurrent(*arguments)


def test_native_run():
    native = weft._core.Recurrent(*native_arguments())
    x, h = samples.normal(0, T, B, INPUT), np.zeros((1, B, H), F32)
    right = [x, h, h, None, None, None, None, None, False]
    long = np.full(B, T + 1)
    wrong = {
        0: [None, x[0], x[..., :-1], x.astype(float), x.astype(">f4"), "x", x[None]],
        1: [h[0], h[:, :-1], h.astype(float), h[..., :-1], "h", 0],
        2: [h[0], h[:, :-1], h.astype(float), h[..., :-1], "c", 0],
        3: [long, -long, long[:1], long.astype(float), "l", 3, [1, 2]],
        4: [np.ones((T, B), bool), np.ones((B, T)), "m", np.ones((B, T, 1), bool)],
        5: [np.ones((B, T), bool), np.ones((T, B)), "r", np.ones((T, B, 1), bool)],
        8: ["yes", x],
    }
    refused(native.run, right, wrong)


# Products, and functions of whole rows.

NO_MATRICES = [
    None,
    "x",
    3.0,
    [[1.0]],
    np.zeros((), F32),
    np.zeros(4, F32),
    np.zeros((2, 3, 4), F32),
]
NO_MATRICES += [np.zeros((3, 5), dtype) for dtype in (*WRONG_DTYPES, ">f4")]
NO_MATRICES += [misaligned(3, 5)]
NO_VECTORS = ["b", 1.0, np.zeros((), F32), np.zeros((1, 4), F32), np.zeros(4), misaligned(4)]
NO_NAMES = [None, 5, ["weft"]]
NO_ACTIVATIONS = ["relu", ("nosuch", 0.0, 0.0), ("relu",), ("relu", "0", 0.0), (1, 0.0, 0.0), 5]


def test_native_linear():
    """x [3, 5], weight [4, 5], bias [4], residual [3, 4]."""
    x, weight, bias = samples.normal(0, 3, 5), samples.normal(1, 4, 5), samples.normal(2, 4)
    other = [weight[:, 1:], weight.T, weight[:, ::-1], weight[::-1]]
    refused(weft._core.Linear, ["f", weight, bias], {
        0: NO_NAMES,
        1: [*NO_MATRICES, *other[:-1], np.broadcast_to(weight[:1], (4, 5)), np.zeros((5, 5), F32)],
        2: [*NO_VECTORS, bias[1:], np.zeros(8, F32)[::2], np.broadcast_to(bias[:1], 4)],
    })  # fmt: skip
    wrong_x = [*NO_MATRICES, x[:, 1:], x.T, x[:, ::-1]]
    refused(
        weft._core.linear, [x, weight, bias], {0: wrong_x, 1: other, 2: [*NO_VECTORS, bias[1:]]}
    )
    linear = weft._core.Linear("f", weight, None)
    residual = samples.normal(3, 3, 4)
    refused(linear.run, ["f", x, ("elu", 1.0, 0.0), residual], {
        0: NO_NAMES,
        1: wrong_x,
        2: NO_ACTIVATIONS,
        3: [*NO_MATRICES[1:], residual[1:], residual[:, 1:], np.asfortranarray(residual)],
    })  # fmt: skip
    huge = np.broadcast_to(x[:1], (2**58, 5))  # its product fits in no address space
    with pytest.raises((ValueError, MemoryError)):
        linear.run("f", huge, None, None)


def test_native_rows():
    """layer_norm and softmax: x and residual [3, 5], weight and bias [5]."""
    x, vector = samples.normal(0, 3, 5), samples.normal(1, 5)
    wrong_vectors = [*NO_VECTORS, vector[1:], np.broadcast_to(vector[:1], 5)]
    wrong_x = [*NO_MATRICES, x[:, ::-1], np.asfortranarray(x)]
    refused(weft._core.layer_norm, ["f", x, vector, vector, 1e-5, x], {
        0: NO_NAMES,
        1: [*wrong_x, x[1:]],
        2: wrong_vectors,
        3: wrong_vectors,
        4: [None, "0", x, [1.0]],
        5: [*NO_MATRICES[1:], x[1:], x[:, 1:], x[::-1], np.asfortranarray(x)],
    })  # fmt: skip
    refused(weft._core.softmax, ["f", x], {0: NO_NAMES, 1: wrong_x})


def test_native_embedding_sum():
    tables = [samples.normal(0, 5, 4), samples.normal(1, 3, 4)]
    ids = [np.array([0, 4]), np.array([2, 0])]
    no_ids = [
        0,
        "i",
        [0, 1],
        None,
        np.zeros((2, 1), int),
        np.array([0.0, 1.0]),
        np.zeros(2, np.int32),
    ]
    no_ids += [np.array([0, 3]), np.array([-1, 0]), np.array([0, 2**62]), np.array([-(2**63), 0])]
    no_ids += [np.zeros(3, int), np.zeros(4, int)[::2], np.zeros(2, ">i8"), np.zeros(2, np.uint64)]
    refused(weft._core.embedding_sum, ["f", tables, ids], {
        0: NO_NAMES,
        1: [None, 5, "ab", [], tables[:1], [*tables, tables[0]], [tables[0], tables[1][:, 1:]],
            *([tables[0], wrong] for wrong in [*NO_MATRICES, tables[1][:, ::-1]])],
        2: [None, 5, "01", [], ids[:1], [*ids, ids[0]], *([ids[0], wrong] for wrong in no_ids)],
    })  # fmt: skip


# Attention: q [2, 4, 3, 5], k [2, 2, 6, 5], v [2, 2, 6, 7].


def heads(*shape):
    """Right, then what no axis or stride may be."""
    right = samples.normal(0, *shape)
    wrong = [
        None,
        "q",
        1.0,
        right.tolist(),
        right[0],
        right[None],
        right[..., ::-1],
        right[..., 1:],
    ]
    wrong += [
        right.astype(dtype) for dtype in (np.float64, np.float16, np.int32, np.complex64, ">f4")
    ]
    return right, [*wrong, np.asfortranarray(right), misaligned(*shape)]


def attention_arguments():
    return [
        "f", heads(2, 4, 3, 5)[0], heads(2, 2, 6, 5)[0], heads(2, 2, 6, 7)[0], None, False, 0.5,
        np.array([3, 1]), np.array([6, 0]), (2, 3), 1.0, samples.normal(0, 4), np.array([0, 3]),
        np.zeros((2, 4, 3, 7), F32), np.zeros((2, 4, 3, 6), F32), np.zeros((2, 4, 3), F32),
    ]  # fmt: skip


def attention(*arguments):
    """The options one by one."""
    return weft._core.attention(*arguments[:4], arguments[4:13], *arguments[13:])


def attention_backward(*arguments):
    return weft._core.attention_backward(*arguments[:4], arguments[4:13], *arguments[13:])


def no_lengths(most):
    wrong = [
        "l",
        3,
        [1, 2],
        np.ones(3, int),
        np.ones((2, 1), int),
        np.ones(2),
        np.ones(4, int)[::2],
    ]
    wrong += [np.ones(2, np.int32), np.array([1, most + 1]), np.array([-(2**63), 0])]
    return [*wrong, np.array([0, 2**63 - 1])]


def frozen(array):
    array.flags.writeable = False
    return array


ATTENTION_WRONG = {
    0: NO_NAMES,
    1: [*heads(2, 4, 3, 5)[1], *(np.zeros(s, F32) for s in ((3, 4, 3, 5), (2, 5, 3, 5), (2, 4, 3, 0)))],
    2: [*heads(2, 2, 6, 5)[1], *(np.zeros(s, F32) for s in ((1, 2, 6, 5), (2, 3, 6, 5), (2, 0, 6, 5)))],
    3: [*heads(2, 2, 6, 7)[1][:-1], *(np.zeros(s, F32) for s in ((2, 2, 5, 7), (2, 4, 6, 7)))],
    4: ["m", 0.0, np.ones((2, 4, 3, 6)), np.ones((2, 4, 3, 6), np.uint8), np.ones((3, 6), bool),
        np.ones((2, 4, 3, 5), bool), np.ones((2, 4, 3, 12), bool)[..., ::2], misaligned(2, 4, 3, 6)],
    5: ["yes", np.ones(2)],
    6: [None, "1", [0.5]],
    7: no_lengths(3),
    8: no_lengths(6),
    9: [None, 3, (1,), (1, 2, 3), (-2, 0), (0, -2), (2**41, 0), (0, 2**63), (1.5, 2), ("1", "2")],
    10: [None, "1", [0.5]],
    11: [*NO_VECTORS, np.zeros(5, F32), np.zeros(8, F32)[::2]],
    12: no_lengths(2**40),
    13: ["o", *heads(2, 4, 3, 7)[1][2:], frozen(np.zeros((2, 4, 3, 7), F32)),
         np.zeros((2, 4, 3, 8), F32), np.zeros((2, 4, 3, 7), F32)[::-1],
         np.lib.stride_tricks.as_strided(np.zeros(200, F32), (2, 4, 3, 7), (0, 84, 28, 4)),
         np.lib.stride_tricks.as_strided(np.zeros(200, F32), (2, 4, 3, 7), (336, 84, 24, 4))],
    14: ["w", *heads(2, 4, 3, 6)[1][2:], frozen(np.zeros((2, 4, 3, 6), F32)),
         np.zeros((2, 4, 3, 5), F32), np.zeros((2, 4, 6, 3), F32).swapaxes(2, 3)],
}  # fmt: skip


NO_LSE = [*NO_VECTORS, np.zeros((2, 4, 4), F32), np.zeros((2, 4, 6), F32)[..., ::2]]


@pytest.mark.parametrize("index", [*ATTENTION_WRONG, 15])
def test_native_attention(index):
    wrong = ATTENTION_WRONG.get(index, [*NO_LSE, frozen(np.zeros((2, 4, 3), F32))])
    refused(attention, attention_arguments(), {index: wrong})


@pytest.mark.parametrize("options", [None, (), (1,) * 9, (None,) * 10, "options", {}], ids=str)
def test_native_attention_options(options):
    arguments = attention_arguments()
    with pytest.raises(TypeError):
        weft._core.attention(*arguments[:4], options, *arguments[13:])


BACKWARD_SHAPES = [(2, 4, 3), *[(2, 4, 3, 7)] * 2, (2, 4, 3, 5), (2, 2, 6, 5), (2, 2, 6, 7)]


@pytest.mark.parametrize("index", range(19))
def test_native_attention_backward(index):
    shapes = BACKWARD_SHAPES
    arguments = [*attention_arguments()[:13], *(np.zeros(shape, F32) for shape in shapes)]
    attention_backward(*arguments)
    if index < 13:
        wrong = ATTENTION_WRONG[index]
    elif index == 13:
        wrong = [None, *NO_LSE]
    else:
        shape = shapes[index - 13]
        wrong = [
            None,
            *heads(*shape)[1],
            *(np.zeros((2, *rest), F32) for rest in ((4, 3, 6), (3, 6, 5))),
        ]
        if index > 15:
            wrong += [frozen(np.zeros(shape, F32)), np.zeros((*shape[:2], 1, shape[3]), F32)]
            wrong += [np.broadcast_to(np.zeros(shape[1:], F32), shape)]
    refused(attention_backward, arguments, {index: wrong})


@pytest.mark.parametrize("shape", [(0, 4, 3, 6), (2, 0, 3, 6), (2, 4, 0, 6), (2, 4, 3, 0)], ids=str)
def test_native_attention_of_nothing(shape):
    """No row, head, query or key: nothing is read, and what is written is zero."""
    b, n, s, k = shape
    out, weights, lse = (np.ones((b, n, s, *last), F32) for last in ((7,), (k,), ()))
    given = [
        "f", np.ones((b, n, s, 5), F32), np.ones((b, 2, k, 5), F32), np.ones((b, 2, k, 7), F32),
        np.ones((b, n, s, k), bool), False, 1.0, np.zeros(b, int), np.zeros(b, int), (-1, -1), 0.0,
        np.zeros(n, F32), np.zeros(b, int),
    ]  # fmt: skip
    attention(*given, out, weights, lse)
    assert not out.any()
    assert not weights.any()
    assert (lse == -np.inf).all()
    gradients = [np.zeros(a.shape, F32) for a in given[1:4]]
    attention_backward(*given, lse, out, np.ones_like(out), *gradients)
    assert not any(g.any() for g in gradients)


# Encoder: H = 6 with two heads, F = 5; three tokens in sequences of two and one.

ENCODER = ["f", 6, 2, 5, ("relu", 0.0, 0.0), False, 1e-5]
LAYER = [(18, 6), (18,), (6, 6), (6,), (6,), (6,), (5, 6), (5,), (6, 5), (6,), (6,), (6,)]


def encoder(layers=2):
    result = weft._core.Encoder(*ENCODER)
    for _ in range(layers):
        result.add_layer(*(samples.normal(0, *shape) for shape in LAYER))
    return result


def test_native_encoder_constructor():
    sizes = [0, -1, 2**31, 2**62, 2**63, "6", None, 6.0]
    refused(weft._core.Encoder, ENCODER, {
        0: NO_NAMES,
        1: [*sizes, 5, 514],
        2: [*sizes, 4, 12],
        3: sizes,
        4: [*NO_ACTIVATIONS, None],
        5: ["yes", np.ones(2)],
        6: [None, "0", [1.0]],
    })  # fmt: skip


def test_native_encoder_layers():
    right = [samples.normal(0, *shape) for shape in LAYER]
    wrong = {}
    for index, array in enumerate(right):
        kinds = NO_MATRICES if array.ndim == 2 else NO_VECTORS
        wrong[index] = [*kinds, array[1:], array[::-1], array[None], np.repeat(array, 2, 0)[::2]]
    refused(weft._core.Encoder(*ENCODER).add_layer, right, wrong)
    ran = encoder()
    ran.run("f", np.zeros((0, 6), F32), np.zeros(1, int), None, False, 0, 2, None)
    with pytest.raises(ValueError, match="add_layer after run"):
        ran.add_layer(*right)


ENCODER_WRONG = {
    0: NO_NAMES,
    1: [*NO_MATRICES, np.zeros((3, 5), F32), np.zeros((2, 6), F32), np.zeros((3, 12), F32)[:, ::2],
        np.zeros((6, 6), F32)[::2]],
    2: [None, "o", [0, 2, 3], np.array([0, 2, 2]), np.array([0, 2, 4]), np.array([1, 2, 3]),
        np.array([0, 4, 3]), np.array([0, -1, 3]), np.array([-1, 3]), np.zeros(0, int), np.array([3]),
        np.array([0, 2**63 - 1, 3]), np.array([0.0, 3.0]), np.array([[0, 3]]),
        np.array([0, 2, 3], np.int32), np.array([0, 9, 2, 9, 3])[::2]],
    3: ["m", np.ones((2, 2, 2, 2)), np.ones((2, 2), bool), np.ones((2, 2, 3, 3), bool),
        np.ones((2, 2, 2, 2), np.uint8), np.ones((2, 2, 2, 4), bool)[..., ::2], misaligned(2, 2, 2, 2)],
    4: ["yes", np.ones(2)],
    5: [-1, 1, 3, 2**62, 2**63, "0", None, 0.5],
    6: [-1, 0, 2, 3, 2**63, "1", None],
    7: ["w", np.zeros((2, 2, 2, 2)), np.zeros((2, 2, 3, 3), F32), frozen(np.zeros((2, 2, 2, 2), F32)),
        np.zeros((2, 2, 2, 4), F32)[..., ::2], np.broadcast_to(F32(0), (2, 2, 2, 2))],
}  # fmt: skip


@pytest.mark.parametrize("index", ENCODER_WRONG)
def test_native_encoder_run(index):
    x, weights = samples.normal(0, 3, 6), np.zeros((2, 2, 2, 2), F32)
    right = ["f", x, np.array([0, 2, 3]), np.ones((2, 2, 2, 2), bool), False, 0, 1, weights]
    refused(encoder().run, right, {index: ENCODER_WRONG[index]})


# Objects.


def test_native_objects_come_from_their_constructors():
    """Neither a copy nor __new__ alone makes one with nothing in it."""
    native = weft._core.Recurrent(*native_arguments())
    linear = weft._core.Linear("f", np.zeros((3, 2), F32), None)
    for value in (native, native.stream(2), linear, encoder()):
        for way in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError):
                way(value)
        cls = type(value)
        with pytest.raises(TypeError):
            cls()
        for base in cls.__mro__:
            with pytest.raises(TypeError):
                base.__new__(cls)

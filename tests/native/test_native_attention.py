"""treadle._core's attention and encoder: as safe as what is built upon them."""

import numpy as np
import pytest

import treadle
from support import samples
from support.native_checks import (
    F32,
    NO_ACTIVATIONS,
    NO_MATRICES,
    NO_NAMES,
    NO_VECTORS,
    frozen,
    misaligned,
    refused,
)

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
        (0.25, 3), "float32", np.zeros((2, 4, 3, 7), F32), np.zeros((2, 4, 3, 6), F32), np.zeros((2, 4, 3), F32),
    ]  # fmt: skip


def attention(*arguments):
    """The options one by one."""
    return treadle._core.attention(*arguments[:4], arguments[4:15], *arguments[15:])


def attention_backward(*arguments):
    return treadle._core.attention_backward(*arguments[:4], arguments[4:15], *arguments[15:])


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
    13: [None, 0.5, (0.5,), (-0.1, 0), (1.1, 0), (np.nan, 0), (0.5, -1), (0.5, 2**64), ("1", 2)],
    14: [None, 1, "float64", "int8", "bfloat16 "],
    15: ["o", *heads(2, 4, 3, 7)[1][2:], frozen(np.zeros((2, 4, 3, 7), F32)),
         np.zeros((2, 4, 3, 8), F32), np.zeros((2, 4, 3, 7), F32)[::-1],
         np.lib.stride_tricks.as_strided(np.zeros(200, F32), (2, 4, 3, 7), (0, 84, 28, 4)),
         np.lib.stride_tricks.as_strided(np.zeros(200, F32), (2, 4, 3, 7), (336, 84, 24, 4))],
    16: ["w", *heads(2, 4, 3, 6)[1][2:], frozen(np.zeros((2, 4, 3, 6), F32)),
         np.zeros((2, 4, 3, 5), F32), np.zeros((2, 4, 6, 3), F32).swapaxes(2, 3)],
}  # fmt: skip


NO_LSE = [*NO_VECTORS, np.zeros((2, 4, 4), F32), np.zeros((2, 4, 6), F32)[..., ::2]]


@pytest.mark.parametrize("index", [*ATTENTION_WRONG, 17])
def test_native_attention(index):
    wrong = ATTENTION_WRONG.get(index, [*NO_LSE, frozen(np.zeros((2, 4, 3), F32))])
    refused(attention, attention_arguments(), {index: wrong})


@pytest.mark.parametrize("options", [None, (), (1,) * 11, (None,) * 12, "options", {}], ids=str)
def test_native_attention_options(options):
    arguments = attention_arguments()
    with pytest.raises(TypeError):
        treadle._core.attention(*arguments[:4], options, *arguments[15:])


BACKWARD_SHAPES = [(2, 4, 3), *[(2, 4, 3, 7)] * 2, (2, 4, 3, 5), (2, 2, 6, 5), (2, 2, 6, 7)]


@pytest.mark.parametrize("index", range(21))
def test_native_attention_backward(index):
    shapes = BACKWARD_SHAPES
    arguments = [*attention_arguments()[:15], *(np.zeros(shape, F32) for shape in shapes)]
    attention_backward(*arguments)
    if index < 15:
        wrong = ATTENTION_WRONG[index]
    elif index == 15:
        wrong = [None, *NO_LSE]
    else:
        shape = shapes[index - 15]
        wrong = [
            None,
            *heads(*shape)[1],
            *(np.zeros((2, *rest), F32) for rest in ((4, 3, 6), (3, 6, 5))),
        ]
        if index > 17:
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
        np.zeros(n, F32), np.zeros(b, int), (0.5, 1), "float32",
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
    result = treadle._core.Encoder(*ENCODER)
    for _ in range(layers):
        result.add_layer(*(samples.normal(0, *shape) for shape in LAYER))
    return result


def test_native_encoder_constructor():
    sizes = [0, -1, 2**31, 2**62, 2**63, "6", None, 6.0]
    refused(treadle._core.Encoder, ENCODER, {
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
    refused(treadle._core.Encoder(*ENCODER).add_layer, right, wrong)
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

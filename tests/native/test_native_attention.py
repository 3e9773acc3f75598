"""treadle._core's attention: as safe as what is built upon it."""

import numpy as np
import pytest

import treadle
from support import samples
from support.native_checks import (
    F32,
    NO_NAMES,
    NO_VECTORS,
    frozen,
    misaligned,
    refused_by_name,
)
from support.tolerance import assert_same_bits

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


HEADS = "function", "query", "key", "value"


def attention_options():
    return {
        "mask": None,
        "is_causal": False,
        "scale": 0.5,
        "query_lengths": np.array([3, 1]),
        "key_lengths": np.array([6, 0]),
        "window": (2, 3),
        "softcap": 1.0,
        "alibi_slopes": samples.normal(0, 4),
        "query_offset": np.array([0, 3]),
        "dropout": (0.25, 3),
        "dtype": "float32",
    }


def attention_arguments():
    """All of them by name, the options among them."""
    heads_of = {"query": (2, 4, 3, 5), "key": (2, 2, 6, 5), "value": (2, 2, 6, 7)}
    return {
        "function": "f",
        **{name: heads(*shape)[0] for name, shape in heads_of.items()},
        **attention_options(),
        "out": np.zeros((2, 4, 3, 7), F32),
        "probabilities": np.zeros((2, 4, 3, 6), F32),
        "lse": np.zeros((2, 4, 3), F32),
    }


def attention(**arguments):
    options = {name: arguments.pop(name) for name in attention_options()}
    return treadle._core.attention(**arguments, options=options)


def attention_backward(**arguments):
    options = {name: arguments.pop(name) for name in attention_options()}
    forward = {name: arguments.pop(name) for name in ("out", "lse")}
    grads = {name: arguments.pop(f"d_{name}") for name in HEADS[1:]}
    return treadle._core.attention_backward(
        **arguments, options=options, forward=forward, grads=grads
    )


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
    "function": NO_NAMES,
    "query": [*heads(2, 4, 3, 5)[1],
        *(np.zeros(s, F32) for s in ((3, 4, 3, 5), (2, 5, 3, 5), (2, 4, 3, 0)))],
    "key": [*heads(2, 2, 6, 5)[1],
        *(np.zeros(s, F32) for s in ((1, 2, 6, 5), (2, 3, 6, 5), (2, 0, 6, 5)))],
    "value": [*heads(2, 2, 6, 7)[1][:-1],
        *(np.zeros(s, F32) for s in ((2, 2, 5, 7), (2, 4, 6, 7)))],
    "mask": ["m", 0.0, np.ones((2, 4, 3, 6)), np.ones((2, 4, 3, 6), np.uint8),
        np.ones((3, 6), bool), np.ones((2, 4, 3, 5), bool), np.ones((2, 4, 3, 12), bool)[..., ::2],
        misaligned(2, 4, 3, 6)],
    "is_causal": ["yes", np.ones(2)],
    "scale": [None, "1", [0.5]],
    "query_lengths": no_lengths(3),
    "key_lengths": no_lengths(6),
    "window": [None, 3, (1,), (1, 2, 3), (-2, 0), (0, -2), (2**41, 0), (0, 2**63), (1.5, 2),
        ("1", "2")],
    "softcap": [None, "1", [0.5]],
    "alibi_slopes": [*NO_VECTORS, np.zeros(5, F32), np.zeros(8, F32)[::2]],
    "query_offset": no_lengths(2**40),
    "dropout": [None, 0.5, (0.5,), (-0.1, 0), (1.1, 0), (np.nan, 0), (0.5, -1), (0.5, 2**64),
        ("1", 2)],
    "dtype": [None, 1, "float64", "int8", "bfloat16 "],
    "out": ["o", *heads(2, 4, 3, 7)[1][2:], frozen(np.zeros((2, 4, 3, 7), F32)),
         np.zeros((2, 4, 3, 8), F32), np.zeros((2, 4, 3, 7), F32)[::-1],
         np.lib.stride_tricks.as_strided(np.zeros(200, F32), (2, 4, 3, 7), (0, 84, 28, 4)),
         np.lib.stride_tricks.as_strided(np.zeros(200, F32), (2, 4, 3, 7), (336, 84, 24, 4))],
    "probabilities": ["w", *heads(2, 4, 3, 6)[1][2:], frozen(np.zeros((2, 4, 3, 6), F32)),
         np.zeros((2, 4, 3, 5), F32), np.zeros((2, 4, 6, 3), F32).swapaxes(2, 3)],
}  # fmt: skip


NO_LSE = [*NO_VECTORS, np.zeros((2, 4, 4), F32), np.zeros((2, 4, 6), F32)[..., ::2]]


@pytest.mark.parametrize("name", [*ATTENTION_WRONG, "lse"])
def test_native_attention(name):
    wrong = ATTENTION_WRONG.get(name, [*NO_LSE, frozen(np.zeros((2, 4, 3), F32))])
    refused_by_name(attention, attention_arguments(), {name: wrong})


@pytest.mark.parametrize(
    "options",
    [None, (), (1,) * 11, {"scales": 0.5}, {"mask ": None}, {1: 2}, {"\ud800": 1}, "options",
     {f"name{i}": i for i in range(99)}],
    ids=lambda options: repr(options)[:20],
)  # fmt: skip
def test_native_attention_options(options):
    """A dict of names that are known, and nothing else."""
    right = attention_arguments()
    arrays = {name: right[name] for name in HEADS}
    treadle._core.attention(**arrays)
    treadle._core.attention(**arrays, options={})
    with pytest.raises(TypeError):
        treadle._core.attention(**arrays, options=options)


@pytest.mark.parametrize("name", attention_options())
def test_native_attention_options_may_be_left_out(name):
    """An option that is left out is the one that changes nothing."""
    nothing = {
        "mask": None,
        "is_causal": False,
        "scale": 1.0,
        "query_lengths": None,
        "key_lengths": None,
        "window": (-1, -1),
        "softcap": 0.0,
        "alibi_slopes": None,
        "query_offset": None,
        "dropout": (0.0, 0),
        "dtype": "float32",
    }
    right = attention_arguments()
    arrays = {name: right[name] for name in HEADS}
    fewer = {key: value for key, value in nothing.items() if key != name}
    y = treadle._core.attention(**arrays, options=nothing)
    assert_same_bits(treadle._core.attention(**arrays, options=fewer), y)


def test_native_attention_takes_names_only():
    right = attention_arguments()
    with pytest.raises(TypeError):
        treadle._core.attention(*(right[name] for name in HEADS), {}, None, None, None)


BACKWARD_SHAPES = {
    "lse": (2, 4, 3), "out": (2, 4, 3, 7), "dout": (2, 4, 3, 7),
    "d_query": (2, 4, 3, 5), "d_key": (2, 2, 6, 5), "d_value": (2, 2, 6, 7),
}  # fmt: skip


@pytest.mark.parametrize("name", [*HEADS, *attention_options(), *BACKWARD_SHAPES])
def test_native_attention_backward(name):
    shapes = BACKWARD_SHAPES
    right = {key: attention_arguments()[key] for key in (*HEADS, *attention_options())}
    right |= {key: np.zeros(shape, F32) for key, shape in shapes.items()}
    attention_backward(**right)
    if name == "lse":
        wrong = [None, *NO_LSE]
    elif name in shapes:
        shape = shapes[name]
        wrong = [
            None,
            *heads(*shape)[1],
            *(np.zeros((2, *rest), F32) for rest in ((4, 3, 6), (3, 6, 5))),
        ]
        if name.startswith("d_"):
            wrong += [frozen(np.zeros(shape, F32)), np.zeros((*shape[:2], 1, shape[3]), F32)]
            wrong += [np.broadcast_to(np.zeros(shape[1:], F32), shape)]
    else:
        wrong = ATTENTION_WRONG[name]
    refused_by_name(attention_backward, right, {name: wrong})


@pytest.mark.parametrize("which", ["forward", "grads"])
@pytest.mark.parametrize("value", [None, (), {}, {"query": 1}, {"wrong": 1}, "dict"], ids=str)
def test_native_attention_backward_takes_dicts(which, value):
    right = attention_arguments()
    arguments = {name: right[name] for name in HEADS}
    arguments |= {
        "options": {},
        "forward": {"out": np.zeros((2, 4, 3, 7), F32), "lse": np.zeros((2, 4, 3), F32)},
        "dout": np.zeros((2, 4, 3, 7), F32),
        "grads": {name: np.zeros_like(right[name]) for name in HEADS[1:]},
    }
    treadle._core.attention_backward(**arguments)
    with pytest.raises((TypeError, ValueError)):
        treadle._core.attention_backward(**arguments | {which: value})
    if isinstance(value, dict):
        with pytest.raises(TypeError):
            treadle._core.attention_backward(
                **arguments | {which: arguments[which] | {"wrong": None}}
            )


@pytest.mark.parametrize("shape", [(0, 4, 3, 6), (2, 0, 3, 6), (2, 4, 0, 6), (2, 4, 3, 0)], ids=str)
def test_native_attention_of_nothing(shape):
    """No row, head, query or key: nothing is read, and what is written is zero."""
    b, n, s, k = shape
    out, probabilities, lse = (np.ones((b, n, s, *last), F32) for last in ((7,), (k,), ()))
    given = {
        "function": "f",
        "query": np.ones((b, n, s, 5), F32),
        "key": np.ones((b, 2, k, 5), F32),
        "value": np.ones((b, 2, k, 7), F32),
        "mask": np.ones((b, n, s, k), bool),
        "is_causal": False,
        "scale": 1.0,
        "query_lengths": np.zeros(b, int),
        "key_lengths": np.zeros(b, int),
        "window": (-1, -1),
        "softcap": 0.0,
        "alibi_slopes": np.zeros(n, F32),
        "query_offset": np.zeros(b, int),
        "dropout": (0.5, 1),
        "dtype": "float32",
    }
    attention(**given, out=out, probabilities=probabilities, lse=lse)
    assert not out.any()
    assert not probabilities.any()
    assert (lse == -np.inf).all()
    grads = {f"d_{name}": np.zeros_like(given[name]) for name in HEADS[1:]}
    attention_backward(**given, lse=lse, out=out, dout=np.ones_like(out), **grads)
    assert not any(g.any() for g in grads.values())

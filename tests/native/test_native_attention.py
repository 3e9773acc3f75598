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


def refused_by_name(function, right, wrong):
    """The right arguments do; each wrong value in the place of one of them does not."""
    names = list(right)
    refused(
        lambda *values: function(**dict(zip(names, values, strict=True))),
        list(right.values()),
        {names.index(name): values for name, values in wrong.items()},
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
    "query": [*heads(2, 4, 3, 5)[1], *(np.zeros(s, F32) for s in ((3, 4, 3, 5), (2, 5, 3, 5), (2, 4, 3, 0)))],
    "key": [*heads(2, 2, 6, 5)[1], *(np.zeros(s, F32) for s in ((1, 2, 6, 5), (2, 3, 6, 5), (2, 0, 6, 5)))],
    "value": [*heads(2, 2, 6, 7)[1][:-1], *(np.zeros(s, F32) for s in ((2, 2, 5, 7), (2, 4, 6, 7)))],
    "mask": ["m", 0.0, np.ones((2, 4, 3, 6)), np.ones((2, 4, 3, 6), np.uint8), np.ones((3, 6), bool),
        np.ones((2, 4, 3, 5), bool), np.ones((2, 4, 3, 12), bool)[..., ::2], misaligned(2, 4, 3, 6)],
    "is_causal": ["yes", np.ones(2)],
    "scale": [None, "1", [0.5]],
    "query_lengths": no_lengths(3),
    "key_lengths": no_lengths(6),
    "window": [None, 3, (1,), (1, 2, 3), (-2, 0), (0, -2), (2**41, 0), (0, 2**63), (1.5, 2), ("1", "2")],
    "softcap": [None, "1", [0.5]],
    "alibi_slopes": [*NO_VECTORS, np.zeros(5, F32), np.zeros(8, F32)[::2]],
    "query_offset": no_lengths(2**40),
    "dropout": [None, 0.5, (0.5,), (-0.1, 0), (1.1, 0), (np.nan, 0), (0.5, -1), (0.5, 2**64), ("1", 2)],
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
        treadle._core.attention(*(right[name] for name in HEADS), {}, None, None)


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


# Encoder: H = 6 with two heads, F = 5; three tokens in sequences of two and one.

ENCODER = {
    "function": "f",
    "hidden": 6,
    "num_heads": 2,
    "feed_forward": 5,
    "activation": ("relu", 0.0, 0.0),
    "norm_first": False,
    "eps": 1e-5,
}
LAYER = {
    "self_attn.in_proj_weight": (18, 6),
    "self_attn.in_proj_bias": (18,),
    "self_attn.out_proj.weight": (6, 6),
    "self_attn.out_proj.bias": (6,),
    "norm1.weight": (6,),
    "norm1.bias": (6,),
    "linear1.weight": (5, 6),
    "linear1.bias": (5,),
    "linear2.weight": (6, 5),
    "linear2.bias": (6,),
    "norm2.weight": (6,),
    "norm2.bias": (6,),
}


def weights():
    return {name: samples.normal(0, *shape) for name, shape in LAYER.items()}


def encoder(layers=2):
    result = treadle._core.Encoder(**ENCODER)
    for _ in range(layers):
        result.add_layer(weights())
    return result


def test_native_encoder_constructor():
    sizes = [0, -1, 2**31, 2**62, 2**63, "6", None, 6.0]
    refused_by_name(treadle._core.Encoder, ENCODER, {
        "function": NO_NAMES,
        "hidden": [*sizes, 5, 514],
        "num_heads": [*sizes, 4, 12],
        "feed_forward": sizes,
        "activation": [*NO_ACTIVATIONS, None],
        "norm_first": ["yes", np.ones(2)],
        "eps": [None, "0", [1.0]],
    })  # fmt: skip
    with pytest.raises(TypeError):
        treadle._core.Encoder(*ENCODER.values())


def test_native_encoder_layers():
    right = weights()
    made = treadle._core.Encoder(**ENCODER)
    made.add_layer(right)
    for name, array in right.items():
        wrong = NO_MATRICES if array.ndim == 2 else NO_VECTORS
        wrong = [*wrong, array[1:], array[::-1], array[None], np.repeat(array, 2, 0)[::2]]
        for value in wrong:
            with pytest.raises((ValueError, TypeError), match=rf"^f: {name} "):
                made.add_layer(right | {name: value})
        fewer = {key: value for key, value in right.items() if key != name}
        if array.ndim == 2:
            with pytest.raises((ValueError, TypeError), match=rf"^f: {name} "):
                made.add_layer(fewer)
        else:
            made.add_layer(fewer)
    for value in (None, (), list(right.values()), right | {"norm3.bias": None}, {1: 2}):
        with pytest.raises(TypeError):
            made.add_layer(value)
    ran = encoder()
    ran.run("f", np.zeros((0, 6), F32), np.zeros(1, int))
    with pytest.raises(ValueError, match="add_layer after run"):
        ran.add_layer(right)


ENCODER_WRONG = {
    "function": NO_NAMES,
    "x": [*NO_MATRICES, np.zeros((3, 5), F32), np.zeros((2, 6), F32), np.zeros((3, 12), F32)[:, ::2],
        np.zeros((6, 6), F32)[::2]],
    "offsets": [None, "o", [0, 2, 3], np.array([0, 2, 2]), np.array([0, 2, 4]), np.array([1, 2, 3]),
        np.array([0, 4, 3]), np.array([0, -1, 3]), np.array([-1, 3]), np.zeros(0, int), np.array([3]),
        np.array([0, 2**63 - 1, 3]), np.array([0.0, 3.0]), np.array([[0, 3]]),
        np.array([0, 2, 3], np.int32), np.array([0, 9, 2, 9, 3])[::2]],
    "mask": ["m", np.ones((2, 2, 2, 2)), np.ones((2, 2), bool), np.ones((2, 2, 3, 3), bool),
        np.ones((2, 2, 2, 2), np.uint8), np.ones((2, 2, 2, 4), bool)[..., ::2], misaligned(2, 2, 2, 2)],
    "is_causal": ["yes", np.ones(2)],
    "layers": [
        *((first, 1) for first in (-1, 1, 3, 2**62, 2**63, "0", None, 0.5)),
        *((0, last) for last in (-1, 0, 2, 3, 2**63, "1")),
        *((0,), (0, 1, 2), 1, None, (None, None), (2, 1), (0, None)),
    ],
    "probabilities": ["w", np.zeros((2, 2, 2, 2)), np.zeros((2, 2, 3, 3), F32), frozen(np.zeros((2, 2, 2, 2), F32)),
        np.zeros((2, 2, 2, 4), F32)[..., ::2], np.broadcast_to(F32(0), (2, 2, 2, 2))],
}  # fmt: skip


@pytest.mark.parametrize("name", ENCODER_WRONG)
def test_native_encoder_run(name):
    right = {
        "function": "f",
        "x": samples.normal(0, 3, 6),
        "offsets": np.array([0, 2, 3]),
        "mask": np.ones((2, 2, 2, 2), bool),
        "is_causal": False,
        "layers": (0, 1),
        "probabilities": np.zeros((2, 2, 2, 2), F32),
    }
    refused_by_name(encoder().run, right, {name: ENCODER_WRONG[name]})


def test_native_encoder_layers_one_by_one():
    """All layers are the default; a part of them goes on where another part ended."""
    x, offsets, made = samples.normal(0, 3, 6), np.array([0, 2, 3]), encoder()
    y = made.run("f", x, offsets)
    assert_same_bits(made.run("f", x, offsets, layers=(0, 2)), y)
    half = made.run("f", x, offsets, layers=(0, 1))
    assert_same_bits(made.run("f", half, offsets, layers=(1, None)), y)
    assert_same_bits(made.run("f", x, offsets, layers=(2, None)), x)

"""treadle._core's encoder: as safe as what is built upon it."""

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
    refused_by_name,
)
from support.tolerance import assert_same_bits

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


def test_native_encoder_runs_while_a_layer_is_checked():
    """The length of a tuple of another class is Python code, and the encoder may run in it."""
    made = treadle._core.Encoder(**ENCODER, dtype="int8")
    layer = {
        name: (np.ones(shape, np.int8), np.ones((shape[0], 1), F32)) if len(shape) == 2 else None
        for name, shape in LAYER.items()
    }
    made.add_layer(layer)

    class Running(tuple):
        def __len__(self):
            made.run("f", np.zeros((3, 6), F32), np.array([0, 3]))
            return 2

    with pytest.raises(ValueError, match="add_layer after run"):
        made.add_layer(layer | {"linear2.weight": Running(layer["linear2.weight"])})
    assert made.num_layers == 1


ENCODER_WRONG = {
    "function": NO_NAMES,
    "x": [*NO_MATRICES, np.zeros((3, 5), F32), np.zeros((2, 6), F32),
        np.zeros((3, 12), F32)[:, ::2],
        np.zeros((6, 6), F32)[::2]],
    "offsets": [None, "o", [0, 2, 3], np.array([0, 2, 2]), np.array([0, 2, 4]), np.array([1, 2, 3]),
        np.array([0, 4, 3]), np.array([0, -1, 3]), np.array([-1, 3]), np.zeros(0, int),
        np.array([3]),
        np.array([0, 2**63 - 1, 3]), np.array([0.0, 3.0]), np.array([[0, 3]]),
        np.array([0, 2, 3], np.int32), np.array([0, 9, 2, 9, 3])[::2]],
    "mask": ["m", np.ones((2, 2, 2, 2)), np.ones((2, 2), bool), np.ones((2, 2, 3, 3), bool),
        np.ones((2, 2, 2, 2), np.uint8), np.ones((2, 2, 2, 4), bool)[..., ::2],
        misaligned(2, 2, 2, 2)],
    "is_causal": ["yes", np.ones(2)],
    "layers": [
        *((first, 1) for first in (-1, 1, 3, 2**62, 2**63, "0", None, 0.5)),
        *((0, last) for last in (-1, 0, 2, 3, 2**63, "1")),
        *((0,), (0, 1, 2), 1, None, (None, None), (2, 1), (0, None)),
    ],
    "probabilities": ["w", np.zeros((2, 2, 2, 2)), np.zeros((2, 2, 3, 3), F32),
        frozen(np.zeros((2, 2, 2, 2), F32)),
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

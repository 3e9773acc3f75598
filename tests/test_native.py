"""weft._core as users who look find it: as safe as what is built upon it."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import samples
import weft
from entries import INPUT, WRONG_DTYPES, B, H, T

F32 = np.float32


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
    native.run(*right)
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
    for index, values in wrong.items():
        for value in values:
            arguments = list(right)
            arguments[index] = value
            with pytest.raises((ValueError, TypeError)):
                native.run(*arguments)


def test_native_objects_come_from_their_constructors():
    native = weft._core.Recurrent(*native_arguments())
    for value in (native, native.stream(2)):
        for way in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError):
                way(value)
    with pytest.raises(TypeError):
        weft._core.Stream()

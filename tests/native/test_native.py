"""treadle._core as users who look find it, recurrent nets: as safe as what is built upon it."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import treadle
from support import samples
from support.entries import INPUT, WRONG_DTYPES, B, H, T
from support.native_checks import F32, native_encoder
from support.native_recurrent import NAMES, named_layer, native_arguments, net
from support.tolerance import assert_same_bits
from treadle._inputs.arrays import to_float32
from treadle._inputs.sequence import SequenceInputs
from treadle._storage.formats import encode

NATIVE_WRONG = {
    "mode": ["lstmx", "", None, 5],
    "input_size": [0, -1, 6, 2**31, 2**62, 2**63, "5", None],
    "hidden_size": [0, -1, 8, 2**31, 2**61, 2**62, 2**63, "7", None],
    "proj_size": [-1, 3, 8, 2**62],
    "num_layers": [0, -1, 2, 2**31, 2**62],
    "direction": ["bidirectional", "backward", "", None],
    "weights": [
        [], None, [{}], [dict.fromkeys(NAMES)], 5, "abc", {}, [()], [(None,) * 6],
        [dict.fromkeys(NAMES, 1)], [{name: [] for name in NAMES}],
        [named_layer("lstm", INPUT) | {"bias": None}], [named_layer("lstm", INPUT) | {1: None}],
    ],
    "activations": [None, 5, {"f": None}, {"f": "tanh"}, [("tanh", 0.0, 0.0)]],
    "clip": ["1", None],
    "dtype": [
        None, 5, "float16", [], ["float32"] * 3, [None], ["float16"], ("float32",), [["int8"]],
    ],
    "bidirectional": [True, None],
}  # fmt: skip


@pytest.mark.parametrize("argument", NATIVE_WRONG)
def test_native_constructor(argument):
    treadle._core.RecurrentStack(**native_arguments())
    for value in NATIVE_WRONG[argument]:
        with pytest.raises((ValueError, TypeError, KeyError)):
            treadle._core.RecurrentStack(**native_arguments() | {argument: value})


@pytest.mark.parametrize("argument", ["mode", "input_size", "hidden_size", "activations"])
def test_native_constructor_without(argument):
    arguments = native_arguments()
    del arguments[argument]
    with pytest.raises(TypeError, match=f"^treadle.X: {argument} is missing$"):
        treadle._core.RecurrentStack(**arguments)


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
@pytest.mark.parametrize("mode", samples.MODES)
def test_renewed(mode, direction):
    """A net of the same form packs other weights; the first one keeps its own."""
    first, weights = net(mode, direction, layers=2)
    others = [{name: -array for name, array in own.items()} for own in weights]
    inputs = SequenceInputs(samples.normal(0, T, B, INPUT), None, None)
    before = first.run(inputs)
    own = {"mode": mode, "num_layers": 2, "direction": direction, "weights": others}
    anew = treadle._core.RecurrentStack(**native_arguments() | own)
    second = first.renewed(others)
    for array in others[0].values():
        array[...] = 7  # they were packed, not kept
    assert_same_bits(second.run(inputs)[:2], anew.run(inputs)[:2])
    assert_same_bits(second.renewed(weights).run(inputs)[:2], before[:2])
    assert_same_bits(first.run(inputs)[:2], before[:2])


def test_renewed_keeps_every_option():
    """Clipping and coupled gates are those of the net before, peepholes those that are given."""
    own = named_layer("lstm", INPUT) | {"peepholes": samples.normal(5, 3 * H)}
    given = native_arguments() | {"weights": [own], "clip": 0.1, "input_forget": True}
    without = native_arguments() | {"clip": 0.1, "input_forget": True}
    inputs = SequenceInputs(samples.normal(0, T, B, INPUT), None, None)
    with_peepholes = treadle._core.RecurrentStack(**given)
    plain = treadle._core.RecurrentStack(**without)
    assert not np.array_equal(with_peepholes.run(inputs)[0], plain.run(inputs)[0])
    assert_same_bits(plain.renewed([own]).run(inputs)[0], with_peepholes.run(inputs)[0])
    assert_same_bits(
        with_peepholes.renewed(without["weights"]).run(inputs)[0], plain.run(inputs)[0]
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_renewed_keeps_the_dtype(dtype):
    own = named_layer("lstm", INPUT)
    stored = [
        {
            name: encode(sign * array, dtype) if array.ndim == 2 else array
            for name, array in own.items()
        }
        for sign in (1, -1)
    ]
    first, anew = (
        treadle._core.RecurrentStack(**native_arguments() | {"weights": [one], "dtype": dtype})
        for one in stored
    )
    inputs = SequenceInputs(samples.normal(0, T, B, INPUT), None, None)
    assert_same_bits(first.renewed(stored[1:]).run(inputs)[:2], anew.run(inputs)[:2])
    with pytest.raises((ValueError, TypeError)):
        first.renewed([own])  # matrices of float32


def test_renewed_refuses():
    packed = treadle._core.RecurrentStack(**native_arguments())
    for value in NATIVE_WRONG["weights"]:
        with pytest.raises((ValueError, TypeError, KeyError)):
            packed.renewed(value)
    reading = treadle._core.RecurrentStack(**native_arguments(), packed=False)
    with pytest.raises(ValueError, match=r"^treadle\.X: the net has not packed its weights$"):
        reading.renewed(native_arguments()["weights"])


@settings(max_examples=200)
@given(st.sampled_from(NAMES), st.sampled_from(WRONG_DTYPES), st.booleans())
def test_native_weights(name, dtype, transposed):
    """Wrong dtypes and shapes in the place of each weight."""
    arguments = native_arguments()
    [layer] = arguments["weights"]
    right = layer[name]
    layer[name] = right.T[..., :-1].copy() if transposed else np.zeros(right.shape, dtype)
    with pytest.raises((ValueError, TypeError)):
        treadle._core.RecurrentStack(**arguments)


def test_native_run():
    native = treadle._core.RecurrentStack(**native_arguments())
    x, h = samples.normal(0, T, B, INPUT), np.zeros((1, B, H), F32)
    right = {"x": x, "h_0": h, "c_0": h}
    long = np.full(B, T + 1)
    wrong = {
        "x": [None, x[0], x[..., :-1], x.astype(float), x.astype(">f4"), "x", x[None]],
        "h_0": [h[0], h[:, :-1], h.astype(float), h[..., :-1], "h", 0],
        "c_0": [h[0], h[:, :-1], h.astype(float), h[..., :-1], "c", 0],
        "lengths": [long, -long, long[:1], long.astype(float), "l", 3, [1, 2]],
        "mask": [np.ones((T, B), bool), np.ones((B, T)), "m", np.ones((B, T, 1), bool)],
        "resets": [np.ones((B, T), bool), np.ones((T, B)), "r", np.ones((T, B, 1), bool)],
        "batch_first": ["yes", x],
    }
    native.run(SequenceInputs(**right))
    for name, values in wrong.items():
        for value in values:
            with pytest.raises((ValueError, TypeError)):
                native.run(SequenceInputs(**right | {name: value}))
    for value in (None, x, {"x": x}, (x, h, h), 5):
        with pytest.raises(TypeError):
            native.run(value)


def test_native_run_keeps_its_arrays_alive():
    """Inputs that make their arrays anew for whoever asks, and keep none."""

    class Fleeting:
        def __getattr__(self, name):
            if name == "x":
                return samples.normal(0, 40, B, INPUT)
            return (
                np.ones((1, B, H), F32)
                if name in ("h_0", "c_0")
                else name != "batch_first" and None
            )

    native = treadle._core.RecurrentStack(**native_arguments())
    kept = SequenceInputs(samples.normal(0, 40, B, INPUT), *[np.ones((1, B, H), F32)] * 2)
    assert_same_bits(native.run(Fleeting())[0], native.run(kept)[0])


def test_same_bits():
    right = [np.zeros((2, 3), F32), np.zeros(0, F32)]
    same = treadle._core.same_bits
    assert same(right, [a.copy() for a in right])
    assert same([], [])
    for other in ([right[0] + 1, right[1]], [-right[0], right[1]], right[:1], [*right, right[1]],
                  [right[0].reshape(3, 2), right[1]], [right[0].ravel(), right[1]]):  # fmt: skip
        assert not same(right, other)
        assert not same(other, right)
    nan = [np.full(3, np.nan, F32)]
    assert same(nan, nan)
    for wrong in (None, 5, "ab", [1, 2], [None, None], [a.tolist() for a in right],
                  [a.astype(float) for a in right], [a.astype(">i4") for a in right],
                  [right[0][:, ::2], right[1]], [right[0].T, right[1]]):  # fmt: skip
        for pair in ((right, wrong), (wrong, right)):
            with pytest.raises(TypeError):
                same(*pair)


# Objects.


def test_native_objects_come_from_their_constructors():
    """Neither a copy nor __new__ alone makes one with nothing in it."""
    native = treadle._core.RecurrentStack(**native_arguments())
    linear = treadle._core.Linear("f", np.zeros((3, 2), F32), None)
    encoder = native_encoder()
    layer = treadle.TransformerEncoderLayer(6, 2, 5, seed=0).state_dict()
    block = treadle._core.TransformerBlock(
        "f", layer, num_heads=2, activation=("relu", 0.0, 0.0), norm_first=False, eps=1e-5
    )
    for value in (native, native.stream(2, to_float32=to_float32), linear, encoder, block):
        for way in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError):
                way(value)
        cls = type(value)
        with pytest.raises(TypeError):
            cls()
        for base in cls.__mro__:
            with pytest.raises(TypeError):
                base.__new__(cls)


# Numbers that Python reads from the core.


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("mode", samples.MODES)
def test_saved_size(mode, recompute):
    native, _ = net(mode)
    inputs = SequenceInputs(samples.normal(0, T, B, INPUT))
    saved = native.run(inputs, save=True, recompute=recompute)[3]
    assert saved.shape == (1, T, B, treadle._core.saved_size(mode, H, recompute=recompute))
    for wrong in ("lstmx", None, 5):
        with pytest.raises((ValueError, TypeError)):
            treadle._core.saved_size(wrong, H)
    for wrong in (0, -1, 2**31, 2**62, None):
        with pytest.raises((ValueError, TypeError)):
            treadle._core.saved_size(mode, wrong)


def test_saved_size_of_an_rnn_that_is_not_plain():
    assert (
        treadle._core.saved_size("rnn", H) == treadle._core.saved_size("rnn", H, clips=False) == 0
    )
    assert treadle._core.saved_size("rnn", H, clips=True) == H
    assert treadle._core.saved_size("rnn", H, activation="softsign") == H
    assert treadle._core.saved_size("gru", H, reset_after=False) == 3 * H


def test_gate_counts():
    assert treadle._core.gate_counts() == samples.GATES

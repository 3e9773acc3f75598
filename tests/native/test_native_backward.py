"""treadle._core.RecurrentStack.backward as users who look find it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support import samples
from support.entries import INPUT, B, H, T
from support.native_checks import F32, frozen, misaligned
from support.native_recurrent import NAMES, inputs_of, net
from support.tolerance import assert_same_bits
from treadle._inputs.sequence import SequenceInputs


def backward(native, named):
    """`RecurrentStack.backward` with all its arguments by name, those of the inputs among them."""
    grads = {"y": named["dy"], "h_n": named["dh_n"], "c_n": named["dc_n"]}
    others = {name: named[name] for name in ("weights", "y", "saved", "want_x")}
    return native.backward(inputs_of(named), grads=grads, **others)


def backward_arguments(mode, direction="forward", batch_first=False, rows=None):
    """(native, the arguments of a backward pass by name)."""
    native, weights = net(mode, direction)
    D = len(weights)
    x = samples.normal(0, *((B, T) if batch_first else (T, B)), INPUT)
    state = samples.normal(1, D, B, H)
    given = {"x": x, "h_0": state, "c_0": state if mode == "lstm" else None, "lengths": None,
             "mask": None, "resets": np.zeros((T, B), bool), "reset_h": state,
             "reset_c": state if mode == "lstm" else None, "batch_first": batch_first}  # fmt: skip
    given |= rows or {}
    y, h_n, c_n, saved = native.run(inputs_of(given), save=True)
    named = {"weights": weights, "y": y, **given, "saved": saved}
    return native, named | {"dy": np.ones_like(y), "dh_n": h_n, "dc_n": c_n, "want_x": True}


def no_state(array):
    """In the place of a contiguous [D, B, H]."""
    return ["h", 0, 1.5, [0.0], array[0], array[None], array[:, :-1], array[..., :-1],
            array.astype(float), array.astype(">f4"), array.astype(int), array[..., ::-1],
            np.concatenate([array, array]), np.broadcast_to(array[:, :1], array.shape),
            misaligned(*array.shape), np.zeros((0, *array.shape[1:]), F32)]  # fmt: skip


def no_sequence(array):
    """In the place of [T, B, O] with a contiguous last axis."""
    return ["y", 0, 1.5, array[0], array[None], array[..., :-1], array.astype(float),
            array.astype(">f4"), array.astype(np.float16), array[..., ::-1], array[:-1],
            array[:, :-1], np.concatenate([array, array]), misaligned(*array.shape),
            np.zeros((0, *array.shape[1:]), F32), np.asfortranarray(array)]  # fmt: skip


def backward_wrong(mode, named):
    weight = named["weights"][0]
    own = weight | {"weight_ih": weight["weight_ih"][:-1]}
    other = weight | {"weight_hh": weight["weight_hh"].astype(float)}
    less = {name: weight[name] for name in NAMES[1:]}
    long = np.full(B, T + 1)
    wrong = {
        "weights": [None, 5, "w", [], [()], [{}], [dict.fromkeys(NAMES)], [weight, weight], [less],
                    [own], [other], [dict.fromkeys(NAMES, 1)], weight, [weight | {"bias": None}]],
        "x": [None, *no_sequence(named["x"])],
        "y": [None, *no_sequence(named["y"])],
        "h_0": no_state(named["h_0"]),
        "c_0": no_state(named["h_0"]) if mode == "lstm" else [named["h_0"]],
        "lengths": [long, -long, long[:1], long.astype(float), "l", 3, [1] * B, long.astype("i4"),
                    np.full(B, 2**63 - 1), np.full(B, -(2**63)), np.ones(2 * B, int)[::2]],
        "mask": [np.ones((T, B), bool), np.ones((B, T)), "m", np.ones((B, T, 1), bool)],
        "resets": [np.ones((B, T), bool), np.ones((T, B)), "r", np.ones((T, B, 1), bool)],
        "reset_h": no_state(named["h_0"]),
        "reset_c": no_state(named["h_0"]) if mode == "lstm" else [named["h_0"]],
        "batch_first": ["yes", named["x"], True],
        "saved": [None, *no_state(named["saved"]), named["saved"][:, :-1], named["saved"][:, :, 1:],
                  named["saved"].reshape(-1), np.zeros((1, T, B, 1), F32)],
        "dy": no_sequence(named["y"]),
        "dh_n": no_state(named["h_0"]),
        "dc_n": no_state(named["h_0"]) if mode == "lstm" else [named["h_0"]],
        "want_x": ["yes", named["x"]],
    }  # fmt: skip
    if not named["saved"].size:  # of nothing, any slice is right
        wrong["saved"] = [None, "s", named["x"], np.zeros((1, T, B, 1), F32)]
    return wrong


@pytest.mark.parametrize("mode", samples.MODES)
def test_native_backward(mode):
    native, named = backward_arguments(mode)
    expected = arrays_of(backward(native, named))
    for name, values in backward_wrong(mode, named).items():
        for value in values:
            with pytest.raises((ValueError, TypeError)):
                backward(native, named | {name: value})
    for grads in (None, 5, {"dy": None}, {1: None}, [None] * 3):
        with pytest.raises((ValueError, TypeError)):
            native.backward(
                inputs_of(named), weights=named["weights"], y=named["y"], saved=named["saved"],
                grads=grads,
            )  # fmt: skip
    assert_same_bits(arrays_of(backward(native, named)), expected)


STATES = ("h_0", "c_0", "reset_h", "reset_c")


def arrays_of(gradients):
    weights = [g for grads in gradients["weights"] for g in grads.values()]
    found = [gradients["x"], *weights, *(gradients[name] for name in STATES)]
    return [a for a in found if a is not None]


ROWS = {
    "all": {},
    "lengths": {"lengths": np.array([T, 0, 2])},
    "mask": {"mask": np.arange(B * T).reshape(B, T) % 3 > 0},
    "no resets": {"resets": None, "reset_h": None, "reset_c": None},
    "no states": {"h_0": None, "c_0": None, "resets": np.ones((T, B), bool), "reset_h": None,
                  "reset_c": None},
}  # fmt: skip


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("mode", samples.MODES)
def test_native_backward_of_odd_layouts(mode, direction, batch_first, rows):
    """Axes in any order, and backwards, but for the last: the same bits. Nothing is written to."""
    native, named = backward_arguments(mode, direction, batch_first, ROWS[rows])
    expected = arrays_of(backward(native, named))
    for change in (
        lambda a: np.ascontiguousarray(a.swapaxes(0, 1)).swapaxes(0, 1),
        lambda a: np.ascontiguousarray(a[::-1])[::-1],
        lambda a: np.repeat(a, 2, axis=1)[:, ::2],
        lambda a: np.concatenate([a, a], axis=2)[..., : a.shape[2]],
    ):
        odd = {name: frozen(change(named[name])) for name in ("x", "y", "dy")}
        assert_same_bits(arrays_of(backward(native, named | odd)), expected)
    same = named | {"dy": None, "dh_n": None, "dc_n": None}
    assert not any(a.any() for a in arrays_of(backward(native, same)))
    without = backward(native, named | {"want_x": False})
    assert without["x"] is None
    assert_same_bits(arrays_of(without), expected[1:])


@pytest.mark.parametrize("shape", [(0, B), (T, 0), (0, 0)], ids=str)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("mode", samples.MODES)
def test_native_backward_of_nothing(mode, direction, shape):
    """No step or no row: nothing is read, and the gradient of the last state is the first's."""
    native, weights = net(mode, direction)
    D, (steps, rows) = len(weights), shape
    x, state = np.ones((steps, rows, INPUT), F32), np.ones((D, rows, H), F32)
    c = state if mode == "lstm" else None
    resets = np.ones((steps, rows), bool)
    inputs = SequenceInputs(x, state, c, np.zeros(rows, int), None, resets, state, c)
    y, h_n, c_n, saved = native.run(inputs, save=True)
    assert_same_bits(h_n, state)
    upstream = {"y": y, "h_n": 2 * state, "c_n": c_n}
    found = native.backward(inputs, weights=weights, y=y, saved=saved, grads=upstream)
    assert found["x"].shape == x.shape
    assert not any(g.any() for grads in found["weights"] for g in grads.values())
    assert_same_bits(found["h_0"], 2 * state)
    assert found["c_0"] is None or (found["c_0"] == 1).all()
    assert not found["reset_h"].any()


def test_native_backward_of_several_layers():
    native, weights = net("gru", layers=2)
    x, y, state = (
        samples.normal(0, T, B, INPUT),
        samples.normal(1, T, B, H),
        np.zeros((2, B, H), F32),
    )
    inputs = SequenceInputs(x)
    saved = np.zeros((1, T, B, 4 * H), F32)
    with pytest.raises(ValueError, match="num_layers is 2, expected 1"):
        native.run(inputs, save=True)
    for kept in (saved, np.concatenate([saved, saved])):
        with pytest.raises(ValueError, match="num_layers is 2, expected 1"):
            native.backward(inputs, weights=weights, y=y, saved=kept, grads={"y": y, "h_n": state})


@pytest.mark.parametrize("size", [(2**45, 1), (1, 2**45), (2**54, 1), (2**28, 2**28)], ids=str)
def test_native_backward_beyond_memory(size):
    """Arrays of a few bytes with strides of zero; an RNN saves nothing."""
    native, weights = net("rnn")
    x, y = (np.broadcast_to(np.zeros((1, 1, n), F32), (*size, n)) for n in (INPUT, H))
    saved = np.zeros((1, *size, 0), F32)
    # Without dx the first allocation that fails may be C++'s own, where ASan ends the process.
    for want_x in (True, False)[: 1 if 2**45 in size else 2]:
        with pytest.raises((MemoryError, ValueError)):
            native.backward(
                SequenceInputs(x), weights=weights, y=y, saved=saved, grads={"y": y}, want_x=want_x
            )


@settings(max_examples=300)
@given(st.data(), st.sampled_from(samples.MODES))
def test_native_backward_of_arguments_from_another_call(data, mode):
    """Each argument is that of one of several calls: an error, or an answer; never a crash."""
    calls = [
        backward_arguments(other, direction, batch_first, ROWS[rows])
        for other, direction, batch_first, rows in CALLS
    ]
    native, _ = backward_arguments(mode)
    names = list(calls[0][1])
    mixed = {name: calls[data.draw(st.integers(0, len(calls) - 1))][1][name] for name in names}
    try:
        gradients = backward(native, mixed)
    except (ValueError, TypeError):
        return
    assert gradients["x"].shape == mixed["x"].shape


CALLS = [
    ("rnn", "forward", False, "all"),
    ("lstm", "forward", False, "lengths"),
    ("gru", "forward", False, "mask"),
    ("lstm", "bidirectional", False, "no states"),
    ("gru", "reverse", True, "no resets"),
]

"""Keras' Bidirectional, stacks of cells and wrappers on treadle's kernels, against Keras' own."""

import keras
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import treadle.keras
from support import keras_layers, samples
from treadle.keras import bidirectional, loop

layers = keras.layers


@settings(max_examples=80)
@given(data=st.data())
def test_random_options(data):
    """Sometimes the two layers differ."""
    kind, inner_options = data.draw(keras_layers.recurrent())
    for name in ("go_backwards", "unroll", "zero_output_for_mask"):
        inner_options.pop(name, None)
    options = {"layer": getattr(layers, kind)(**inner_options)}
    options["merge_mode"] = data.draw(st.sampled_from(["concat", "sum", "ave", "mul", None]))
    if data.draw(st.integers(0, 3)) == 0:
        other = {**inner_options, "activation": "softsign", "go_backwards": True}
        options["backward_layer"] = getattr(layers, kind)(**other)
    B, T, I = data.draw(keras_layers.sizes())
    mask = None
    if data.draw(st.booleans()):
        mask = np.random.default_rng(data.draw(st.integers(0, 99))).random((B, T)) < 0.6
    layer = keras_layers.built("Bidirectional", options, (B, T, I))
    inner = layer.forward_layer
    states = None
    if data.draw(st.booleans()):
        states = keras_layers.states_of(inner, B) + keras_layers.states_of(inner, B)
    keras_layers.assert_same(layer, samples.normal(7, B, T, I), mask, states)


@pytest.mark.parametrize("kind", ["SimpleRNN", "LSTM", "GRU"])
def test_one_call_does_both_directions(kind, monkeypatch):
    calls = []
    own = loop.run
    monkeypatch.setattr(loop, "run", lambda *given: calls.append(given[1]) or own(*given))
    options = {"layer": getattr(layers, kind)(4)}
    layer = keras_layers.built("Bidirectional", options, (2, 3, 2))
    treadle.keras.accelerate(layer)
    layer(samples.normal(0, 2, 3, 2))
    assert [call.directions for call in calls] == [2]


TWO_CALLS = {
    "dropout": {"layer": lambda: layers.GRU(4, dropout=0.5)},
    "stateful": {"layer": lambda: layers.GRU(4, stateful=True)},
    "a regularizer of outputs": {"layer": lambda: layers.GRU(4, activity_regularizer="l2")},
    "cells": {"layer": lambda: layers.RNN([layers.GRUCell(3), layers.LSTMCell(4)])},
    "other layers": {
        "layer": lambda: layers.GRU(4), "backward_layer": lambda: layers.LSTM(4, go_backwards=True),
    },
    "the directions exchanged": {
        "layer": lambda: layers.GRU(4, go_backwards=True), "backward_layer": lambda: layers.GRU(4),
    },
}  # fmt: skip


@pytest.mark.parametrize("case", TWO_CALLS)
def test_layers_that_run_one_after_the_other(case, monkeypatch):
    """They run on treadle, too, and Keras' code around each of them runs."""
    calls = []
    own = loop.run
    monkeypatch.setattr(loop, "run", lambda *given: calls.append(given[1]) or own(*given))
    options = {name: make() for name, make in TWO_CALLS[case].items()}
    theirs = keras_layers.built("Bidirectional", options, (2, 3, 2))
    ours = keras_layers.clone(theirs, "float32")
    report = treadle.keras.accelerate(ours)
    assert len(report.replaced) == 3
    x = samples.normal(0, 2, 3, 2)
    with torch.no_grad():
        np.testing.assert_allclose(ours(x), theirs(x), rtol=1e-5, atol=1e-6)
    assert len(calls) == (4 if case == "cells" else 2)
    assert [float(a.detach()) for a in ours.losses] == pytest.approx(
        [float(a.detach()) for a in theirs.losses], rel=1e-5
    )


def test_a_layer_that_cannot_run():
    """The wrapper stays Keras' where one of its layers does."""
    layer = layers.Bidirectional(layers.LSTM(4, activation="selu", name="own"), name="both")
    report = treadle.keras.accelerate(layer)
    assert report.replaced == {}
    reason = "its activation selu is none that treadle has"
    assert report.left == {"forward_own": reason, "backward_own": reason}


def test_constructor():
    """Its two layers run on treadle, also after get_config and from_config."""
    layer = treadle.keras.layers.Bidirectional(layers.LSTM(4))
    again = type(layer).from_config(layer.get_config())
    for own in (layer, again):
        assert isinstance(own.forward_layer, treadle.keras.layers.LSTM)
        assert isinstance(own, bidirectional.BothDirections)
    config = keras.saving.serialize_keras_object(layer)
    assert (config["module"], config["class_name"]) == ("keras.layers", "Bidirectional")
    plain = keras.saving.deserialize_keras_object(config)
    assert type(plain) is layers.Bidirectional


CELLS = {
    "one": lambda: layers.LSTMCell(4),
    "gru": lambda: layers.GRUCell(4, reset_after=False),
    "rnn": lambda: layers.SimpleRNNCell(4, activation="relu"),
    "stacked": lambda: [layers.LSTMCell(4), layers.GRUCell(3), layers.SimpleRNNCell(5)],
    "alike": lambda: [layers.GRUCell(3), layers.GRUCell(3)],
}


@pytest.mark.parametrize("case", CELLS)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("backwards", [False, True])
def test_cells(case, masked, backwards):
    """RNN of Keras' cells, in the structure of results that Keras gives."""
    options = {
        "cell": CELLS[case](), "return_sequences": True, "return_state": True,
        "go_backwards": backwards,
    }  # fmt: skip
    layer = keras_layers.built("RNN", options, (3, 5, 2))
    mask = np.arange(15).reshape(3, 5) % 4 > 0 if masked else None
    x = samples.normal(1, 3, 5, 2)
    structure = lambda value: (
        [structure(part) for part in value] if isinstance(value, (list, tuple)) else value.shape
    )
    before = structure(layer(x, mask=None if mask is None else torch.from_numpy(mask)))
    keras_layers.assert_same(layer, x, mask)
    assert structure(layer(x)) == before


def test_states_of_stacked_cells():
    cells = [layers.LSTMCell(4), layers.GRUCell(3)]
    theirs = keras_layers.built("RNN", {"cell": cells, "return_state": True}, (2, 5, 3))
    ours = keras_layers.clone(theirs, "float32")
    treadle.keras.accelerate(ours)
    normal = lambda seed, size: torch.from_numpy(samples.normal(seed, 2, size))
    x, states = samples.normal(0, 2, 5, 3), [[normal(1, 4), normal(2, 4)], [normal(3, 3)]]
    results = [keras_layers.flat(own(x, initial_state=states)) for own in (theirs, ours)]
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    stateful = treadle.keras.layers.RNN(cells, stateful=True)
    for _ in range(2):
        stateful(x)
    expected = theirs(x, initial_state=theirs(x)[1:])
    for a, b in zip(
        keras_layers.flat(stateful.states), keras_layers.flat(expected[1:]), strict=True
    ):
        torch.testing.assert_close(a.value, b.detach(), rtol=1e-5, atol=1e-6)

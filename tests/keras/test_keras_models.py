"""`accelerate` and `restore`: whole models, what they report, and what copies and files hold."""

import copy
import json
import pickle
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
import torch

import treadle.keras
from support import keras_layers, samples
from treadle.keras import models

layers = keras.layers


def tutorial():
    return keras.Sequential(
        [
            keras.Input((12, 1)),
            layers.LSTM(10, activation="relu", name="lstm"),
            layers.Dense(1),
        ]
    )


def mixed():
    """Return a functional model with a mask, a shared layer, a nested model and wrappers."""
    words = keras.Input((7,), dtype="int32")
    shared = layers.GRU(6, return_sequences=True, name="shared")
    x = shared(shared(layers.Embedding(9, 6, mask_zero=True)(words)))
    x = layers.Bidirectional(layers.LSTM(4), name="both")(x)
    inner = keras.Sequential(
        [keras.Input((7, 6)), layers.SimpleRNN(5, return_sequences=True, name="rnn")], name="inner"
    )
    cells = [layers.LSTMCell(4), layers.GRUCell(3)]
    y = layers.RNN(cells, name="cells")(inner(layers.Embedding(9, 6)(words)))
    return keras.Model(words, layers.Dense(2)(layers.Concatenate()([x, y])))


def words():
    return np.random.default_rng(0).integers(0, 9, (6, 7)).astype("int32")


def test_report_and_restore():
    model = mixed()
    kinds = {path: type(layer) for path, layer in models._layers("f", model)}
    before = model(words()).detach()
    report = treadle.keras.accelerate(model)
    assert report.replaced == {
        "shared": "GRU",
        "both": "Bidirectional",
        "both/forward_lstm": "LSTM",
        "both/backward_lstm": "LSTM",
        "inner/rnn": "SimpleRNN",
        "cells": "RNN",
    }
    assert not report.left
    assert "shared: GRU runs on treadle" in str(report)
    np.testing.assert_allclose(model(words()).detach(), before, atol=1e-6)
    assert str(treadle.keras.accelerate(model)) == "no recurrent or attention layer found"
    treadle.keras.restore(model)
    after = {path: type(layer) for path, layer in models._layers("f", model)}
    assert after == kinds
    assert torch.equal(model(words()), before)


def test_what_is_left_runs_as_before():
    """A layer that treadle cannot run gives exactly Keras' result."""

    class Cell(layers.LSTMCell):
        pass

    class Loop(layers.GRU):
        def inner_loop(self, sequences, initial_state, mask, training=False):
            return super().inner_loop(sequences, initial_state, mask, training=training)

    model = keras.Sequential(
        [
            keras.Input((5, 3)),
            layers.LSTM(4, activation=lambda x: x * x, return_sequences=True, name="a"),
            layers.RNN(Cell(4), return_sequences=True, name="b"),
            layers.GRU(4, dtype="float64", return_sequences=True, name="c"),
            Loop(4, return_sequences=True, name="d"),
            layers.GRU(4, activation="selu", return_sequences=True, name="e"),
            layers.Reshape((5, 2, 2)),
            layers.ConvLSTM1D(2, 2, name="f"),
        ]
    )
    x = samples.normal(0, 2, 5, 3)
    before = model(x)
    report = treadle.keras.accelerate(model)
    assert report.replaced == {}
    assert report.left == {
        "a": "its activation <lambda> is none that treadle has",
        "b": "its cell Cell is none of Keras' own",
        "c": "it computes in float64",
        "d": f"{Loop.__qualname__} is a subclass that replaces inner_loop",
        "e": "its activation selu is none that treadle has",
        "f": "treadle has no ConvLSTM1D",
    }
    assert torch.equal(model(x), before)


def test_a_subclass_keeps_its_methods():
    class Doubled(layers.LSTM):
        def call(self, sequences, initial_state=None, mask=None, training=False):
            return 2 * super().call(sequences, initial_state, mask, training)

    layer = keras_layers.built("LSTM", {"units": 4}, (2, 5, 3))
    mine = Doubled(4)
    mine.build((2, 5, 3))
    mine.set_weights(layer.get_weights())
    x = samples.normal(0, 2, 5, 3)
    kind = type(mine)
    report = treadle.keras.accelerate(mine)
    assert list(report.replaced.values()) == ["Doubled"]
    assert isinstance(mine, Doubled)
    np.testing.assert_allclose(mine(x).detach(), 2 * layer(x).detach(), atol=1e-6)
    assert keras.saving.serialize_keras_object(mine)["class_name"] == "Doubled"
    again = Doubled(4)
    treadle.keras.accelerate(again)
    assert type(again) is type(mine)
    treadle.keras.restore(mine)
    assert type(mine) is kind


@pytest.mark.parametrize(
    ("make", "ending"), [(tutorial, "keras"), (mixed, "keras"), (tutorial, "h5")]
)
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_files_are_keras_own(make, ending, tmp_path):
    """A file has the same configuration and weights as Keras' own, and loads as Keras' classes."""
    model = make()
    theirs, ours = tmp_path / f"theirs.{ending}", tmp_path / f"ours.{ending}"
    x = words() if make is mixed else samples.normal(0, 6, 12, 1)
    model.save(theirs)
    before = model(x).detach()
    treadle.keras.accelerate(model)
    model.save(ours)
    if ending == "keras":
        read = lambda path: json.loads(zipfile.ZipFile(path).read("config.json"))
        assert read(ours) == read(theirs)
    loaded = keras.saving.load_model(ours)
    for _, layer in models._layers("f", loaded):
        assert type(layer).__module__.startswith("keras.")
    assert torch.equal(loaded(x), before)
    assert treadle.keras.accelerate(loaded).replaced


LOADS = """
import sys
sys.modules["treadle"] = None
import keras, numpy
for path in sys.argv[1:]:
    model = keras.saving.load_model(path)
    print(type(model.layers[0]).__module__, model(numpy.ones((1, 12, 1), "float32")).item())
"""


def test_a_file_needs_no_treadle(tmp_path):
    """Neither that of an accelerated model nor that of a model of treadle's layers does."""
    ours = treadle.keras.layers.LSTM(10)
    models = [tutorial(), keras.Sequential([keras.Input((12, 1)), ours, layers.Dense(1)])]
    treadle.keras.accelerate(models[0])
    paths = [str(tmp_path / f"{index}.keras") for index in range(2)]
    for model, path in zip(models, paths, strict=True):
        model.save(path)
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOADS, *paths], capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    for model, line in zip(models, found.stdout.splitlines(), strict=True):
        module, value = line.split()
        assert module.startswith("keras.")
        assert abs(float(value) - model(np.ones((1, 12, 1), np.float32)).item()) < 1e-6


def test_copies():
    """A clone by configuration is accelerated, too; what goes through a file is Keras' own."""
    model = tutorial()
    treadle.keras.accelerate(model)
    x = samples.normal(0, 3, 12, 1)
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    assert type(clone.layers[0]) is type(model.layers[0])
    copied = copy.deepcopy(model)
    pickled = pickle.loads(pickle.dumps(model))
    layer = pickle.loads(pickle.dumps(model.layers[0]))
    for other in (copied.layers[0], pickled.layers[0], layer):
        assert type(other) is layers.LSTM
    for other in (clone, copied, pickled):
        np.testing.assert_allclose(other(x).detach(), model(x).detach(), atol=1e-6)
    assert copied.layers[0].cell.kernel is not model.layers[0].cell.kernel
    assert layer.get_config() == model.layers[0].get_config()


def test_weights_shared_by_two_models():
    """Training one model changes the other's results, through one layer in both."""
    shared = treadle.keras.layers.LSTM(5)
    both = [keras.Sequential([keras.Input((6, 2)), shared, layers.Dense(size)]) for size in (1, 3)]
    x = samples.normal(0, 8, 6, 2)
    before = both[1].predict(x, verbose=0)
    both[0].compile("sgd", "mse")
    both[0].fit(x, x[:, 0, :1], verbose=0)
    after = both[1].predict(x, verbose=0)
    assert np.abs(after - before).max() > 1e-5
    plain = keras.models.clone_model(
        both[1], clone_function=lambda layer: (
            layers.LSTM.from_config(layer.get_config()) if layer is shared
            else type(layer).from_config(layer.get_config())
        ),
    )  # fmt: skip
    plain.set_weights(both[1].get_weights())
    np.testing.assert_allclose(plain.predict(x, verbose=0), after, atol=1e-6)


def test_a_layer_alone():
    layer = layers.GRU(3, name="alone")
    assert treadle.keras.accelerate(layer).replaced == {"alone": "GRU"}
    assert layer(np.zeros((1, 2, 3), "float32")).shape == (1, 3)


@pytest.mark.parametrize("name", ["accelerate", "restore"])
def test_what_is_no_model(name):
    with pytest.raises(TypeError, match=f"treadle.keras.{name}: model is LSTM, expected a model"):
        getattr(treadle.keras, name)(torch.nn.LSTM(2, 3))


def test_another_backend(monkeypatch):
    """One line says which backend is needed."""
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    model = keras.Sequential()
    for name, use in {
        "accelerate": lambda: treadle.keras.accelerate(model),
        "restore": lambda: treadle.keras.restore(model),
        "layers.LSTM": lambda: treadle.keras.layers.LSTM,
    }.items():
        with pytest.raises(ValueError, match="the backend jax, expected torch") as found:
            use()
        assert str(found.value) == (
            f"treadle.keras.{name}: Keras runs on the backend jax, expected torch: "
            "set KERAS_BACKEND=torch in the environment before keras is imported"
        )


def test_names_of_layers():
    assert "LSTM" in dir(treadle.keras.layers)
    with pytest.raises(AttributeError, match=r"'treadle\.keras\.layers' has no attribute 'Dense'"):
        treadle.keras.layers.Dense  # noqa: B018

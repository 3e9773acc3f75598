"""Checks of models of Keras with random weights: what they give in float64, and what treadle does.

A case makes its model anew for each dtype: what float32 rounds is then known, and what treadle
gives may be wrong by twice that (`support.tolerance`).
"""

import contextlib
import warnings

import keras
import numpy as np
import torch

from support.tolerance import assert_close, assert_same_bits
from treadle.keras import load

L = keras.layers


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def ids(seed, *shape, most=5):
    """Numbers of words, of which 0 is often the mask; each row begins with another one."""
    drawn = np.random.default_rng(seed).integers(0, most, shape).astype(np.int32)
    drawn[..., 0] = np.maximum(drawn[..., 0], 1)
    return drawn


@contextlib.contextmanager
def floats(dtype):
    """Let Keras compute in a dtype."""
    before = keras.config.floatx()
    keras.config.set_floatx(dtype)
    try:
        yield
    finally:
        keras.config.set_floatx(before)


def draw(model, seed=1):
    """Give a model weights that no initializer gives: biases are not 0, variances are above 0."""
    random = np.random.default_rng(seed)
    for variable in model.weights:
        numbers = random.standard_normal(variable.shape).astype(np.float32) * np.float32(0.3)
        if "variance" in variable.path:
            numbers = np.abs(numbers) + np.float32(0.5)
        if "gamma" in variable.path:
            numbers += 1
        variable.assign(numbers)
    return model


def outputs(model, inputs):
    """Return what a model of Keras gives, as arrays by name or by number."""
    given = inputs[0] if len(inputs) == 1 else list(inputs)
    with torch.no_grad(), quiet():
        result = model(given)
    if not isinstance(result, dict):
        result = dict(enumerate(keras.tree.flatten(result)))
    return {name: one.numpy() for name, one in result.items()}


def named(result, like):
    """Return what a model of treadle gives, under the names of ``like``."""
    values = result if isinstance(result, dict) else {0: result}
    return values if set(values) == set(like) else dict(enumerate(values.values()))


def saved(model, folder, name="model.keras"):
    """The path of a model's file."""
    path = folder / name
    with quiet():
        model.save(path)
    return path


@contextlib.contextmanager
def quiet():
    """Hide what Keras warns of: its own variables (NumPy 2), files .h5, layers that stop masks."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def check(make, inputs, folder):
    """Load what Keras saves of a model, and compare what both give. Return treadle's model."""
    keras.utils.clear_session(free_memory=False)
    with quiet():
        model = draw(make())
    loaded = load(saved(model, folder))
    rounded = outputs(model, inputs)
    found = named(loaded(*inputs), rounded)
    with floats("float64"):
        with quiet():
            exact_model = make()
            exact_model.set_weights(model.get_weights())
        wide = [x.astype(np.float64) if x.dtype == np.float32 else x for x in inputs]
        exact = outputs(exact_model, wide)
    assert set(found) == set(exact)
    for name, truth in exact.items():
        ours = found[name]
        assert ours.shape == truth.shape, name
        if ours.dtype == np.float32:
            with while_checking(name):
                assert_close([ours], [truth], [rounded[name]])
        else:
            np.testing.assert_array_equal(ours, truth)
    for row in range(len(inputs[0])):  # a row has the same bits alone
        alone = named(loaded(*(x[row : row + 1] for x in inputs)), rounded)
        for name, ours in found.items():
            if ours.dtype == np.float32:
                with while_checking(name):
                    assert_same_bits(alone[name], ours[row : row + 1])
    return loaded


@contextlib.contextmanager
def while_checking(name):
    """Say in a failure which output it is of."""
    try:
        yield
    except AssertionError as error:
        raise AssertionError(f"output {name}: {error}") from error


def branches(cases, *shape, dtype=None):
    """A model of one input and an output for each case, each a layer of its own."""

    def make():
        x = keras.Input(shape, dtype=dtype)
        return keras.Model(x, {name: layer()(x) for name, layer in cases.items()})

    return make


def sequential(*layers, shape=(7, 4), dtype=None):
    """A Sequential of new layers each time it is called: layers are functions of nothing."""
    return lambda: keras.Sequential([keras.Input(shape, dtype=dtype), *(make() for make in layers)])

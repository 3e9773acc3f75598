"""Keras' recurrent layers on treadle's kernels: every option, and gradients, against Keras' own."""

import keras
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import treadle.keras
from support import keras_layers, samples
from treadle.keras import gates


def masks(draw, B, T):
    kind = draw(st.sampled_from(["none", "random", "right", "left", "all", "nothing"]))
    drawn = np.random.default_rng(draw(st.integers(0, 99)))
    if kind == "none":
        return None
    if kind == "random":
        return drawn.random((B, T)) < 0.6
    ends = drawn.integers(0, T + 1, B)[:, None]
    right = np.arange(T) < ends
    return {"right": right, "left": right[:, ::-1], "all": right | True, "nothing": right & False}[
        kind
    ].copy()


@settings(max_examples=150)
@given(data=st.data())
def test_random_options(data):
    kind, options = data.draw(keras_layers.recurrent())
    B, T, I = data.draw(keras_layers.sizes())
    mask = masks(data.draw, B, T)
    if mask is not None:
        options.pop("unroll", None)  # Keras fails there with go_backwards, and zeroes otherwise
    layer = keras_layers.built(kind, options, (B, T, I))
    states = keras_layers.states_of(layer, B) if data.draw(st.booleans()) else None
    keras_layers.assert_same(layer, samples.normal(7, B, T, I), mask, states)


@pytest.mark.parametrize("kind", ["SimpleRNN", "LSTM", "GRU"])
@pytest.mark.parametrize("B", [1, 9, 32])
def test_sizes_of_the_tutorial(kind, B):
    layer = keras_layers.built(kind, {"units": 50, "activation": "relu"}, (B, 40, 1))
    layer.set_weights([w / 4 for w in layer.get_weights()])  # relu grows with each step
    keras_layers.assert_same(layer, samples.normal(1, B, 40, 1))


@pytest.mark.parametrize("kind", ["SimpleRNN", "LSTM", "GRU"])
def test_stateful(kind):
    """Each call begins where the one before has ended, until reset_state, and can be trained.

    Keras 3.15's own stateful LSTM and GRU cannot be trained on PyTorch: it writes the last state
    over the first one, which the backward pass reads. So Keras gets the states as arguments here.
    """
    ours = keras_layers.built(kind, {"units": 6, "stateful": True}, (3, 5, 2))
    theirs = keras_layers.built(kind, {"units": 6, "return_state": True}, (3, 5, 2))
    treadle.keras.accelerate(ours)
    states = keras_layers.states_of(theirs, 3)
    for index in range(4):
        if index % 2 == 0:
            ours.reset_state()
            states = [np.zeros((3, 6), np.float32) for _ in states]
        x = samples.normal(index, 3, 5, 2)
        mine = keras_layers.outcome(ours, x)
        given = [torch.from_numpy(np.float32(state)) for state in states]
        leaf = torch.from_numpy(x).requires_grad_()
        y, *states = keras_layers.flat(theirs(leaf, initial_state=given))
        seed = torch.randn(y.shape, generator=torch.Generator().manual_seed(3))
        leaves = [leaf, *(v.value for v in theirs.trainable_variables)]
        found = torch.autograd.grad((y * seed).sum(), leaves)
        states = keras_layers.numbers(states)
        for a, b in zip(mine, keras_layers.numbers([y, *found]), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
        for a, b in zip(keras_layers.numbers(ours.states), states, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_keras_order_of_gates():
    """NumPy's arrays and PyTorch's tensors are turned alike, into rows of the gates r, z, n."""
    kernel, recurrent, bias = samples.normal(0, 2, 9), samples.normal(1, 3, 9), np.arange(18.0)
    bias = bias.reshape(2, 9)
    ours = gates.turned("gru", (kernel, recurrent, bias), np.concatenate)
    tensors = tuple(torch.from_numpy(a) for a in (kernel, recurrent, bias))
    for a, b in zip(ours, gates.turned("gru", tensors, torch.cat), strict=True):
        np.testing.assert_array_equal(a, b.numpy())
    z, r, h = np.split(kernel, 3, axis=1)
    np.testing.assert_array_equal(ours[0], np.concatenate([r, z, h], axis=1).T)
    assert ours[2].tolist() == [3, 4, 5, 0, 1, 2, 6, 7, 8]
    assert ours[3].tolist() == [12, 13, 14, 9, 10, 11, 15, 16, 17]
    assert gates.turned("gru", (kernel, recurrent, bias[0]), np.concatenate)[3] is None
    assert gates.turned("lstm", (kernel, recurrent, None), np.concatenate)[2:] == (None, None)


@pytest.mark.parametrize("dtype", ["int64", "int32", "float32", "bool"])
def test_masks_of_other_dtypes(dtype):
    layer = keras_layers.built("LSTM", {"units": 4}, (2, 3, 2))
    keras_layers.assert_same(layer, samples.normal(1, 2, 3, 2), np.eye(2, 3).astype(dtype))


def test_dropout_draws_what_keras_draws():
    """Dropout with one seed drops the same inputs in all steps, and only in training."""
    for kind in ("SimpleRNN", "LSTM", "GRU"):
        options = {"units": 5, "dropout": 0.4, "seed": 3, "return_sequences": True}
        theirs, ours = (keras_layers.built(kind, options, (4, 6, 3)) for _ in range(2))
        treadle.keras.accelerate(ours)
        for training in (True, False, True):
            x = samples.normal(2, 4, 6, 3)
            for mask in (None, np.arange(24).reshape(4, 6) % 3 > 0):
                a, b = (
                    keras_layers.outcome(layer, x, mask, training=training)
                    for layer in (ours, theirs)
                )
                for mine, other in zip(a, b, strict=True):
                    np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-5)


def test_shapes_without_computing():
    """Keras asks for shapes with tensors that have no memory, in a subclassed model, too."""

    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.lstm = treadle.keras.layers.LSTM(4, return_sequences=True)

        def call(self, x):
            return self.lstm(x * 2)

    inputs = keras.Input((6, 3))
    assert Model()(inputs).shape == (None, 6, 4)
    layer = treadle.keras.layers.LSTM(4)
    assert keras.Model(inputs, layer(inputs)).output_shape == (None, 4)


def test_a_view_of_the_input():
    """Steps may lie in any order of memory."""
    layer = keras_layers.built("GRU", {"units": 4}, (2, 5, 3))
    treadle.keras.accelerate(layer)
    x = torch.from_numpy(samples.normal(1, 3, 5, 2))
    for view in (x.permute(2, 1, 0), x.permute(2, 1, 0)[:, ::2]):
        assert torch.equal(layer(view), layer(view.contiguous()))


def test_weights_that_change_are_packed_anew():
    """An assignment, an optimizer or a write to the memory of a weight is seen by the next call."""
    layer = keras_layers.built("LSTM", {"units": 4}, (2, 5, 3))
    other = keras_layers.clone(layer, "float32")
    treadle.keras.accelerate(layer)
    x = torch.from_numpy(samples.normal(1, 2, 5, 3))
    for index in range(3):
        with torch.no_grad():
            np.testing.assert_allclose(layer(x).numpy(), other(x).numpy(), atol=1e-6)
        for own in (layer, other):
            own.cell.kernel.value.data[index, index] += 1
            own.cell.bias.assign(own.cell.bias.value + 0.5)

"""Where Keras' own code runs instead of the kernels: the same results, and one warning."""

import warnings

import keras
import numpy as np
import pytest
import torch

import treadle.keras
from support import keras_layers, samples
from treadle.keras.backend import Unable
from treadle.keras.callables import activation_of

layers = keras.layers
pytestmark = pytest.mark.usefixtures("no_warnings_before")


def pair(kind, options):
    """Return a layer of Keras, and an accelerated one with the same weights and seed."""
    theirs, ours = (keras_layers.built(kind, options, (3, 5, 2)) for _ in range(2))
    assert treadle.keras.accelerate(ours).replaced
    return theirs, ours


DECLINED = {
    "recurrent_dropout": ("LSTM", {"recurrent_dropout": 0.5}, "recurrent_dropout"),
    "recurrent_dropout of an RNN": ("SimpleRNN", {"recurrent_dropout": 0.5}, "recurrent_dropout"),
    # Keras 3.15's own GRU and LSTM raise an error there, its RNN does not.
    "a mask for each gate": ("RNN", {"dropout": 0.5, "implementation": 1}, "implementation=1"),
}


@pytest.mark.parametrize("case", DECLINED)
def test_options_that_train_on_keras(case):
    """Training runs Keras' code, bit for bit, and says so once; inference runs on treadle."""
    kind, options, words = DECLINED[case]
    theirs, ours = (
        keras_layers.built(
            kind,
            {"cell": layers.GRUCell(4, seed=1, **options)} if kind == "RNN"
            else {"units": 4, "seed": 1, **options},
            (3, 5, 2),
        )
        for _ in range(2)
    )  # fmt: skip
    treadle.keras.accelerate(ours)
    x = torch.from_numpy(samples.normal(0, 3, 5, 2))
    expected = theirs(x, training=True)
    with pytest.warns(UserWarning, match=rf"treadle\.keras\.{kind}: .*{words}.*Keras' own") as one:
        assert torch.equal(ours(x, training=True), expected)
    assert len(one) == 1
    assert one[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = theirs(x, training=True)
        assert torch.equal(ours(x, training=True), expected)
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-6)


def test_an_activation_that_is_set_later():
    theirs, ours = pair("LSTM", {"units": 4})
    for layer in (theirs, ours):
        layer.cell.activation = lambda x: x * x
    x = samples.normal(0, 3, 5, 2)
    with pytest.warns(UserWarning, match="activation <lambda> is none that treadle has"):
        result = ours(x)
    assert torch.equal(result, theirs(x))


def test_a_cell_of_ones_own():
    class Cell(layers.GRUCell):
        def call(self, inputs, states, training=False):
            return super().call(2 * inputs, states, training)

    cells = [Cell(3), layers.LSTMCell(2)]
    layer = treadle.keras.layers.RNN(cells)
    x = samples.normal(0, 3, 5, 2)
    with pytest.warns(UserWarning, match="its cell Cell is none of Keras' own"):
        result = layer(x)
    assert torch.equal(layers.RNN(cells)(x), result)


def test_float64():
    """A layer that is made in float64 runs Keras' code."""
    theirs, ours = layers.GRU(3, dtype="float64"), treadle.keras.layers.GRU(3, dtype="float64")
    for layer in (theirs, ours):
        layer.build((2, 4, 3))
    ours.set_weights(theirs.get_weights())
    x = samples.normal(0, 2, 4, 3)
    with pytest.warns(UserWarning, match=r"a tensor is torch\.float64"):
        result = ours(x)
    assert result.dtype is torch.float64
    assert torch.equal(result, theirs(x))


def test_a_mask_and_a_state_of_another_size():
    """Keras says what is wrong with them, or accepts them."""
    theirs, ours = pair("LSTM", {"units": 4})
    x = samples.normal(0, 3, 5, 2)
    longer = torch.ones(3, 7, dtype=torch.bool)
    with pytest.warns(UserWarning, match=r"its mask is \[3, 7\], for an input \[3, 5, 2\]"):
        result = ours(x, mask=longer)
    assert torch.equal(result, theirs(x, mask=longer))
    state = [torch.zeros(1, 4), torch.zeros(1, 4)]
    with pytest.warns(UserWarning, match="its initial_state is not"):
        result = ours(x, initial_state=state)
    assert torch.equal(result, theirs(x, initial_state=state))


def test_autocast_of_pytorch():
    theirs, ours = pair("GRU", {"units": 4})
    x = torch.from_numpy(samples.normal(0, 3, 5, 2))
    with torch.autocast("cpu"), pytest.warns(UserWarning, match="autocast is on"):
        result = ours(x)
    with torch.autocast("cpu"):
        assert torch.equal(result, theirs(x))


def test_an_error_is_an_error():
    """An error of the kernels is raised, and Keras does not run instead."""
    _, ours = pair("GRU", {"units": 4})
    with pytest.raises(
        ValueError,
        match=r"treadle\.keras\.GRU: x has shape \(3, 5, 7\), expected \[B, T, I\] with I = 2",
    ):
        ours(samples.normal(0, 3, 5, 7))
    with pytest.raises(ValueError, match="expected ndim=3"):
        ours(samples.normal(0, 3, 2))


def test_activations():
    """Each function of treadle's table computes what Keras' does, and so do activation layers."""
    from treadle.keras.activations import FUNCTIONS
    from treadle.torch.formula_activations import function

    x = torch.linspace(-8, 8, 101)
    known = [name for name in FUNCTIONS if hasattr(keras.activations, name)]
    assert len(known) > 15
    for given in [
        *(getattr(keras.activations, name) for name in known),
        *(layers.LeakyReLU(0.1), layers.ELU(0.5), layers.Activation("relu")),
        *(keras.ops.tanh, torch.sigmoid, None),
    ]:
        expected = x if given is None else given(x)
        torch.testing.assert_close(function(activation_of(given))(x), expected)
    for other in ("selu", "softmax", "exponential", "mish", "threshold"):
        with pytest.raises(Unable, match=f"{other} is none that treadle has"):
            activation_of(getattr(keras.activations, other))


def test_names_resolve_to_the_table():
    """Keras' aliases are the functions of the table."""
    assert activation_of(keras.activations.get("swish")) == "silu"
    assert activation_of(keras.activations.get("hard_swish")) == "hard_swish"
    assert np.isfinite(activation_of(keras.activations.get("leaky_relu"))[1])

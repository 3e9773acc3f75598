"""Keras' recurrent layers in bfloat16 and int8: inference as treadle's own layers compute it."""

import keras
import numpy as np
import pytest
import torch

import treadle
import treadle.keras
from support import keras_layers, samples
from treadle.keras import gates

layers = keras.layers
DTYPES = ["bfloat16", "int8"]


def own_layer(layer, kind, dtype, **options):
    """Return treadle's layer with the weights of Keras', in a dtype."""
    kernel, recurrent, *bias = keras_layers.numbers(layer.weights)
    mode = gates.MODES[kind]
    arrays = gates.turned(mode, (kernel, recurrent, *(bias or [None])), np.concatenate)
    made = getattr(treadle, "RNN" if kind == "SimpleRNN" else kind)(
        kernel.shape[0], recurrent.shape[0], batch_first=True, **options
    )
    zeros = np.zeros(arrays[0].shape[0])
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    made.load_state_dict(
        {
            name: np.ascontiguousarray(zeros if array is None else array, np.float32)
            for name, array in zip(names, arrays, strict=True)
        }
    )
    return made.to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["SimpleRNN", "LSTM", "GRU"])
def test_the_bits_of_treadles_layer(kind, dtype):
    layer = keras_layers.built(kind, {"units": 21, "return_sequences": True}, (3, 6, 17))
    x = samples.normal(9, 3, 6, 17)
    exact = layer(x).detach().numpy()
    expected = own_layer(layer, kind, dtype)(x)[0]
    assert treadle.keras.accelerate(layer, dtype=dtype).replaced
    with torch.no_grad():
        found = layer(x).numpy()
    np.testing.assert_array_equal(found, expected)
    assert 0 < np.abs(found - exact).max() < 0.05
    np.testing.assert_array_equal(layer(x).detach().numpy(), found)  # where gradients are recorded
    assert str(layer.dtype_policy.name) == "float32"


@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_that_change_are_rounded_anew(dtype):
    layer = keras_layers.built("GRU", {"units": 5}, (2, 3, 4))
    treadle.keras.accelerate(layer, dtype=dtype)
    x = samples.normal(0, 2, 3, 4)
    before = layer(x).detach().clone()
    layer.cell.kernel.assign(layer.cell.kernel.value * 2)
    assert not torch.equal(layer(x).detach(), before)
    treadle.keras.accelerate(layer, dtype="float32")
    other = keras_layers.clone(layer, "float32")
    treadle.keras.accelerate(other)
    assert torch.equal(layer(x), other(x))


@pytest.mark.parametrize("made", [True, False])
@pytest.mark.parametrize("kind", ["SimpleRNN", "LSTM", "GRU", "Bidirectional"])
def test_quantize(kind, made):
    """Layers that were made as treadle's and layers that were accelerated can be quantized."""
    owner = treadle.keras.layers if made else layers
    argument = layers.GRU(3) if kind == "Bidirectional" else 6
    layer = getattr(owner, kind)(argument)
    treadle.keras.accelerate(layer)
    with pytest.raises(ValueError, match="Cannot quantize a layer that isn't yet built"):
        layer.quantize("int8")
    layer.build((2, 4, 3))
    other = keras_layers.clone(layer, "float32")
    treadle.keras.accelerate(other, dtype="int8")
    layer.quantize("int8")
    x = samples.normal(1, 2, 4, 3)
    assert torch.equal(layer(x), other(x))
    assert layer.dtype_policy.name == "float32"
    with pytest.raises(NotImplementedError, match="does not have a `quantize` method"):
        layer.quantize("float8")
    treadle.keras.restore(layer)
    with pytest.raises(NotImplementedError, match="does not have a `quantize` method"):
        layer.quantize("int8")


@pytest.mark.parametrize("dtype", DTYPES)
def test_bidirectional(dtype, monkeypatch):
    options = {"layer": layers.LSTM(9, return_sequences=True)}
    layer = keras_layers.built("Bidirectional", options, (3, 6, 4))
    x = samples.normal(3, 3, 6, 4)
    mask = torch.arange(18).reshape(3, 6) % 5 > 0
    exact = layer(x, mask=mask).detach()
    treadle.keras.accelerate(layer, dtype=dtype)
    found = layer(x, mask=mask).detach()
    parts = [own(x, mask=mask).detach() for own in (layer.forward_layer, layer.backward_layer)]
    assert torch.equal(found, torch.cat((parts[0], parts[1].flip(1)), 2))
    assert 0 < (found - exact).abs().max() < 0.05
    layer.forward_layer._treadle_dtype = "float32"  # two dtypes take two calls
    mixed = layer(x, mask=mask).detach()
    assert torch.equal(mixed[:, :, 9:], found[:, :, 9:])
    assert not torch.equal(mixed[:, :, :9], found[:, :, :9])


@pytest.mark.parametrize("dtype", DTYPES)
def test_training_raises(dtype):
    model = keras.Sequential([keras.Input((4, 2)), layers.LSTM(3), layers.Dense(1)])
    model.compile("sgd", "mse")
    x = samples.normal(0, 8, 4, 2)
    treadle.keras.accelerate(model, dtype=dtype)
    predicted = model.predict(x, verbose=0)
    assert np.isfinite(model.evaluate(x, x[:, 0, :1], verbose=0))
    with pytest.raises(ValueError, match=rf"keras\.LSTM: a recurrent layer in {dtype} does not le"):
        model.fit(x, x[:, 0, :1], verbose=0)
    with pytest.raises(RuntimeError, match=f"a recurrent layer in {dtype} does not learn"):
        model(x).sum().backward()
    treadle.keras.restore(model)
    treadle.keras.accelerate(model)
    model.fit(x, x[:, 0, :1], verbose=0)
    assert np.abs(model.predict(x, verbose=0) - predicted).max() > 1e-4


def test_a_file_stays_float32(tmp_path):
    model = keras.Sequential([keras.Input((4, 2)), layers.GRU(3, name="gru")])
    x = samples.normal(0, 2, 4, 2)
    exact = model(x)
    treadle.keras.accelerate(model, dtype="int8")
    model.save(tmp_path / "m.keras")
    assert torch.equal(keras.saving.load_model(tmp_path / "m.keras")(x), exact)


def test_stacked_cells_and_states():
    """All cells of a layer are in its dtype; states and their results are float32."""
    layer = keras_layers.built(
        "RNN", {"cell": [layers.LSTMCell(5), layers.GRUCell(4)], "return_state": True}, (2, 4, 3)
    )
    x = samples.normal(0, 2, 4, 3)
    exact = keras_layers.numbers(keras_layers.flat(layer(x)))
    treadle.keras.accelerate(layer, dtype="bfloat16")
    found = keras_layers.flat(layer(x))
    assert all(part.dtype is torch.float32 for part in found)
    for a, b in zip(keras_layers.numbers(found), exact, strict=True):
        assert 0 < np.abs(a - b).max() < 0.05


@pytest.mark.parametrize("dtype", ["int4", "float16", 8])
def test_another_dtype(dtype):
    with pytest.raises(ValueError, match="expected one of float32, bfloat16, int8, or None"):
        treadle.keras.accelerate(keras.Sequential(), dtype=dtype)

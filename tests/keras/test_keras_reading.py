"""Files of Keras are read without it: their layers, calls and weights are those that Keras has."""

import json

import numpy as np
import pytest

from support import child, keras_files
from treadle.keras.files.description import Reference
from treadle.keras.files.read import read

h5py = pytest.importorskip("h5py")
models = pytest.importorskip("support.keras_models")
# Keras converts tensors of PyTorch in a way that NumPy deprecates, and calls .h5 files legacy.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def weights(layer):
    """Return the arrays of a description's layer and of all in it, in Keras' order."""
    found = list(layer.weights.values())
    for part in layer.parts.values():
        found += weights(part)
    if layer.model is not None:
        for inner in layer.model.layers:
            found += weights(inner)
    return found


def kerases(layer):
    """Return the same of a layer of Keras: without the count of a Normalization, which nobody
    needs, and with the moments that it got as options left out.
    """
    return [
        np.asarray(v.numpy() if hasattr(v, "numpy") else v, np.float32)
        for v in layer.weights
        if not v.path.endswith("/count")
    ]


def compare(description, model):
    """Every layer of both has the same weights under the same name."""
    named = {layer.name: layer for layer in model.layers}
    found = [layer for layer in description.layers if not layer.kind.startswith("ops.")]
    assert [x.name for x in found if x.kind != "InputLayer"] == [
        layer.name for layer in model.layers if type(layer).__name__ != "InputLayer"
    ]
    for layer in found:
        if layer.name in named:
            expected = kerases(named[layer.name])
            assert len(weights(layer)) == len(expected)
            for array, reference in zip(weights(layer), expected, strict=True):
                assert array.dtype == np.float32
                np.testing.assert_array_equal(array, reference)


@pytest.fixture(params=models.MODELS)
def model(request):
    model = models.MODELS[request.param]()
    random = np.random.default_rng(0)
    model.set_weights([random.normal(size=w.shape).astype(w.dtype) for w in model.get_weights()])
    return model


@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_models_of_keras_3(model, ending, tmp_path):
    path = tmp_path / f"model{ending}"
    model.save(path)
    description = read(path)
    assert description.keras_version == models.keras.__version__
    assert description.name == model.name
    compare(description, model)


def test_weights_only_of_keras_3(model, tmp_path):
    path = tmp_path / "model.weights.h5"
    model.save_weights(path)
    text = model.to_json()
    (tmp_path / "model.json").write_text(text)
    for config in (text, json.loads(text), tmp_path / "model.json", str(tmp_path / "model.json")):
        compare(read(path, config), model)
    with pytest.raises(ValueError, match=r"model\.weights\.h5 has weights only, expected config"):
        read(path)


@pytest.mark.parametrize("name", keras_files.MODELS)
def test_models_of_older_keras(name, tmp_path):
    """Keras 3 itself reads hardly any of those of Keras 2: their weights lie beside the files."""
    description = read(keras_files.unpacked(name, tmp_path))
    assert description.keras_version in ("2.13.1", "2.15.0", "3.0.5")
    inputs, outputs, expected = keras_files.expected(name)
    assert len(description.inputs) == len(inputs)
    assert len(description.outputs) == len(outputs)
    found = [array for layer in description.layers for array in weights(layer)]
    for array, reference in zip(found, expected, strict=True):
        np.testing.assert_array_equal(array, reference)


@pytest.mark.parametrize("name", ["_only.h5", "_only.weights.h5"])
def test_weights_only_of_keras_2(name, tmp_path):
    whole = read(keras_files.unpacked("keras2_convolutions.h5", tmp_path))
    path = keras_files.unpacked(f"keras2_convolutions{name}", tmp_path)
    only = read(path, keras_files.config())
    for layer, other in zip(whole.layers, only.layers, strict=True):
        assert layer.config == other.config
        for array, expected in zip(weights(layer), weights(other), strict=True):
            np.testing.assert_array_equal(array, expected)


def test_calls_of_a_graph(tmp_path):
    """Calls follow those whose tensors they take, and name them."""
    path = tmp_path / "graph.keras"
    models.graph().save(path)
    graph = read(path)
    assert graph.input_names == ("tokens", "features")
    assert [tensor.layer for tensor in graph.inputs] == ["tokens", "features"]
    assert graph.input_shapes == ((None, None), (None, 5))
    assert set(graph.output_structure) == {"out", "all"}
    assert len(graph.output_structure["all"]) == 10
    assert len(graph.outputs) == 11
    calls = {(call.layer, call.index): call for call in graph.calls}
    assert calls["shared", 0].args == [Reference("features")]
    state = calls["two", 0].kwargs["initial_state"]
    assert state == [Reference("shared", 0), Reference("one", 0, 2)]
    assert calls["inner", 0].args == [Reference("shared", 1)]
    slices = [c.args[1] for c in graph.calls if graph.layer(c.layer).kind == "ops.GetItem"]
    assert [slice(None), -1] in slices
    assert [slice(None), 0, slice(None, 2)] in slices
    inner = graph.layer("inner").model
    assert inner.outputs[0] == Reference("d")
    assert inner.layer(inner.outputs[1].layer).kind == "ops.Multiply"


def test_calls_of_keras_2(tmp_path):
    """An inner model with an input is called from 1 on; states are inputs of the call."""
    for name in ("keras2_functional.h5", "keras2_functional.keras", "keras3_functional.keras"):
        graph = read(keras_files.unpacked(name, tmp_path))
        calls = {(call.layer, call.index): call for call in graph.calls}
        assert calls["reader", 0].kwargs == {"initial_state": [Reference("h"), Reference("c")]}
        assert calls["reader", 0].args == [Reference("words")]
        assert len(calls["concatenate", 0].args[0]) == 3
        first, second, third = calls["concatenate", 0].args[0]
        assert {first, second} == {Reference("inner", 0), Reference("inner", 1)}
        assert third == Reference("outer")
        assert graph.outputs == (Reference("out"), second)
        trainable = {x.name: x.config["trainable"] for x in graph.layer("outer").model.layers}
        assert (trainable["frozen"], trainable["free"]) == (False, True)


def test_options_have_names_of_keras_3(tmp_path):
    """Options that Keras 2 writes otherwise or not at all are as Keras 3 has them."""
    layers = read(keras_files.unpacked("keras2_convolutions.h5", tmp_path)).layers
    found = {layer.kind: layer.config for layer in layers}
    assert abs(found["LeakyReLU"]["negative_slope"] - 0.2) < 1e-6
    assert found["BatchNormalization"]["axis"] == -1 % 3
    assert found["Conv1D"]["activation"] == "silu"
    assert found["Conv1D"]["dilation_rate"] == (2,)
    assert found["ReLU"] == {
        "max_value": 6.0,
        "negative_slope": pytest.approx(0.1),
        "threshold": 0.0,
        "trainable": True,
    }
    lstm = read(keras_files.unpacked("keras2_lstm.h5", tmp_path))
    assert lstm.input_shapes == ((None, 7, 2),)
    assert lstm.layer("lstm_1").config["recurrent_activation"] == "hard_sigmoid"


def test_a_layer_of_two_models(tmp_path):
    """Keras stores it once, where it comes first."""
    x, y = models.keras.Input((5, 3)), models.keras.Input((5, 3))
    shared = models.layers.Bidirectional(models.layers.LSTM(2), name="shared")
    own = models.layers.Dense(2, name="own")
    first = models.keras.Model(x, shared(x), name="first")
    second = models.keras.Model(y, own(shared(y)), name="second")
    z = models.keras.Input((5, 3))
    model = models.keras.Model(z, [first(z), second(z), own(first(z))])
    model.set_weights([np.random.default_rng(0).normal(size=w.shape) for w in model.get_weights()])
    for ending in (".keras", ".h5"):
        path = tmp_path / f"model{ending}"
        model.save(path)
        found = read(path)
        layers = [found.layer(name).model.layer("shared") for name in ("first", "second")]
        layers += [found.layer("second").model.layer("own"), found.layer("own")]
        for layer, expected in zip(layers, (shared, shared, own, own), strict=True):
            for array, reference in zip(weights(layer), kerases(expected), strict=True):
                np.testing.assert_array_equal(array, reference)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64", "mixed_bfloat16"])
def test_dtypes(dtype, tmp_path):
    layer = models.layers.Dense(3, dtype=dtype)
    model = models.keras.Sequential([models.keras.Input((2,)), layer])
    path = tmp_path / "model.keras"
    model.save(path)
    (found,) = (x for x in read(path).layers if x.kind == "Dense")
    for name in ("kernel", "bias"):
        expected = getattr(layer, name).value.float().detach().numpy()
        np.testing.assert_array_equal(found.weights[name], expected)


def test_numbers_beyond_float32(tmp_path):
    model = models.keras.Sequential(
        [models.keras.Input((1,)), models.layers.Dense(1, dtype="float64")]
    )
    model.layers[-1].set_weights([np.full((1, 1), 1e60), np.zeros(1)])
    path = tmp_path / "model.keras"
    model.save(path)
    with pytest.raises(ValueError, match=r"dense.*numbers beyond float32"):
        read(path)


def test_keras_is_not_imported(tmp_path):
    path = keras_files.unpacked("keras2_tagger.h5", tmp_path)
    child.succeed(
        f"import sys; from treadle.keras.files.read import read; read({str(path)!r}); "
        "assert not {'keras', 'torch', 'tensorflow'} & set(sys.modules)"
    )

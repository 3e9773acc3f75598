"""Layers of one input of files of Keras, in both layouts and with sizes that calls choose."""

import keras
import numpy as np
import pytest

from support.keras_checks import L, branches, check, ids, normal, sequential

X, IMAGE = normal(1, 3, 7, 4), normal(2, 2, 9, 8, 3)


ACTIVATIONS = (
    *("linear", "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "softplus", "softsign"),
    *("softmax", "log_softmax", "sigmoid", "log_sigmoid", "hard_sigmoid", "tanh"),
    *("hard_tanh", "tanh_shrink", "hard_shrink", "soft_shrink", "exponential", "silu"),
    *("gelu", "mish", "squareplus", "sparse_plus", "sparse_sigmoid", "hard_silu", "glu"),
)


def test_activations(tmp_path):
    """An activation is a layer, or an option of another one."""
    layers = {name: lambda name=name: L.Activation(name) for name in ACTIVATIONS if name != "glu"}
    options = {
        f"Dense {name}": lambda name=name: L.Dense(6, activation=name) for name in ACTIVATIONS
    }
    check(branches({**layers, **options}, 7, 4), [X], tmp_path)


STEPS = {
    "ReLU": lambda: L.ReLU(),
    "ReLU6": lambda: L.ReLU(6),
    "ReLU slope": lambda: L.ReLU(negative_slope=0.2),
    "ReLU all": lambda: L.ReLU(2.0, 0.1, 0.5),
    "ReLU threshold": lambda: L.ReLU(threshold=0.5),
    "LeakyReLU": lambda: L.LeakyReLU(0.1),
    "ELU": lambda: L.ELU(0.7),
    "PReLU": lambda: L.PReLU(),
    "PReLU shared": lambda: L.PReLU(shared_axes=[1]),
    "Softmax": lambda: L.Softmax(),
    "Softmax axes": lambda: L.Softmax(axis=[1, 2]),
    "Dense": lambda: L.Dense(5, activation="tanh"),
    "Dense no bias": lambda: L.Dense(5, use_bias=False),
    "Dense layer": lambda: L.Dense(5, activation=L.LeakyReLU(0.3)),
    "Rescaling": lambda: L.Rescaling(0.5, 1.0),
    "Rescaling channels": lambda: L.Rescaling([0.5, 1.0, 2.0, 3.0], [0.0, 1.0, 0.0, 2.0]),
    "Dropout": lambda: L.Dropout(0.5),
    "SpatialDropout1D": lambda: L.SpatialDropout1D(0.5),
    "GaussianNoise": lambda: L.GaussianNoise(0.5),
    "GaussianDropout": lambda: L.GaussianDropout(0.5),
    "AlphaDropout": lambda: L.AlphaDropout(0.5),
    "ActivityRegularization": lambda: L.ActivityRegularization(0.5),
    "Identity": lambda: L.Identity(),
    "UnitNormalization": lambda: L.UnitNormalization(),
    "UnitNormalization axis": lambda: L.UnitNormalization(axis=1),
    "LayerNormalization": lambda: L.LayerNormalization(),
    "LayerNormalization axes": lambda: L.LayerNormalization(axis=[1, 2]),
    "LayerNormalization plain": lambda: L.LayerNormalization(center=False, scale=False),
    "BatchNormalization": lambda: L.BatchNormalization(),
    "BatchNormalization axis": lambda: L.BatchNormalization(axis=1),
    "BatchNormalization plain": lambda: L.BatchNormalization(center=False, scale=False),
    "GroupNormalization": lambda: L.GroupNormalization(2),
    "GroupNormalization each": lambda: L.GroupNormalization(-1),
    "Normalization": lambda: L.Normalization(
        mean=[0.5, 1.0, 0.0, 2.0], variance=[1.0, 2.0, 3.0, 4.0]
    ),
    "Normalization invert": lambda: L.Normalization(mean=0.5, variance=2.0, invert=True),
    "Flatten": lambda: L.Flatten(),
    "Flatten first": lambda: L.Flatten(data_format="channels_first"),
    "Reshape": lambda: L.Reshape((4, 7)),
    "Reshape rest": lambda: L.Reshape((-1, 2)),
    "Permute": lambda: L.Permute((2, 1)),
    "ZeroPadding1D": lambda: L.ZeroPadding1D((1, 2)),
    "Cropping1D": lambda: L.Cropping1D((1, 2)),
    "UpSampling1D": lambda: L.UpSampling1D(3),
}


def test_layers_of_steps(tmp_path):
    check(branches(STEPS, 7, 4), [X], tmp_path)


ANY_LENGTH = {
    "Conv1D": lambda: L.Conv1D(5, 3),
    "Conv1D causal": lambda: L.Conv1D(5, 3, padding="causal", dilation_rate=2),
    "Conv1D same": lambda: L.Conv1D(5, 4, padding="same", activation="softmax"),
    "Conv1D stride": lambda: L.Conv1D(5, 3, strides=2, padding="same"),
    "Conv1D groups": lambda: L.Conv1D(4, 3, groups=2),
    "SeparableConv1D": lambda: L.SeparableConv1D(5, 3, depth_multiplier=2),
    "DepthwiseConv1D": lambda: L.DepthwiseConv1D(3, padding="same"),
    "Conv1DTranspose": lambda: L.Conv1DTranspose(5, 3, strides=2, padding="same"),
    "MaxPooling1D": lambda: L.MaxPooling1D(),
    "MaxPooling1D same": lambda: L.MaxPooling1D(3, strides=2, padding="same"),
    "AveragePooling1D": lambda: L.AveragePooling1D(2),
    "AveragePooling1D same": lambda: L.AveragePooling1D(3, strides=1, padding="same"),
    "GlobalMaxPooling1D": lambda: L.GlobalMaxPooling1D(),
    "GlobalAveragePooling1D": lambda: L.GlobalAveragePooling1D(keepdims=True),
    "UpSampling1D": lambda: L.UpSampling1D(3),
    "LayerNormalization": lambda: L.LayerNormalization(),
    "BatchNormalization": lambda: L.BatchNormalization(),
    "GroupNormalization": lambda: L.GroupNormalization(2),
    "Reshape": lambda: L.Reshape((-1, 2, 2)),
    "ZeroPadding1D": lambda: L.ZeroPadding1D((1, 2)),
}


@pytest.mark.parametrize("length", [7, None])
def test_layers_of_any_length(isa, length, tmp_path):
    check(branches(ANY_LENGTH, length, 4), [X], tmp_path)


IMAGES = {
    "Conv2D": lambda **f: L.Conv2D(4, 3, **f),
    "Conv2D same": lambda **f: L.Conv2D(4, (3, 2), strides=2, padding="same", **f),
    "Conv2D dilated": lambda **f: L.Conv2D(6, 3, dilation_rate=2, padding="same", groups=3, **f),
    "DepthwiseConv2D": lambda **f: L.DepthwiseConv2D(3, depth_multiplier=2, padding="same", **f),
    "DepthwiseConv2D stride": lambda **f: L.DepthwiseConv2D(3, strides=(2, 2), **f),
    "SeparableConv2D": lambda **f: L.SeparableConv2D(5, 3, padding="same", **f),
    "Conv2DTranspose": lambda **f: L.Conv2DTranspose(4, 3, **f),
    "Conv2DTranspose same": lambda **f: L.Conv2DTranspose(4, 3, strides=2, padding="same", **f),
    "Conv2DTranspose wide": lambda **f: L.Conv2DTranspose(4, 2, strides=3, padding="same", **f),
    "Conv2DTranspose more": lambda **f: L.Conv2DTranspose(
        4, (4, 5), strides=2, output_padding=1, padding="same", **f
    ),
    "Conv2DTranspose valid": lambda **f: L.Conv2DTranspose(4, 3, strides=2, output_padding=1, **f),
    "MaxPooling2D": lambda **f: L.MaxPooling2D(**f),
    "MaxPooling2D same": lambda **f: L.MaxPooling2D(3, strides=2, padding="same", **f),
    "AveragePooling2D": lambda **f: L.AveragePooling2D(2, **f),
    "AveragePooling2D same": lambda **f: L.AveragePooling2D(3, strides=1, padding="same", **f),
    "GlobalMaxPooling2D": lambda **f: L.GlobalMaxPooling2D(**f),
    "GlobalAveragePooling2D": lambda **f: L.GlobalAveragePooling2D(**f),
    "ZeroPadding2D": lambda **f: L.ZeroPadding2D(((1, 2), (0, 3)), **f),
    "Cropping2D": lambda **f: L.Cropping2D(((1, 2), (0, 1)), **f),
    "UpSampling2D": lambda **f: L.UpSampling2D(2, **f),
    "UpSampling2D bilinear": lambda **f: L.UpSampling2D((2, 3), interpolation="bilinear", **f),
    "Flatten": lambda **f: L.Flatten(**f),
}


@pytest.mark.parametrize("layout", ["channels_last", "channels_first"])
def test_layers_of_images(layout, tmp_path):
    cases = {name: lambda layer=layer: layer(data_format=layout) for name, layer in IMAGES.items()}
    check(branches(cases, 9, 8, 3), [IMAGE], tmp_path)


INNER = {
    "Dense": lambda: L.Dense(3, activation="softmax"),
    "Conv1D": lambda: L.Conv1D(4, 3),
    "LSTM": lambda: L.LSTM(4),
    "GlobalAveragePooling1D": lambda: L.GlobalAveragePooling1D(),
    "LayerNormalization": lambda: L.LayerNormalization(),
    "BatchNormalization": lambda: L.BatchNormalization(axis=1),
    "Bidirectional": lambda: L.Bidirectional(L.GRU(2, return_sequences=True)),
    "TimeDistributed": lambda: L.TimeDistributed(L.Dense(2)),
    "Sequential": lambda: keras.Sequential([keras.Input((8, 3)), L.Conv1D(2, 3), L.Flatten()]),
}


@pytest.mark.parametrize("length", [9, None])
def test_layers_of_each_step(length, tmp_path):
    cases = {name: lambda layer=layer: L.TimeDistributed(layer()) for name, layer in INNER.items()}
    check(branches(cases, length, 8, 3), [IMAGE], tmp_path)


def test_flat_inputs(tmp_path):
    make = sequential(
        lambda: L.Dense(5),
        lambda: L.BatchNormalization(),
        lambda: L.ReLU(),
        lambda: L.RepeatVector(3),
        lambda: L.LSTM(4),
        shape=(4,),
    )
    check(make, [normal(3, 3, 4)], tmp_path)


def test_embeddings(tmp_path):
    """Numbers of words are integers of any width, even where the file says float32."""
    make = sequential(lambda: L.Embedding(5, 4), lambda: L.GRU(3), shape=(None,))
    loaded = check(make, [ids(1, 3, 7)], tmp_path)
    assert loaded.inputs[0].dtype == "int32"
    np.testing.assert_array_equal(loaded(ids(1, 3, 7).astype(np.int64)), loaded(ids(1, 3, 7)))


def test_convolutional_recurrent(tmp_path):
    """Whole nets: what is between layers of a kind is folded into them."""
    make = sequential(
        lambda: L.Conv1D(5, 3, use_bias=False),
        lambda: L.BatchNormalization(),
        lambda: L.ReLU(),
        lambda: L.Conv1D(5, 3, activation="relu"),
        lambda: L.MaxPooling1D(),
        lambda: L.Bidirectional(L.GRU(3)),
        lambda: L.Dense(2, activation="softmax"),
        shape=(None, 4),
    )
    loaded = check(make, [normal(4, 3, 12, 4)], tmp_path)
    operators = [node.op for node in loaded.graph.nodes]
    assert operators[:3] == ["treadle.Conv", "treadle.Conv", "treadle.MaxPool"]

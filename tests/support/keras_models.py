"""Models of Keras 3 that use every layer whose weights files have, made when a test runs."""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import pytest

keras = pytest.importorskip("keras")
layers = keras.layers


def sequences():
    """Return recurrent layers of all sorts, one behind the other."""
    return keras.Sequential(
        [
            keras.Input((8,), dtype="int32"),
            layers.Embedding(11, 4, mask_zero=True),
            layers.SpatialDropout1D(0.1),
            layers.LSTM(3, return_sequences=True, dropout=0.2, recurrent_dropout=0.1),
            layers.GRU(3, return_sequences=True, reset_after=False),
            layers.GRU(3, return_sequences=True, use_bias=False),
            layers.SimpleRNN(3, return_sequences=True, activation=layers.LeakyReLU(0.1)),
            layers.Bidirectional(layers.LSTM(2, return_sequences=True), merge_mode="mul"),
            layers.Bidirectional(
                layers.GRU(2, return_sequences=True),
                backward_layer=layers.SimpleRNN(2, return_sequences=True, go_backwards=True),
            ),
            layers.RNN(
                layers.StackedRNNCells([layers.LSTMCell(3), layers.GRUCell(2), layers.LSTMCell(3)]),
                return_sequences=True,
            ),
            layers.RNN(layers.SimpleRNNCell(4), return_sequences=True),
            layers.Bidirectional(layers.RNN(layers.LSTMCell(2), return_sequences=True)),
            layers.TimeDistributed(layers.Dense(2, activation="relu")),
            layers.Dense(3),
        ],
        name="sequences",
    )


def images():
    """Return layers of one and two dimensions."""
    return keras.Sequential(
        [
            keras.Input((12, 12, 4)),
            layers.Rescaling(0.5, offset=1.0),
            layers.Normalization(mean=[0.0] * 4, variance=[1.0] * 4),
            layers.Normalization(axis=-1),
            layers.Conv2D(4, 3, groups=2, padding="same", activation="gelu"),
            layers.BatchNormalization(scale=False),
            layers.DepthwiseConv2D(3, depth_multiplier=2),
            layers.SeparableConv2D(6, 3, depth_multiplier=2, use_bias=False),
            layers.GroupNormalization(3),
            layers.ZeroPadding2D(((1, 2), (0, 1))),
            layers.Cropping2D(1),
            layers.UpSampling2D(2, interpolation="bilinear"),
            layers.Conv2DTranspose(4, 3, strides=2, output_padding=1),
            layers.PReLU(shared_axes=[1, 2]),
            layers.MaxPooling2D(2),
            layers.AveragePooling2D(2, strides=1, padding="same"),
            layers.Reshape((-1, 4)),
            layers.Permute((1, 2)),
            layers.Conv1D(4, 3),
            layers.Conv1DTranspose(4, 3),
            layers.SeparableConv1D(5, 3),
            layers.DepthwiseConv1D(3),
            layers.LayerNormalization(),
            layers.UnitNormalization(),
            layers.ZeroPadding1D(2),
            layers.Cropping1D((1, 2)),
            layers.UpSampling1D(2),
            layers.AveragePooling1D(2),
            layers.GlobalMaxPooling1D(keepdims=True),
            layers.Flatten(),
            layers.RepeatVector(3),
            layers.ELU(),
            layers.Softmax(),
            layers.ActivityRegularization(l1=0.1),
            layers.Identity(),
            layers.GaussianNoise(0.1),
            layers.GaussianDropout(0.1),
            layers.AlphaDropout(0.1),
        ],
        name="images",
    )


def graph():
    """Return a functional model: dictionaries, operations, shared layers, states, attention."""
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    features = keras.Input((5,), name="features")
    side = keras.Input((4,))
    inner = keras.Model(side, [layers.Dense(4, name="d")(side), side * 2.0], name="inner")
    shared = layers.Dense(4, name="shared")
    x = layers.Embedding(9, 4, mask_zero=True)(tokens)
    y, h, c = layers.LSTM(4, return_sequences=True, return_state=True, name="one")(x)
    z = layers.LSTM(4, return_sequences=True, name="two")(y, initial_state=[shared(features), c])
    attended, scores = layers.MultiHeadAttention(2, 3, value_dim=2, output_shape=4)(
        z, y, return_attention_scores=True
    )
    dotted = layers.Attention(use_scale=True, score_mode="concat")([z, attended])
    added = layers.AdditiveAttention()([z, dotted])
    first, second = inner(shared(features))
    third, _ = inner(h + first)
    merged = [
        layers.Add()([first, second]),
        layers.Subtract()([first, third]),
        layers.Multiply()([first, third]),
        layers.Average()([first, third]),
        layers.Maximum()([first, third]),
        layers.Minimum()([first, third]),
        added[:, -1],
        added[:, 0, :2],
        scores[:, :, 0, 0],
        layers.Dot(1, normalize=True)([first, third]),
    ]
    out = layers.Dense(2, name="last")(layers.Concatenate()(merged) / 2.0)
    return keras.Model(
        {"tokens": tokens, "features": features}, {"out": out, "all": merged}, name="graph"
    )


MODELS = {make.__name__: make for make in (sequences, images, graph)}

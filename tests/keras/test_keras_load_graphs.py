"""Functional models of files of Keras: what merges tensors and masks, attention, shared layers."""

import keras
import numpy as np
import pytest

from support.keras_checks import L, check, draw, ids, normal, saved
from treadle.keras import load

A, B = normal(1, 3, 7, 4), normal(2, 3, 7, 4)
IDS, OTHERS = ids(3, 3, 7), ids(4, 3, 7)
MERGES = {
    "Add": L.Add, "Subtract": L.Subtract, "Multiply": L.Multiply, "Average": L.Average,
    "Maximum": L.Maximum, "Minimum": L.Minimum, "Concatenate": L.Concatenate,
    "Concatenate steps": lambda: L.Concatenate(axis=1),
}  # fmt: skip
DOTS = {
    "Dot": lambda: L.Dot(axes=1), "Dot axes": lambda: L.Dot(axes=(2, 2), normalize=True),
    "Dot last": lambda: L.Dot(axes=-1),
}  # fmt: skip
ATTENTIONS = {
    "Attention": L.Attention,
    "Attention concat": lambda: L.Attention(use_scale=True, score_mode="concat"),
    "Attention scale": lambda: L.Attention(use_scale=True),
    "AdditiveAttention": L.AdditiveAttention,
    "AdditiveAttention plain": lambda: L.AdditiveAttention(use_scale=False),
}


def words(mask=True):
    return L.Embedding(5, 4, mask_zero=mask)


@pytest.mark.parametrize("length", [7, None])
def test_layers_of_two(length, tmp_path):
    def make():
        a, b = (keras.Input((length, 4), name=name) for name in "ab")
        cases = MERGES | ATTENTIONS | (DOTS if length else {})
        return keras.Model([a, b], {name: layer()([a, b]) for name, layer in cases.items()})

    check(make, [A, B], tmp_path)


def test_ranks_that_differ(tmp_path):
    def make():
        a, b = keras.Input((7, 4)), keras.Input((4,))
        return keras.Model(
            [a, b],
            [
                L.Add()([a, b]),
                L.Dot(axes=(2, 1))([a, b]),
                L.Dot(axes=1)([b, b]),
                L.Multiply()([a] * 3),
            ],
        )

    check(make, [A, normal(5, 3, 4)], tmp_path)


@pytest.mark.parametrize("second", [False, True])
def test_merged_masks(second, tmp_path):
    """A merge of two masked sequences, or of a masked one and another, and what reads its mask."""

    def make():
        a, b = (keras.Input((None,), dtype="int32") for _ in range(2))
        outputs = {}
        for name, layer in (MERGES | ATTENTIONS).items():
            y = layer()([words()(a), words(second)(b)])
            outputs |= {name: y, f"{name} net": L.LSTM(3)(y)}
            outputs[f"{name} mean"] = L.GlobalAveragePooling1D()(y)
        return keras.Model([a, b], outputs)

    check(make, [IDS, OTHERS], tmp_path)


def test_masks_that_pass_through(tmp_path):
    """Layers hand a mask on, or stop it, as Keras has it."""

    def make():
        x = keras.Input((None,), dtype="int32")
        layers = [
            L.Dense(4), L.Dropout(0.5), L.Activation("relu"), L.LayerNormalization(), L.ReLU(),
            L.BatchNormalization(), L.TimeDistributed(L.Dense(4)), L.Conv1D(4, 3, padding="same"),
            L.GRU(4, return_sequences=True), L.SpatialDropout1D(0.5), L.Reshape((-1, 4)),
            L.UnitNormalization(), L.ZeroPadding1D(0), L.PReLU(shared_axes=[1]), L.Rescaling(2.0),
            L.Bidirectional(L.LSTM(2, return_sequences=True)), L.Identity(), L.LeakyReLU(),
        ]  # fmt: skip
        outputs = {}
        for number, layer in enumerate(layers):
            y = layer(words()(x))
            name = f"{number} {type(layer).__name__}"
            outputs |= {name: y, f"{name} mean": L.GlobalAveragePooling1D()(y)}
        return keras.Model(x, outputs)

    check(make, [IDS], tmp_path)


def test_attention_options(tmp_path):
    def make():
        a, b = (keras.Input((7, 4)) for _ in range(2))
        return keras.Model(
            [a, b],
            [
                L.Attention()([a, b], use_causal_mask=True),
                L.AdditiveAttention()([a, b, a], return_attention_scores=True),
                L.Attention(dropout=0.5)([a, b, b]),
            ],
        )

    check(make, [A, B], tmp_path)


@pytest.mark.parametrize("length", [7, None])
def test_many_heads(isa, length, tmp_path):
    def make():
        a, b = (keras.Input((length, 4)) for _ in range(2))
        heads = L.MultiHeadAttention
        return keras.Model(
            [a, b],
            [
                heads(2, 3)(a, b),
                heads(2, 3, value_dim=5, output_shape=6)(a, b, a),
                heads(2, 3)(a, a, use_causal_mask=True),
                heads(2, 3, use_bias=False, dropout=0.1)(query=a, value=b, key=b),
                heads(2, 3)(a, b, return_attention_scores=True),
            ],
        )

    check(make, [A, B], tmp_path)


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_masked_heads(dropout, tmp_path):
    """A block of a transformer: the layer takes the mask from what it is called with."""

    def make():
        x = keras.Input((None,), dtype="int32")
        y = words()(x)
        z = L.MultiHeadAttention(2, 3, dropout=dropout)(y, y)
        w = L.LayerNormalization()(L.Add()([y, z]))
        return keras.Model(x, [z, w, L.LSTM(4)(z), L.LSTM(3)(w), L.GlobalAveragePooling1D()(w)])

    check(make, [IDS], tmp_path)


def test_shared_layers(tmp_path):
    """The weights of a layer that is called several times are in the graph once."""

    def make():
        a, b = (keras.Input((7, 4)) for _ in range(2))
        dense, net = L.Dense(4), L.GRU(4, return_sequences=True)
        return keras.Model([a, b], [dense(a), dense(dense(b)), net(a), net(net(b))])

    loaded = check(make, [A, B], tmp_path)
    assert loaded.weight_bytes == 4 * sum((4 * 4, 4, 2 * 4 * 12, 2 * 12))


def inner_functional():
    x = keras.Input((7, 4))
    y = L.Dense(3)(x)
    return keras.Model(x, L.LSTM(5, return_sequences=True)(y))


def test_models_in_models(tmp_path):
    def make():
        a, b = (keras.Input((7, 4)) for _ in range(2))
        inner = inner_functional()
        outer = keras.Sequential([keras.Input((7, 5)), L.Conv1D(2, 3), L.GlobalMaxPooling1D()])
        return keras.Model([a, b], [inner(a), outer(inner(L.Dense(4)(b)))])

    check(make, [A, B], tmp_path)


def test_masks_in_models(tmp_path):
    """A mask that an inner model makes goes on in the outer one, and the other way round."""

    def make():
        x = keras.Input((None,), dtype="int32")
        makes = keras.Sequential(
            [keras.Input((None,), dtype="int32"), words(), L.LSTM(3, return_sequences=True)]
        )
        takes = keras.Sequential([keras.Input((None, 4)), L.LSTM(3, return_sequences=True)])
        mean = L.GlobalAveragePooling1D()
        return keras.Model(x, [mean(makes(x)), mean(takes(words()(x)))])

    check(make, [IDS], tmp_path)


def test_model_of_each_step(tmp_path):
    def make():
        inner = keras.Sequential(
            [keras.Input((8, 3)), L.Conv1D(4, 3, activation="relu"), L.GlobalMaxPooling1D()]
        )
        return keras.Sequential([keras.Input((None, 8, 3)), L.TimeDistributed(inner), L.LSTM(4)])

    check(make, [normal(6, 2, 5, 8, 3)], tmp_path)


def test_operations(tmp_path):
    """Expressions of tensors are operations of the model."""
    ops = keras.ops

    def make():
        a, b = (keras.Input((7, 4)) for _ in range(2))
        results = [
            a + b, a * 2 - 1, 1 - a, -a, a**2, a / 3, 1 / (1 + ops.exp(-b)), a // b, a % 2.0,
            a[:, -1], a[:, 1:3], a[:, None], a[..., 0], a[:, ::2, 1], ops.abs(a), ops.sqrt(b * b),
            ops.square(a), ops.log(ops.abs(a) + 1), ops.sin(a), ops.tanh(a), ops.sign(a),
            ops.mean(a, axis=1), ops.sum(a, axis=(1, 2)), ops.max(a, axis=-1, keepdims=True),
            ops.var(a, axis=-1), ops.std(a, axis=1), ops.prod(a, axis=2),
            ops.logsumexp(a, axis=1),
            ops.maximum(a, b), ops.minimum(a, 0.5), ops.clip(a, -1, 1), ops.where(a > b, a, 0.0),
            ops.cast(ops.greater(a, b), "float32"), ops.relu(a), ops.silu(a),
            ops.softmax(a, axis=1),
            ops.log_softmax(a), ops.elu(a), ops.leaky_relu(a), ops.gelu(a), ops.rsqrt(b * b + 1),
            ops.matmul(a, ops.transpose(b, (0, 2, 1))), ops.concatenate([a, b], -1),
            ops.stack([a, b], 1), ops.split(a, 2, -1)[1], ops.reshape(a, (-1, 28)),
            ops.expand_dims(a, -1), ops.squeeze(ops.expand_dims(a, 1), 1), ops.flip(a, 1),
            ops.swapaxes(a, 1, 2), ops.moveaxis(a, 1, 2), ops.tile(a, (1, 2, 1)),
            ops.repeat(a, 2, axis=1), ops.take(a, [0, 2], axis=1), ops.cumsum(a, 1),
            ops.pad(a, ((0, 0), (1, 2), (0, 0))), ops.expm1(a), ops.log1p(ops.abs(a)),
            ops.zeros_like(a), ops.ones_like(a), ops.erf(a), ops.round(a), ops.floor(a),
            ops.hard_sigmoid(a), ops.argmax(a, -1),
        ]  # fmt: skip
        return keras.Model([a, b], results)

    check(make, [A, B], tmp_path)


def test_names(tmp_path):
    """Inputs are given by name or in Keras' order; outputs that are several are a dict."""
    a, b = keras.Input((7, 4), name="left"), keras.Input((7, 4), name="right")
    y = L.Subtract(name="difference")([a, b])
    model = draw(keras.Model([b, a], [y, L.Dense(2, name="dense")(y)]))
    loaded = load(saved(model, tmp_path))
    found = loaded(B, A)
    assert list(found) == ["difference", "dense"]
    np.testing.assert_array_equal(found["difference"], A - B)
    np.testing.assert_array_equal(loaded(left=A, right=B)["difference"], A - B)
    model = keras.Model({"left": a, "right": b}, {"one": y})
    loaded = load(saved(model, tmp_path))
    np.testing.assert_array_equal(loaded(left=A, right=B)["one"], A - B)
    model = keras.Model([a, b], y)
    np.testing.assert_array_equal(load(saved(model, tmp_path))(A, B), A - B)

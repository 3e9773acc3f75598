"""Keras' MultiHeadAttention on treadle's kernels, against Keras' own."""

import keras
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import treadle.keras
from support import keras_layers, samples
from support.tolerance import EPS

layers = keras.layers


def built(options, query, value):
    layer = layers.MultiHeadAttention(**options)
    layer.build(query, value)
    layer.set_weights(
        [samples.normal(i, *v.shape) / np.float32(4) for i, v in enumerate(layer.weights)]
    )
    return layer


def outcome(layer, arrays, masks, dtype, seeing=1, **options):
    """Return the result of a call, and the gradients of query, value, key and weights of a sum over
    the rows that are ``seeing``."""
    leaves = [torch.tensor(a, dtype=dtype, requires_grad=True) for a in arrays]
    for leaf, mask in zip(leaves, masks, strict=False):
        if mask is not None:
            keras.src.backend.set_keras_mask(leaf, torch.as_tensor(mask))
    y = layer(*leaves, **options)
    seed = torch.randn(y.shape, generator=torch.Generator().manual_seed(3)) * seeing
    wanted = [*leaves, *(v.value for v in layer.trainable_variables)]
    return keras_layers.numbers([y, *torch.autograd.grad((y * seed).sum(), wanted)])


@settings(max_examples=80)
@given(data=st.data())
def test_random_options(data):
    draw = data.draw
    B, T, S, I = (draw(st.integers(1, most)) for most in (4, 9, 9, 6))
    options = {"num_heads": draw(st.integers(1, 3)), "key_dim": draw(st.integers(1, 9))}
    if draw(st.booleans()):
        options["value_dim"] = draw(st.integers(1, 9))
    if draw(st.booleans()):
        options["output_shape"] = draw(st.integers(1, 9))
    options["use_bias"] = draw(st.booleans())
    layer = built(options, (B, T, I), (B, S, I))
    arrays = [samples.normal(7, B, T, I), samples.normal(8, B, S, I)]
    if draw(st.booleans()):
        arrays.append(samples.normal(9, B, S, I))
    drawn = np.random.default_rng(draw(st.integers(0, 99)))
    masks = [
        torch.from_numpy(np.arange(size) < drawn.integers(0, size + 1, B)[:, None])
        if draw(st.booleans())
        else None
        for size in (T, S, S)
    ]
    call = {"use_causal_mask": draw(st.booleans())}
    given_mask = draw(st.sampled_from(["none", "rows", "batch", "heads"]))
    if given_mask != "none":
        shape = {"rows": (B, T, S), "batch": (1, T, S), "heads": (B, options["num_heads"], T, S)}
        call["attention_mask"] = torch.from_numpy(drawn.random(shape[given_mask]) < 0.6)
    if given_mask == "heads" and (call["use_causal_mask"] or any(m is not None for m in masks)):
        del call["attention_mask"]  # Keras cannot merge it with others
    merged = layer._compute_attention_mask(
        *(torch.from_numpy(a) for a in arrays[:2]), attention_mask=call.get("attention_mask"),
        use_causal_mask=call["use_causal_mask"], query_mask=masks[0], value_mask=masks[1],
        key_mask=masks[2] if len(arrays) > 2 else None,
    )  # fmt: skip
    if merged is not None:  # `test_queries_that_see_no_key` has the others
        heads = merged if merged.dim() == 4 else merged[:, None]
        call["seeing"] = heads.any(-1, keepdim=True).all(1)
    double = built(options | {"dtype": "float64"}, (B, T, I), (B, S, I))
    exact = outcome(double, arrays, masks, torch.float64, **call)
    rounded = outcome(layer, arrays, masks, torch.float32, **call)
    assert treadle.keras.accelerate(layer).replaced
    actual = outcome(layer, arrays, masks, torch.float32, **call)
    for mine, truth, other in zip(actual, exact, rounded, strict=True):
        bound = 2 * np.abs(other - truth).max() + 16 * EPS * max(1, np.abs(truth).max())
        assert mine.shape == truth.shape
        assert np.abs(mine - truth).max() <= bound


def test_what_runs_on_keras(no_warnings_before):
    layer = built({"num_heads": 2, "key_dim": 3, "dropout": 0.5, "seed": 1}, (2, 4, 5), (2, 4, 5))
    x = torch.from_numpy(samples.normal(0, 2, 4, 5))
    expected = layer(x, x, return_attention_scores=True)
    plain = layer(x, x)
    treadle.keras.accelerate(layer)
    with pytest.warns(UserWarning, match=r"treadle\.keras\.MultiHeadAttention: its attention sco"):
        found = layer(x, x, return_attention_scores=True)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    with pytest.warns(UserWarning, match="it trains with dropout; Keras' own code runs instead"):
        layer(x, x, training=True)
    torch.testing.assert_close(layer(x, x), plain, rtol=1e-5, atol=1e-6)


def test_queries_that_see_no_key():
    """They get the mean of all values, also where a mask of lengths stays one. Gradients are those
    of the mean: PyTorch's kernel, which Keras takes, loses the number of keys in a softmax of equal
    scores that are near the least number of float32."""
    layer = built({"num_heads": 2, "key_dim": 3}, (2, 4, 5), (2, 4, 5))
    x = samples.normal(0, 2, 4, 5)
    padding = np.array([[True, True, True, False], [False] * 4])
    theirs = outcome(layer, [x, x], [padding, padding], torch.float32)
    treadle.keras.accelerate(layer)
    ours = outcome(layer, [x, x], [padding, padding], torch.float32)
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-4, atol=1e-6)
    value = torch.from_numpy(x).requires_grad_()
    mean = layer.value_dense(value).mean(1, keepdim=True).expand(2, 4, 2, 3)
    y = layer.output_dense(mean)
    seed = torch.randn(y.shape, generator=torch.Generator().manual_seed(3))
    (expected,) = torch.autograd.grad((y * seed)[1].sum(), value)
    np.testing.assert_allclose(ours[2][1], expected[1], rtol=1e-4, atol=1e-6)
    assert not ours[1][1].any()


def test_what_is_left():
    large = layers.MultiHeadAttention(1, 300, name="large")
    assert treadle.keras.accelerate(large).left == {"large": "a head has more than 256 floats"}


def test_a_transformer_is_trained():
    """A model of blocks with padding learns as Keras' own does, step by step."""

    def make():
        keras.utils.set_random_seed(3)
        words = keras.Input((12,), dtype="int32")
        seen = keras.ops.expand_dims(keras.ops.not_equal(words, 0), 1)
        x = layers.Embedding(20, 16)(words)
        for _ in range(2):
            y = layers.MultiHeadAttention(2, 8)(x, x, attention_mask=seen)
            x = layers.LayerNormalization()(layers.Add()([x, y]))
        return keras.Model(words, layers.Dense(1)(layers.GlobalAveragePooling1D()(x)))

    drawn = np.random.default_rng(0)
    words = drawn.integers(1, 20, (16, 12)).astype("int32")
    words[np.arange(12) >= drawn.integers(1, 13, 16)[:, None]] = 0
    y = (words == 3).any(1).astype("float32")[:, None]
    losses = []
    for accelerates in (False, True):
        model = make()
        model.compile(keras.optimizers.SGD(0.01), "mse")
        if accelerates:
            assert len(treadle.keras.accelerate(model).replaced) == 2
        history = model.fit(words, y, batch_size=8, epochs=3, shuffle=False, verbose=0)
        losses.append([*history.history["loss"], *model.predict(words, verbose=0).ravel()])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision(policy):
    layer = built({"num_heads": 2, "key_dim": 4, "dtype": policy}, (2, 5, 6), (2, 5, 6))
    x = samples.normal(0, 2, 5, 6)
    expected = layer(x, x).detach()
    treadle.keras.accelerate(layer)
    result = layer(x, x).detach()
    assert result.dtype is expected.dtype
    eps = 2.0 ** (-8 if policy == "mixed_bfloat16" else -11)
    assert (result - expected).abs().max() <= 4 * eps * expected.abs().max()


def test_a_file_is_keras_own():
    layer = treadle.keras.layers.MultiHeadAttention(2, 4)
    config = keras.saving.serialize_keras_object(layer)
    assert (config["module"], config["class_name"]) == ("keras.layers", "MultiHeadAttention")
    made = keras.saving.deserialize_keras_object(config)
    assert type(made) is layers.MultiHeadAttention

"""Training and inference through Keras' own methods, on treadle's kernels and on Keras'."""

import functools

import keras
import numpy as np
import pytest
import torch

import treadle.keras
from support import samples

layers = keras.layers


def pair(make):
    """Return a model of Keras, and an accelerated one with the same weights."""
    theirs, ours = make(), make()
    ours.set_weights(theirs.get_weights())
    assert treadle.keras.accelerate(ours).replaced
    return theirs, ours


def series(B=24, T=10):
    x = samples.normal(0, B, T, 2)
    return x, x[:, -1:, 0] - x[:, 0, 1:]


def sequential(*own, T=10):
    return lambda: keras.Sequential([keras.Input((T, 2)), *own_layers(own), layers.Dense(1)])


def own_layers(makers):
    return [make() for make in makers]


MODELS = {
    "lstm-relu": sequential(lambda: layers.LSTM(9, activation="relu")),
    "gru": sequential(lambda: layers.GRU(9)),
    "gru-before": sequential(lambda: layers.GRU(9, reset_after=False)),
    "rnn": sequential(lambda: layers.SimpleRNN(9)),
    "stacked": sequential(
        lambda: layers.LSTM(9, return_sequences=True), lambda: layers.GRU(5, go_backwards=True)
    ),
    "masked": sequential(lambda: layers.Masking(0.0), lambda: layers.LSTM(6)),
    "bidirectional": sequential(lambda: layers.Bidirectional(layers.GRU(5))),
    "regularized": sequential(
        lambda: layers.LSTM(
            6, kernel_regularizer="l2", recurrent_regularizer="l1", activity_regularizer="l2",
            kernel_constraint="max_norm", bias_constraint="non_neg",
        )
    ),
    "frozen": sequential(lambda: layers.LSTM(6, trainable=False)),
    "distributed": sequential(
        lambda: layers.Reshape((5, 2, 2)), lambda: layers.TimeDistributed(layers.LSTM(4)),
        lambda: layers.GRU(4),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MODELS)
def test_fit_evaluate_predict(case):
    """Losses, weights and predictions are Keras' to rounding after some steps of training."""
    keras.utils.set_random_seed(1)
    theirs, ours = pair(MODELS[case])
    x, y = series()
    if case == "masked":
        x[3:9, 6:] = 0
        x[12:, ::3] = 0
    found = []
    for model in (theirs, ours):
        model.compile(keras.optimizers.SGD(0.05), "mse", metrics=["mae"])
        history = model.fit(
            x, y, batch_size=8, epochs=2, shuffle=False, verbose=0, validation_split=0.25,
            callbacks=[keras.callbacks.LearningRateScheduler(lambda e, rate: rate * 0.9)],
        )  # fmt: skip
        batch = model.train_on_batch(x[:4], y[:4])
        scores = model.evaluate(x, y, verbose=0)
        found.append(
            [*history.history["loss"], *history.history["val_mae"], *batch, *scores,
             *model.predict(x, verbose=0).ravel(), *np.concatenate(
                 [w.ravel() for w in model.get_weights()])]
        )  # fmt: skip
    np.testing.assert_allclose(found[1], found[0], rtol=2e-4, atol=2e-5)
    assert ours.count_params() == theirs.count_params()


def test_summary_is_the_same():
    theirs, ours = pair(MODELS["stacked"])
    lines = [[], []]
    for model, own in zip((theirs, ours), lines, strict=True):
        model.summary(print_fn=lambda text, own=own: own.append(text))
    names = [[layer.name for layer in model.layers] for model in (theirs, ours)]
    text = ["\n".join(own) for own in lines]
    for a, b in zip(*names, strict=True):
        text[1] = text[1].replace(b, a)
    kinds = [[line.split("(")[1].split(")")[0] for line in t.splitlines() if "(LSTM" in line
              or "(GRU" in line] for t in text]  # fmt: skip
    assert kinds[0] == kinds[1] == ["LSTM", "GRU"]


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "bfloat16", "float16"])
@pytest.mark.parametrize("kind", ["SimpleRNN", "LSTM", "GRU"])
def test_half_precision(policy, kind):
    """Results have the policy's dtype, and are nearer to float32's than Keras' own, which rounds
    in each step, or as near as its last rounding; gradients likewise."""
    options = {
        "return_sequences": True, "return_state": True, "dtype": policy,
        "recurrent_initializer": "glorot_uniform",  # the usual one needs float32
    }  # fmt: skip
    make = lambda own: getattr(layers, kind)(7, **{**options, **own})
    theirs, ours, exact = make({}), make({}), make({"dtype": "float32"})
    x = samples.normal(0, 3, 9, 4)
    rounded = torch.from_numpy(x).to(getattr(torch, theirs.compute_dtype)).float()
    for layer in (theirs, ours, exact):
        layer.build((3, 9, 4))
    theirs.set_weights(exact.get_weights())
    ours.set_weights(exact.get_weights())
    with torch.no_grad():
        for v in exact.weights:
            v.value.copy_(v.value.to(getattr(torch, theirs.compute_dtype)).float())
    assert treadle.keras.accelerate(ours).replaced
    results = [layer(rounded) for layer in (theirs, ours, exact)]
    eps = {"bfloat16": 2.0**-8, "float16": 2.0**-11}[theirs.compute_dtype]
    for a, b, c in zip(*results, strict=True):
        assert b.dtype is a.dtype is getattr(torch, theirs.compute_dtype)
        error = (b.float() - c).abs().max()
        assert error <= max((a.float() - c).abs().max(), eps * c.abs().max())
    grads = [
        torch.autograd.grad(sum(r.float().sum() for r in own), [v.value for v in layer.weights])
        for own, layer in zip(results, (theirs, ours, exact), strict=True)
    ]
    for a, b, c in zip(*grads, strict=True):
        assert b.dtype is a.dtype
        size = c.abs().max()
        assert (b.float() - c).abs().max() <= max((a.float() - c).abs().max(), 4 * eps * size)


def test_a_training_loop_of_ones_own():
    """A loop of PyTorch over a model's variables learns, with gradients of inputs, too."""
    keras.utils.set_random_seed(0)
    model = MODELS["gru"]()
    treadle.keras.accelerate(model)
    x, y = (torch.from_numpy(a) for a in series())
    optimizer = torch.optim.Adam([v.value for v in model.trainable_variables], 0.02)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = (model(x, training=True) - y).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.filterwarnings("ignore::UserWarning")  # the compiler's, about Keras' own code
def test_jit_compile(monkeypatch):
    """PyTorch's compiler keeps a layer as one operator; it would take Keras' loop step by step."""
    compiler = functools.partial(torch.compile, backend="aot_eager")
    monkeypatch.setattr(torch, "compile", compiler)
    theirs, ours = pair(MODELS["lstm-relu"])
    x, y = series(8)
    losses = []
    for model in (theirs, ours):
        model.compile("sgd", "mse", jit_compile=model is ours)
        losses.append(model.train_on_batch(x, y))
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)

"""Keras' layers beside accelerated ones: random options, clones in float64, results, gradients."""

import keras
import numpy as np
import torch
from hypothesis import strategies as st

import treadle.keras
from support import samples
from support.tolerance import EPS

ACTIVATIONS = [
    *("tanh", "relu", "sigmoid", "linear", "softsign", "elu", "leaky_relu", "silu", "gelu"),
    *("softplus", "hard_sigmoid", "hard_silu", "relu6", "hard_tanh", "celu", None),
]
GATES = ["sigmoid", "sigmoid", "hard_sigmoid", "tanh", "softsign", "linear"]


@st.composite
def recurrent(draw, kinds=("SimpleRNN", "LSTM", "GRU")):
    """Return the class and the options of a recurrent layer of Keras."""
    kind = draw(st.sampled_from(kinds))
    options = {"units": draw(st.integers(1, 19))}

    def some(name, values):
        if draw(st.booleans()):
            options[name] = draw(st.sampled_from(values))

    some("activation", ACTIVATIONS)
    some("use_bias", [False])
    some("return_sequences", [True])
    some("return_state", [True])
    some("go_backwards", [True])
    if kind != "SimpleRNN":
        some("recurrent_activation", GATES)
        some("implementation", [1, 2])
    if kind == "LSTM":
        some("unit_forget_bias", [False])
    if kind == "GRU":
        some("reset_after", [False])
    some("zero_output_for_mask", [True])
    some("unroll", [True])
    return kind, options


@st.composite
def sizes(draw):
    """Return B, T, I."""
    return draw(st.integers(1, 5)), draw(st.integers(1, 7)), draw(st.integers(1, 4))


def clone(layer, dtype):
    """Return a layer of Keras' own with the same options and weights, in another dtype."""
    config = {**layer.get_config(), "dtype": dtype}
    made = type(layer).from_config(config)
    made.build(layer.get_build_config()["input_shape"])
    made.set_weights([np.asarray(value, np.float64) for value in numbers(layer.weights)])
    return made


def numbers(variables):
    """Return the values of variables, tensors or None as arrays."""
    return [
        None if v is None else getattr(v, "value", v).detach().double().numpy() for v in variables
    ]


def flat(result):
    if isinstance(result, (list, tuple)):
        return [part for value in result for part in flat(value)]
    return [result]


def outcome(layer, x, mask=None, states=None, dtype=torch.float32, **options):
    """Return the results of a call, then the gradients of x, states and weights."""
    leaf = lambda a: torch.tensor(a, dtype=dtype, requires_grad=True)
    x, states = leaf(x), None if states is None else [leaf(s) for s in states]
    if states is not None:
        options["initial_state"] = states
    if mask is not None:
        options["mask"] = torch.as_tensor(mask)
    found = flat(layer(x, **options))
    generator = torch.Generator().manual_seed(3)
    seeds = [torch.randn(r.shape, generator=generator) for r in found]
    loss = sum((r.to(dtype) * s).sum() for r, s in zip(found, seeds, strict=True))
    leaves = [x, *(states or []), *(v.value for v in layer.trainable_variables)]
    gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
    return [*numbers(found), *numbers(gradients)]


def assert_same(layer, x, mask=None, states=None, **options):
    """Compare a layer with its accelerated self: at most twice the error of Keras' own float32,
    seen from Keras' own float64, plus 16 eps of the largest number."""
    exact = outcome(clone(layer, "float64"), x, mask, states, torch.float64, **options)
    rounded = outcome(clone(layer, "float32"), x, mask, states, **options)
    report = treadle.keras.accelerate(layer)
    assert report.replaced
    assert not report.left
    actual = outcome(layer, x, mask, states, **options)
    assert len(actual) == len(exact)
    for mine, truth, other in zip(actual, exact, rounded, strict=True):
        if truth is None:  # Keras' graph does not reach what all steps leave out
            assert mine is None or not mine.any()
            continue
        mine = np.zeros_like(truth) if mine is None else mine
        assert mine.shape == truth.shape
        bound = 2 * np.abs(other - truth).max(initial=0)
        bound += 16 * EPS * max(1, np.abs(truth).max(initial=0))
        assert np.abs(mine - truth).max(initial=0) <= bound


def built(kind, options, shape, seed=0):
    """Return a built layer whose weights are random numbers, biases included."""
    layer = getattr(keras.layers, kind)(**options)
    layer.build(shape)
    layer.set_weights(
        [
            samples.normal(seed + i, *v.shape) / np.float32(max(1, v.shape[0]) ** 0.5)
            for i, v in enumerate(layer.weights)
        ]
    )
    return layer


def states_of(layer, B):
    """Return random arrays for the states of a recurrent layer."""
    return [samples.normal(90 + i, B, size) for i, size in enumerate(flat(layer.state_size))]

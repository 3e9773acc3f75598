"""Vanilla RNN: functional form and module against the reference, on every ISA."""

import numpy as np
import pytest

import treadle
from reference import recurrent as reference
from support import activations, samples
from support.checks import check_functional, check_module
from support.sizes import SHAPE_IDS, SHAPES, SMALL_SHAPE_IDS, SMALL_SHAPES, shape_id
from support.tolerance import assert_sequence

NONLINEARITIES = [
    *activations.NAMES, None, ("hard_sigmoid", 0.2, 0.5), ("elu", 0.7), ("leaky_relu", 0.2),
    ("affine", 0.3, 0.4), ("thresholded_relu", 0.3), ("scaled_tanh", 1.7, 0.6),
]  # fmt: skip


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
@pytest.mark.parametrize("shape", SHAPES, ids=SHAPE_IDS)
def test_shapes(isa, shape, nonlinearity):
    check_functional("rnn", shape, nonlinearity=nonlinearity)


@pytest.mark.parametrize("shape", SMALL_SHAPES, ids=SMALL_SHAPE_IDS)
def test_without_bias_or_state(isa, shape):
    check_functional("rnn", shape, bias=False, state=False)


@pytest.mark.parametrize("clip", [None, 0.4], ids=["", "clip"])
@pytest.mark.parametrize("nonlinearity", NONLINEARITIES, ids=str)
def test_nonlinearities(isa, nonlinearity, clip):
    check_functional("rnn", (5, 6, 7, 17), nonlinearity=nonlinearity, clip=clip)


def test_reverse(isa):
    check_functional("rnn", (5, 6, 7, 17), reverse=True)


@pytest.mark.parametrize("batch_first", [False, True], ids=["TB", "BT"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["D1", "D2"])
@pytest.mark.parametrize("num_layers", [1, 2, 3], ids=lambda n: f"L{n}")
def test_module(isa, num_layers, bidirectional, batch_first):
    check_module(
        "rnn", (6, 3, 5, 9), num_layers=num_layers, bidirectional=bidirectional,
        batch_first=batch_first, nonlinearity="relu",
    )  # fmt: skip


@pytest.mark.parametrize("shape", SMALL_SHAPES, ids=SMALL_SHAPE_IDS)
def test_module_without_bias_or_state(isa, shape):
    check_module("rnn", shape, bias=False, state=False, num_layers=2)


MODELS = [(20, 2, 1, 300), (9, 1, 512, 512)]


@pytest.mark.parametrize(
    "shape", MODELS, ids=[shape_id(T=t, B=b, I=i, H=h) for t, b, i, h in MODELS]
)
def test_models(isa, threads, shape):
    check_module("rnn", shape)


def test_nonlinearity_is_the_fourth_argument():
    """torch's order, which differs from LSTM's and GRU's there."""
    module = treadle.RNN(3, 4, 1, "relu", False)
    assert "bias_ih_l0" not in module.state_dict()
    y, _ = module(samples.normal(0, 5, 2, 3))
    assert y.min() == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_a_bad_row_stays_alone(isa, value, nonlinearity):
    """Infinity and NaN follow the formula; no other row sees them."""
    weights, _ = samples.layer("rnn", 5, 19)
    x = samples.normal(3, 3, 18, 5)
    clean, _ = treadle.functional.rnn(x, *weights, nonlinearity=nonlinearity)
    x[2, 7, 1] = value
    y, h = treadle.functional.rnn(x, *weights, nonlinearity=nonlinearity)
    others = np.arange(18) != 7
    np.testing.assert_array_equal(y[:, others], clean[:, others])
    with np.errstate(invalid="ignore"):
        assert_sequence((y, h), reference.rnn, x, *weights, nonlinearity=nonlinearity)

"""LSTM: functional form and module against the reference, on every ISA."""

import numpy as np
import pytest

import treadle
from reference import recurrent as reference
from support import samples
from support.checks import check_functional, check_module
from support.sizes import SHAPE_IDS, SHAPES, SMALL_SHAPE_IDS, SMALL_SHAPES, shape_id
from support.tolerance import assert_sequence

OPTIONS = {
    "default": {},
    "relu": {"activation": "relu"},
    "linear": {"activation": None},
    "sigmoid": {"activation": "sigmoid"},
    "softsign": {"activation": "softsign"},
    "softplus": {"activation": "softplus"},
    "elu": {"activation": ("elu", 0.7)},
    "leaky_relu": {"activation": ("leaky_relu", 0.2)},
    "thresholded_relu": {"activation": ("thresholded_relu", 0.3)},
    "scaled_tanh": {"activation": ("scaled_tanh", 1.7, 0.6)},
    "affine": {"activation": ("affine", 0.5, 0.1)},
    "keras-hard": {"recurrent_activation": "hard_sigmoid"},
    "onnx-hard": {"recurrent_activation": ("hard_sigmoid", 0.2, 0.5)},
    "output": {"output_activation": "softsign"},
    "three": {
        "activation": "relu",
        "recurrent_activation": "tanh",
        "output_activation": "sigmoid",
    },
    "clip": {"clip": 0.4},
    "input_forget": {"input_forget": True},
    "reverse": {"reverse": True},
}


@pytest.mark.parametrize("shape", SHAPES, ids=SHAPE_IDS)
def test_shapes(isa, shape):
    check_functional("lstm", shape)


@pytest.mark.parametrize("shape", SMALL_SHAPES, ids=SMALL_SHAPE_IDS)
def test_without_bias_or_state(isa, shape):
    check_functional("lstm", shape, bias=False, state=False)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("shape", SMALL_SHAPES[:2], ids=SMALL_SHAPE_IDS[:2])
def test_options(isa, shape, options):
    check_functional("lstm", shape, **options)


@pytest.mark.parametrize("clip", [None, 0.4], ids=["", "clip"])
@pytest.mark.parametrize("input_forget", [False, True], ids=["", "forget"])
@pytest.mark.parametrize("shape", SMALL_SHAPES, ids=SMALL_SHAPE_IDS)
def test_peepholes(isa, shape, input_forget, clip):
    peepholes = samples.normal(8, 3 * shape[-1])
    check_functional("lstm", shape, peepholes=peepholes, input_forget=input_forget, clip=clip)


@pytest.mark.parametrize("proj_size", [1, 3, 16, 30])
def test_projection(isa, proj_size):
    shape = (5, 6, 9, 33)
    check_functional("lstm", shape, proj_size=proj_size)
    check_functional("lstm", shape, proj_size=proj_size, reverse=True, bias=False)


def test_projection_with_peepholes(isa):
    check_functional("lstm", (5, 6, 9, 20), proj_size=7, peepholes=samples.normal(8, 60))


@pytest.mark.parametrize("batch_first", [False, True], ids=["TB", "BT"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["D1", "D2"])
@pytest.mark.parametrize("num_layers", [1, 2, 3], ids=lambda n: f"L{n}")
@pytest.mark.parametrize("proj_size", [0, 5], ids=["", "P5"])
def test_module(isa, num_layers, bidirectional, batch_first, proj_size):
    check_module(
        "lstm", (6, 3, 5, 9), num_layers=num_layers, bidirectional=bidirectional,
        batch_first=batch_first, proj_size=proj_size,
    )  # fmt: skip


@pytest.mark.parametrize("shape", SMALL_SHAPES, ids=SMALL_SHAPE_IDS)
def test_module_without_bias_or_state(isa, shape):
    check_module("lstm", shape, bias=False, state=False, num_layers=2)


def test_module_activations(isa):
    check_module(
        "lstm", (6, 3, 5, 9), num_layers=2, bidirectional=True,
        activation="softsign", recurrent_activation="hard_sigmoid",
    )  # fmt: skip


# Shapes of models in production: silero-vad, DTLN, Resemblyzer, oneDNN issue 837.
MODELS = [(1, 1, 128, 128), (1, 1, 257, 128), (20, 4, 40, 256), (63, 1, 24, 32)]


@pytest.mark.parametrize(
    "shape", MODELS, ids=[shape_id(T=t, B=b, I=i, H=h) for t, b, i, h in MODELS]
)
def test_models(isa, threads, shape):
    check_module("lstm", shape)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_bad_row_stays_alone(isa, value):
    """NaN and infinity follow the formula inside their row and touch no other row, bit for bit."""
    weights, _ = samples.layer("lstm", 5, 19)
    x = samples.normal(3, 6, 18, 5)
    clean, (h_clean, c_clean) = treadle.functional.lstm(x, *weights)
    x[2, 7, 1] = value
    y, (h, c) = treadle.functional.lstm(x, *weights)
    others = np.arange(18) != 7
    np.testing.assert_array_equal(y[:, others], clean[:, others])
    np.testing.assert_array_equal(h[others], h_clean[others])
    np.testing.assert_array_equal(c[others], c_clean[others])
    np.testing.assert_array_equal(y[:2, 7], clean[:2, 7])
    with np.errstate(invalid="ignore"):
        assert_sequence((y, (h, c)), reference.lstm, x, *weights)

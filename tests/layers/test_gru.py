"""GRU, both candidates: functional form and module against the reference, on every ISA."""

import numpy as np
import pytest

import treadle
from reference import recurrent as reference
from support import samples
from support.checks import check_functional, check_module
from support.sizes import SHAPE_IDS, SHAPES, SMALL_SHAPE_IDS, SMALL_SHAPES, shape_id
from support.tolerance import assert_sequence

OPTIONS = {
    "relu": {"activation": "relu"},
    "linear": {"activation": None},
    "softsign": {"activation": "softsign"},
    "elu": {"activation": ("elu", 0.7)},
    "scaled_tanh": {"activation": ("scaled_tanh", 1.7, 0.6)},
    "keras-hard": {"recurrent_activation": "hard_sigmoid"},
    "onnx-hard": {"recurrent_activation": ("hard_sigmoid", 0.2, 0.5)},
    "both": {"activation": "softplus", "recurrent_activation": ("affine", 0.3, 0.4)},
    "clip": {"clip": 0.4},
    "reverse": {"reverse": True},
}

both_candidates = pytest.mark.parametrize("reset_after", [True, False], ids=["after", "before"])


@both_candidates
@pytest.mark.parametrize("shape", SHAPES, ids=SHAPE_IDS)
def test_shapes(isa, shape, reset_after):
    check_functional("gru", shape, reset_after=reset_after)


@both_candidates
@pytest.mark.parametrize("shape", SMALL_SHAPES, ids=SMALL_SHAPE_IDS)
def test_without_bias_or_state(isa, shape, reset_after):
    check_functional("gru", shape, bias=False, state=False, reset_after=reset_after)


@both_candidates
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("shape", SMALL_SHAPES[:2], ids=SMALL_SHAPE_IDS[:2])
def test_options(isa, shape, options, reset_after):
    check_functional("gru", shape, reset_after=reset_after, **options)


@both_candidates
@pytest.mark.parametrize("batch_first", [False, True], ids=["TB", "BT"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["D1", "D2"])
@pytest.mark.parametrize("num_layers", [1, 2, 3], ids=lambda n: f"L{n}")
def test_module(isa, num_layers, bidirectional, batch_first, reset_after):
    check_module(
        "gru", (6, 3, 5, 9), num_layers=num_layers, bidirectional=bidirectional,
        batch_first=batch_first, reset_after=reset_after,
    )  # fmt: skip


@both_candidates
@pytest.mark.parametrize("shape", SMALL_SHAPES, ids=SMALL_SHAPE_IDS)
def test_module_without_bias_or_state(isa, shape, reset_after):
    check_module("gru", shape, bias=False, state=False, num_layers=2, reset_after=reset_after)


@both_candidates
def test_module_activations(isa, reset_after):
    check_module(
        "gru", (6, 3, 5, 9), num_layers=2, bidirectional=True, reset_after=reset_after,
        activation="softsign", recurrent_activation="hard_sigmoid",
    )  # fmt: skip


# Shapes of models in production: rnnoise's stack, FARGAN, a voice encoder (pytorch issue 123148).
MODELS = [(1, 1, 256, 256), (1, 1, 272, 160), (20, 1, 384, 256)]


@pytest.mark.parametrize(
    "shape", MODELS, ids=[shape_id(T=t, B=b, I=i, H=h) for t, b, i, h in MODELS]
)
def test_models(isa, threads, shape):
    check_module("gru", shape)


@both_candidates
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_bad_row_stays_alone(isa, value, reset_after):
    weights, _ = samples.layer("gru", 5, 19)
    x = samples.normal(3, 6, 18, 5)
    clean, h_clean = treadle.functional.gru(x, *weights, reset_after=reset_after)
    x[2, 7, 1] = value
    y, h = treadle.functional.gru(x, *weights, reset_after=reset_after)
    others = np.arange(18) != 7
    np.testing.assert_array_equal(y[:, others], clean[:, others])
    np.testing.assert_array_equal(h[others], h_clean[others])
    np.testing.assert_array_equal(y[:2, 7], clean[:2, 7])
    with np.errstate(invalid="ignore"):
        assert_sequence((y, h), reference.gru, x, *weights, reset_after=reset_after)

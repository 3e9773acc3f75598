"""The public activations, softmax and log_softmax, against PyTorch and their definitions."""

import numpy as np
import pytest
import torch

import treadle
from reference import recurrent as reference
from support import samples
from support.tolerance import assert_same_bits
from treadle.layers import activation

F, TF = treadle.functional, torch.nn.functional

# Function, its arguments, and PyTorch's function of a tensor.
CASES = {
    "relu": ((), torch.relu),
    "tanh": ((), torch.tanh),
    "sigmoid": ((), torch.sigmoid),
    "silu": ((), TF.silu),
    "gelu": ((), TF.gelu),
    "gelu tanh": (("tanh",), lambda x: TF.gelu(x, approximate="tanh")),
    "softplus": ((), TF.softplus),
    "softsign": ((), TF.softsign),
    "elu": ((), TF.elu),
    "elu 0.3": ((0.3,), lambda x: TF.elu(x, 0.3)),
    "leaky_relu": ((), TF.leaky_relu),
    "leaky_relu 0.2": ((0.2,), lambda x: TF.leaky_relu(x, 0.2)),
    "hard_sigmoid": ((), TF.hardsigmoid),
    "hard_sigmoid 0.2 0.5": ((0.2, 0.5), lambda x: (0.2 * x + 0.5).clamp(0, 1)),
    "hard_tanh": ((), TF.hardtanh),
    "hard_tanh 0 6": ((0, 6), TF.relu6),
    "thresholded_relu": ((0.5,), lambda x: torch.where(x > 0.5, x, 0.0)),
    "affine": ((2.0, 1.0), lambda x: 2 * x + 1),
    "hard_swish": ((), TF.hardswish),
    "relu6": ((), TF.relu6),
    "scaled_tanh": ((1.7, 0.6), lambda x: 1.7 * torch.tanh(0.6 * x)),
}


def test_every_activation_is_a_function():
    """Whoever adds an activation adds its function, unless it is one of another's forms."""
    named = {name.partition(" ")[0] for name in CASES}
    own = {"hard_tanh", "relu6"}  # of "clip", by the names that users know
    assert set(activation._PARAMETERS) - {"linear", "gelu_tanh", "clip"} | own == named
    assert set(activation._PARAMETERS) <= set(reference.ACTIVATIONS) | {"hard_sigmoid", "elu"}


@pytest.mark.parametrize("name", CASES)
def test_like_torch(isa, name):
    arguments, theirs = CASES[name]
    function = getattr(F, name.partition(" ")[0])
    for shape in ((), (1,), (37,), (3, 4, 5), (0, 3)):
        x = np.asarray(3 * samples.normal(1, *shape), np.float32)
        y = function(x, *arguments)
        assert y.dtype == np.float32
        assert y.shape == shape
        np.testing.assert_allclose(y, theirs(torch.from_numpy(x)).numpy(), rtol=2e-6, atol=2e-6)
    assert np.isnan(function(np.float32(np.nan), *arguments))


@pytest.mark.parametrize("name", CASES)
def test_wrong_inputs(name):
    function = getattr(F, name.partition(" ")[0])
    with pytest.raises(TypeError, match=rf"^treadle\.functional\.{function.__name__}: x has dtype"):
        function(np.zeros(3))


@pytest.mark.parametrize("value", [None, "1", np.nan, np.inf, True, [1.0]], ids=str)
@pytest.mark.parametrize(
    ("name", "argument"),
    [("elu", "alpha"), ("leaky_relu", "negative_slope"), ("hard_sigmoid", "beta"),
     ("hard_tanh", "max_val"), ("thresholded_relu", "alpha")],
)  # fmt: skip
def test_wrong_parameters(name, argument, value):
    with pytest.raises(
        (TypeError, ValueError), match=rf"^treadle\.functional\.{name}: {argument} "
    ):
        getattr(F, name)([1.0], **{argument: value})


def test_bounds_in_the_wrong_order():
    with pytest.raises(ValueError, match=r"^treadle\.functional\.hard_tanh: min_val is 2"):
        F.hard_tanh([1.0], 2, 1)


@pytest.mark.parametrize("n", [1, 2, 15, 16, 17, 33, 500])
def test_log_softmax(isa, threads, n):
    for scale in (1, 100):
        x = scale * samples.normal([n, scale], 5, n)
        exact = torch.log_softmax(torch.from_numpy(x).double(), -1).numpy()
        spread = x.max(-1, keepdims=True) - x
        bound = np.finfo(np.float32).eps / 2 * (3 * np.abs(exact) + spread + n + 16)
        y = F.log_softmax(x)
        assert (np.abs(y - exact) <= bound).all()
        assert_same_bits(F.log_softmax(x[2]), y[2])
    turned = F.log_softmax(np.ascontiguousarray(x.T), 0)
    assert_same_bits(turned, np.ascontiguousarray(y.T))


def test_log_softmax_of_special_values(isa):
    x = samples.normal(0, 5, 33)
    clean = F.log_softmax(x)
    x[1, 3], x[2] = np.nan, -np.inf
    x[3, 5] = np.inf
    y = F.log_softmax(x)
    assert np.isnan(y[[1, 3]]).all()
    assert (y[2] == -np.inf).all()
    assert_same_bits(y[[0, 4]], clean[[0, 4]])
    assert F.log_softmax(np.zeros((0, 3), np.float32)).shape == (0, 3)
    low = np.full((1, 4), -np.float32(3e38))
    np.testing.assert_allclose(F.log_softmax(low), np.log(0.25), rtol=1e-6)


@pytest.mark.parametrize("dim", [2, -3, 1.0, None, "0"])
def test_wrong_axes(dim):
    with pytest.raises((TypeError, ValueError), match=r"^treadle\.functional\.log_softmax: dim "):
        F.log_softmax(np.zeros((2, 3), np.float32), dim)

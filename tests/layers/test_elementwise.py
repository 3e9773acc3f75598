"""Layers without parameters: activations, softmax and shapes, against PyTorch's modules."""

import copy
import pickle

import numpy as np
import pytest
import torch

import treadle
from support import samples
from support.tolerance import assert_same_bits
from treadle.layers.elementwise import Elementwise
from treadle.layers.module import LAYERS

# These modules have PyTorch's names and arguments.
CALLS = {
    "ReLU": [{}],
    "Tanh": [{}],
    "Sigmoid": [{}],
    "GELU": [{}, {"approximate": "tanh"}],
    "SiLU": [{}],
    "Softplus": [{}],
    "Softsign": [{}],
    "ELU": [{}, {"alpha": 0.5}],
    "LeakyReLU": [{}, {"negative_slope": 0.25}],
    "Hardsigmoid": [{}],
    "Hardswish": [{}],
    "ReLU6": [{}],
    "Hardtanh": [{}, {"min_val": 0.0, "max_val": 6.0}],
    "Softmax": [{"dim": -1}, {"dim": 0}],
    "LogSoftmax": [{"dim": -1}, {"dim": 1}],
    "Identity": [{}],
    "MaxPool1d": [{"kernel_size": 3}, {"kernel_size": 2, "stride": 1, "padding": 1, "dilation": 2}],
    "MaxPool2d": [
        {"kernel_size": (3, 2), "ceil_mode": True},
        {"kernel_size": 2, "padding": (0, 1)},
    ],
    "AvgPool1d": [{"kernel_size": 3, "padding": 1, "count_include_pad": False}],
    "AvgPool2d": [{"kernel_size": 2}, {"kernel_size": (1, 3), "divisor_override": 7}],
    "AdaptiveAvgPool1d": [{"output_size": 4}],
    "AdaptiveAvgPool2d": [{"output_size": 1}, {"output_size": (None, 3)}],
    "AdaptiveMaxPool1d": [{"output_size": 4}],
    "AdaptiveMaxPool2d": [{"output_size": 1}, {"output_size": (None, 3)}],
    "Upsample": [
        {"size": 4},
        {"scale_factor": 2.5},
        {"scale_factor": (1.75,), "mode": "linear", "recompute_scale_factor": True},
        {"size": (9,), "mode": "linear", "align_corners": True},
        {"scale_factor": 2, "mode": "nearest-exact"},
        {"size": 3, "mode": "area"},
    ],
    "ZeroPad1d": [{"padding": 2}, {"padding": (0, 3)}, {"padding": (-2, 1)}],
    "ZeroPad2d": [{"padding": 1}, {"padding": (1, 2, 3, 0)}, {"padding": (-1, 0, 2, -3)}],
    "Flatten": [{}, {"start_dim": 0}, {"start_dim": -2, "end_dim": -1}, {"end_dim": 1}],
}
CASES = [(name, options) for name, calls in CALLS.items() for options in calls]
every = pytest.mark.parametrize(("name", "options"), CASES, ids=str)


def test_every_class_is_compared():
    """Transpose is torch.transpose, which is no module."""
    classes = {n for n, c in LAYERS.items() if issubclass(c, Elementwise)}
    assert classes == {*CALLS, "Transpose"}


@every
def test_like_torch(isa, name, options):
    ours, theirs = getattr(treadle, name)(**options), getattr(torch.nn, name)(**options)
    x = 3 * samples.normal(0, 3, 5, 7)
    y = ours(x)
    assert y.shape == tuple(theirs(torch.from_numpy(x)).shape)
    np.testing.assert_allclose(y, theirs(torch.from_numpy(x)).numpy(), rtol=2e-6, atol=2e-6)
    for other in (
        copy.copy(ours), copy.deepcopy(ours), pickle.loads(pickle.dumps(ours)),
        eval(repr(ours), vars(treadle)), ours.to("int8"),
    ):  # fmt: skip
        assert repr(other) == repr(ours)
        assert_same_bits(other(x), y)
    assert ours.state_dict() == {}
    assert ours.dtype == "float32"


@every
def test_wrong_inputs(name, options):
    module = getattr(treadle, name)(**options)
    for wrong in (np.zeros((2, 3)), None, "x"):
        with pytest.raises(TypeError, match=rf"^treadle\.{name}: x "):
            module(wrong)


def test_transpose():
    x = samples.normal(0, 2, 3, 4)
    for axes in ((1, 2), (-1, 0), (1, 1)):
        y = treadle.Transpose(*axes)(x)
        assert_same_bits(y, np.ascontiguousarray(np.swapaxes(x, *axes)))
    assert treadle.Flatten()(samples.normal(0, 3)[:, None]).shape == (3, 1)


@pytest.mark.parametrize(
    ("module", "x"),
    [(treadle.Softmax(2), [1.0]), (treadle.Softmax(), 1.0), (treadle.Transpose(0, 1), [1.0]),
     (treadle.Flatten(2), [[1.0]]), (treadle.Flatten(1, 0), [[1.0]]),
     (treadle.Transpose(0, 0), 1.0)],
    ids=repr,
)  # fmt: skip
def test_axes_that_x_does_not_have(module, x):
    with pytest.raises(ValueError, match=rf"^treadle\.{type(module).__name__}: "):
        module(np.asarray(x, np.float32))


@pytest.mark.parametrize(
    ("name", "options"),
    [("GELU", {"approximate": "erf"}), ("GELU", {"approximate": None}), ("ELU", {"alpha": "1"}),
     ("LeakyReLU", {"negative_slope": np.nan}), ("Hardtanh", {"min_val": 2.0}),
     ("Softmax", {"dim": None}), ("Softmax", {"dim": 64}), ("Flatten", {"start_dim": 1.0}),
     ("AdaptiveMaxPool1d", {"output_size": -1}), ("AdaptiveMaxPool2d", {"output_size": (1, 2, 3)}),
     ("Upsample", {"size": 0}), ("Upsample", {"size": (2, 3, 4)}), ("Upsample", {"size": 2.0}),
     ("Upsample", {"scale_factor": -1}), ("Upsample", {"scale_factor": "2"}),
     ("ZeroPad1d", {"padding": (1, 2, 3)}), ("ZeroPad1d", {"padding": "1"}),
     ("ZeroPad2d", {"padding": (1, 2)}), ("ZeroPad2d", {"padding": 1.0})],
)  # fmt: skip
def test_wrong_options(name, options):
    with pytest.raises((TypeError, ValueError), match=rf"^treadle\.{name}: {next(iter(options))}"):
        getattr(treadle, name)(**options)


@pytest.mark.parametrize(
    ("options", "match"),
    [({}, "one of size and scale_factor"), ({"size": 2, "scale_factor": 2}, "one of size and"),
     ({"size": 2, "mode": "bicubic"}, "mode is 'bicubic'"), ({"size": 2, "mode": []}, "mode is"),
     ({"size": 2, "align_corners": True}, "align_corners is given"),
     ({"size": 2, "align_corners": 1, "mode": "linear"}, "align_corners is 1"),
     ({"size": 2, "recompute_scale_factor": True}, "recompute_scale_factor is True")],
)  # fmt: skip
def test_wrong_interpolations(options, match):
    with pytest.raises((TypeError, ValueError), match=rf"^treadle\.Upsample: .*{match}"):
        treadle.Upsample(**options)


def test_images_of_other_sizes():
    """Upsample and ZeroPad2d on batches of images, and what has too many or too few axes."""
    x = samples.normal(0, 2, 3, 4, 5)
    for options in (
        {"size": (7, 3), "mode": "bilinear"},
        {"scale_factor": (2, 1.5), "mode": "bilinear", "align_corners": True},
        {"scale_factor": 2},
    ):
        ours, theirs = treadle.Upsample(**options), torch.nn.Upsample(**options)
        expected = theirs(torch.from_numpy(x)).numpy()
        np.testing.assert_allclose(ours(x), expected, rtol=2e-6, atol=2e-6)
        assert_same_bits(ours(x[1:]), ours(x)[1:])
    padded = treadle.ZeroPad2d((1, 2, 3, 4))(x)
    assert_same_bits(padded, np.pad(x, ((0, 0), (0, 0), (3, 4), (1, 2))))
    for module in (treadle.Upsample(2), treadle.ZeroPad2d(1), treadle.ZeroPad1d(1)):
        for wrong in (x[0, 0, 0], x[None]):
            with pytest.raises(ValueError, match=r"^treadle\.\w+: x has shape"):
                module(wrong)
    with pytest.raises(ValueError, match="scale_factor"):
        treadle.Upsample(scale_factor=(1, 2))(x[0])
    with pytest.raises(ValueError, match=r"^treadle\.ZeroPad2d: "):
        treadle.ZeroPad2d(-3)(x)

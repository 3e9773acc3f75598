"""Norms by channel against PyTorch in float64, within derived bounds, on every ISA."""

import numpy as np
import pytest
import torch

import treadle
from support import samples
from support.tolerance import assert_same_bits

F, TF = treadle.functional, torch.nn.functional
UNIT = np.finfo(np.float32).eps / 2

SHAPES = [(2, 6), (3, 6, 1), (1, 6, 5), (2, 12, 17), (2, 6, 9, 31), (1, 12, 2, 3, 4), (5, 6, 1200)]


def exact(function, *arguments, **options):
    doubled = [None if a is None else torch.from_numpy(a).double() for a in arguments]
    return function(*doubled, **options).numpy()


def assert_norm(y, x, groups, weight, bias, eps):
    """The errors of mean and deviation of n numbers, of which any is added at most n / 16 + 30
    times to others, reach y through a difference, a factor and a sum.
    """
    expected = exact(lambda v, w, b: TF.group_norm(v, groups, w, b, eps), x, weight, bias)
    numbers = x.reshape(len(x), groups, -1).astype(np.float64)
    n = numbers.shape[-1]
    scale = 1 / np.sqrt(numbers.var(-1, keepdims=True) + eps)
    terms = 8 + min(n, 30 + n / 1024)
    error = UNIT * terms * (np.abs(numbers).mean(-1, keepdims=True) + np.abs(numbers)) * scale
    relative = UNIT * terms * np.abs(numbers - numbers.mean(-1, keepdims=True)) * scale
    # An error of the mean enters the variance with its square only.
    bound = (error + relative).reshape(x.shape)
    per_channel = (1, -1, *(1,) * (x.ndim - 2))
    if weight is not None:
        bound = bound * np.abs(weight).reshape(per_channel)
    bound = bound + 2 * UNIT * np.abs(expected)
    if bias is not None:
        bound = bound + 2 * UNIT * np.abs(bias).reshape(per_channel)
    assert y.dtype == np.float32
    assert y.shape == x.shape
    assert (np.abs(y - expected) <= bound).all()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_group_norm(isa, threads, shape):
    x = 3 * samples.normal(0, *shape) + 1
    channels = shape[1]
    weight, bias = samples.normal(1, channels), samples.normal(2, channels)
    for groups in (1, 3, channels):
        if len(shape) == 2 and groups == channels:
            continue  # each number would be its own mean
        for factors in ((None, None), (weight, None), (weight, bias)):
            y = F.group_norm(x, groups, *factors, eps=1e-3)
            assert_norm(y, x, groups, *factors, 1e-3)
            assert_same_bits(F.group_norm(x[-1:], groups, *factors, eps=1e-3), y[-1:])
    module = treadle.GroupNorm(3, channels, eps=1e-3)
    module.load_state_dict({"weight": weight, "bias": bias})
    assert_same_bits(module(x), F.group_norm(x, 3, weight, bias, 1e-3))


def test_instance_norm(isa):
    x = samples.normal(0, 3, 5, 7, 9)
    weight, bias = samples.normal(1, 5), samples.normal(2, 5)
    y = F.instance_norm(x, weight=weight, bias=bias)
    assert_same_bits(y, F.group_norm(x, 5, weight, bias))
    theirs = TF.instance_norm(
        torch.from_numpy(x), weight=torch.from_numpy(weight), bias=torch.from_numpy(bias)
    )
    np.testing.assert_allclose(y, theirs.numpy(), atol=2e-6)
    mean, variance = samples.normal(3, 5), np.abs(samples.normal(4, 5)) + 1
    y = F.instance_norm(x, mean, variance, weight, bias, use_input_stats=False)
    assert_same_bits(y, F.batch_norm(x, mean, variance, weight, bias))
    assert_same_bits(F.instance_norm(x, mean, variance), F.instance_norm(x))


@pytest.mark.parametrize("shape", [(3, 5), (2, 5, 17), (2, 5, 4, 9), (1, 5, 0), (0, 5, 3)], ids=str)
def test_batch_norm(isa, threads, shape):
    x, mean = samples.normal(0, *shape), samples.normal(1, 5)
    variance, weight = np.abs(samples.normal(2, 5)) + np.float32(0.1), samples.normal(3, 5)
    bias = samples.normal(4, 5)
    for factors in ((None, None), (weight, None), (None, bias), (weight, bias)):
        y = F.batch_norm(x, mean, variance, *factors)
        expected = exact(
            lambda v, m, s, w, b: TF.batch_norm(v, m, s, w, b), x, mean, variance, *factors
        )
        per_channel = (1, 5, *(1,) * (len(shape) - 2))
        scale = (1 if factors[0] is None else factors[0]) / np.sqrt(variance.astype(float) + 1e-5)
        size = np.abs(scale).reshape(per_channel) * (
            np.abs(x) + np.abs(mean).reshape(per_channel)
        ) + np.abs(0 if factors[1] is None else bias.reshape(per_channel))
        assert y.shape == shape
        assert (np.abs(y - expected) <= 4 * UNIT * size).all()
        assert_same_bits(F.batch_norm(x[:1], mean, variance, *factors), y[:1])


def test_batch_norm_2d_is_torchs_module():
    theirs = torch.nn.BatchNorm2d(6)
    for _ in range(3):
        theirs(torch.randn(4, 6, 5, 7) * 2 + 1)
    theirs.eval()
    ours = treadle.from_torch(theirs)
    x = samples.normal(0, 3, 6, 5, 7)
    with torch.no_grad():
        np.testing.assert_allclose(ours(x), theirs(torch.from_numpy(x)).numpy(), atol=1e-5)
    for wrong in (x[0], x[:, :5], x[..., 0]):
        with pytest.raises(ValueError, match=r"^treadle\.BatchNorm2d: x has shape"):
            ours(wrong)


def test_special_values(isa):
    x = samples.normal(0, 2, 4, 33)
    clean = F.group_norm(x, 2)
    x[0, 1, 7] = np.nan
    y = F.group_norm(x, 2)
    assert np.isnan(y[0, :2]).all()
    assert_same_bits(y[0, 2:], clean[0, 2:])
    assert_same_bits(y[1], clean[1])
    constant = np.full((1, 2, 40), 7.5, np.float32)
    assert (F.group_norm(constant, 1) == 0).all()


def test_wrong_arguments():
    x, five = samples.normal(0, 2, 6, 3), samples.normal(1, 5)
    six = samples.normal(1, 6)
    wrong = {
        "x has shape": lambda: F.group_norm(six, 1),
        "num_groups": lambda: F.group_norm(x, 4),
        "weight has shape": lambda: F.group_norm(x, 3, five),
        "bias has shape": lambda: F.instance_norm(x, bias=five),
        "eps": lambda: F.group_norm(x, 3, eps=-1.0),
        "running_mean has shape": lambda: F.batch_norm(x, five, six),
        "training": lambda: F.batch_norm(x, six, six, training=True),
        "use_input_stats": lambda: F.instance_norm(x, use_input_stats=False),
        "running_var has dtype": lambda: F.batch_norm(x, six, six.astype(float)),
    }
    for message, call in wrong.items():
        with pytest.raises(
            (TypeError, ValueError), match=rf"^treadle\.functional\.\w+: .*{message}"
        ):
            call()
    for arguments in ((4, 6), (0, 6), (1.0, 6), (2, 6, -1.0)):
        with pytest.raises((TypeError, ValueError), match=r"^treadle\.GroupNorm: "):
            treadle.GroupNorm(*arguments)

"""InstanceNorm1d and InstanceNorm2d against group and batch norms, functions and PyTorch."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

import treadle
from support import samples
from support.tolerance import assert_same_bits

F = treadle.functional
SHAPES = {1: (3, 6, 37), 2: (3, 6, 9, 7)}
axes = pytest.mark.parametrize("axes", [1, 2])
OPTIONS = [
    {},
    {"affine": True},
    {"affine": True, "bias": False},
    {"affine": True, "track_running_stats": True},
    {"track_running_stats": True},
]


def trained(axes, **options):
    """Return PyTorch's module in inference, with parameters and statistics that change x."""
    bias = options.pop("bias", True)
    module = getattr(nn, f"InstanceNorm{axes}d")(6, 1e-3, **options)
    torch.manual_seed(0)
    for _ in range(3):
        module(3 * torch.randn(*SHAPES[axes]) + 1)
    for parameter in module.parameters():
        nn.init.uniform_(parameter, -1, 1)
    if not bias:
        module.bias = None
    return module.eval()


@axes
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_like_torchs(isa, threads, axes, options):
    """The bits are those of the functions, whose bounds are derived in test_norms.py."""
    theirs = trained(axes, **options)
    ours = treadle.from_torch(theirs)
    x = 3 * samples.normal(0, *SHAPES[axes]) + 1
    parts = [getattr(ours, n, None) for n in ("running_mean", "running_var", "weight")]
    bias = ours.bias if isinstance(ours.bias, np.ndarray) else None
    own = not options.get("track_running_stats", False)
    y = ours(x)
    assert_same_bits(y, F.instance_norm(x, *parts, bias, use_input_stats=own, eps=1e-3))
    with torch.no_grad():
        expected = theirs.double()(torch.from_numpy(x).double()).numpy()
    np.testing.assert_allclose(y, expected, rtol=3e-6, atol=3e-6)
    assert_same_bits(ours(x[1]), y[1])
    assert_same_bits(ours(x[1:2]), y[1:2])
    assert list(ours.state_dict()) == [n for n, _ in theirs.named_parameters()] + (
        [] if own else ["running_mean", "running_var"]
    )
    ours.load_state_dict(theirs.float().state_dict())


@axes
def test_it_is_a_group_for_each_channel(isa, axes):
    x = samples.normal(0, *SHAPES[axes])
    ours = getattr(treadle, f"InstanceNorm{axes}d")(6)
    assert_same_bits(ours(x), treadle.GroupNorm(6, 6, affine=False)(x))


@axes
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_files_and_copies(axes, options, tmp_path):
    module = treadle.from_torch(trained(axes, **options))
    treadle.save(module, tmp_path / "norm.safetensors")
    x = samples.normal(0, *SHAPES[axes])
    for other in (
        treadle.load(tmp_path / "norm.safetensors"), copy.copy(module), copy.deepcopy(module),
        pickle.loads(pickle.dumps(module)), module.to("int8"),
    ):  # fmt: skip
        assert repr(other) == repr(module)
        assert_same_bits(other(x), module(x))


@pytest.mark.parametrize(
    "module", [nn.BatchNorm1d(6), nn.BatchNorm2d(6), nn.GroupNorm(2, 6)], ids=repr
)
def test_other_norms_without_a_bias(module, tmp_path):
    """Newer versions of PyTorch have ``bias=False``, which leaves the module's bias None."""
    nn.init.uniform_(module.weight, -1, 1)
    before = repr(treadle.from_torch(module))
    module.bias = None
    ours = treadle.from_torch(module.eval())
    assert repr(ours) == before[:-1] + ", bias=False)"
    x = samples.normal(0, 2, 6, 5, 4)[..., : 1 if isinstance(module, nn.BatchNorm1d) else 4]
    x = x[..., 0] if isinstance(module, nn.BatchNorm1d) else x
    with torch.no_grad():
        expected = module(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(ours(x), expected, rtol=3e-6, atol=3e-6)
    treadle.save(ours, tmp_path / "norm.safetensors")
    assert_same_bits(treadle.load(tmp_path / "norm.safetensors")(x), ours(x))


def test_wrong_arguments_and_inputs():
    norm = treadle.InstanceNorm2d(3)
    x = samples.normal(0, 2, 3, 4, 5)
    for wrong in (x[:, :2], x[0, 0], x[None]):
        with pytest.raises(ValueError, match=r"^treadle\.InstanceNorm2d: x has shape"):
            norm(wrong)
    with pytest.raises(TypeError, match=r"^treadle\.InstanceNorm2d: x "):
        norm(x.astype(np.float64))
    for options in ({"eps": -1.0}, {"affine": 1}, {"dtype": "int8"}, {"num_features": 0}):
        with pytest.raises((TypeError, ValueError), match=rf"^treadle\.\w+: {next(iter(options))}"):
            treadle.InstanceNorm1d(**({"num_features": 3} | options))
    with pytest.raises(ValueError, match="num_batches_tracked"):
        norm.load_state_dict({"num_batches_tracked": 1})

"""Conv2d: a layer that packs a product once, against its function and PyTorch."""

import numpy as np
import pytest
import torch

import treadle
from support import samples
from support.tolerance import assert_same_bits

F = treadle.functional


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize(
    "options",
    [((3, 2), 1, 0, 1, 1), (3, (2, 1), 1, (1, 2), 2), (3, 1, "same", 1, 20), (1, 2, (0, 1), 1, 1)],
    ids=str,
)
def test_like_its_function(isa, dtype, options):
    module = treadle.Conv2d(20, 40, *options, activation="tanh", seed=0)
    x = samples.normal(1, 2, 20, 9, 8)
    rounded = module.to(dtype)
    taps = {"activation": "tanh", "dtype": dtype}
    expected = F.conv2d(x, module.weight, module.bias, *options[1:], **taps)
    assert_same_bits(rounded(x), expected)
    assert_same_bits(rounded(x[1]), expected[1])


@pytest.mark.parametrize("options", [{}, {"stride": (2, 1), "padding": (0, 2)}, {"groups": 4}])
def test_like_torchs(options):
    theirs = torch.nn.Conv2d(4, 8, (3, 2), dilation=(1, 2), **options)
    ours = treadle.from_torch(theirs)
    x = torch.randn(2, 4, 9, 11)
    with torch.no_grad():
        expected = theirs(x).numpy()
    np.testing.assert_allclose(ours(x), expected, atol=1e-5)
    last = x.contiguous(memory_format=torch.channels_last)
    assert_same_bits(np.ascontiguousarray(ours(last)), ours(x))
    assert ours(last).transpose(0, 2, 3, 1).flags.c_contiguous


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_files(dtype, tmp_path):
    module = treadle.Conv2d(20, 6, (3, 1), padding=(1, 0), dtype=dtype, seed=0)
    treadle.save(module, tmp_path / "conv.safetensors")
    loaded = treadle.load(tmp_path / "conv.safetensors")
    x = samples.normal(1, 2, 20, 5, 6)
    assert repr(loaded) == repr(module)
    assert_same_bits(loaded(x), module(x))
    again = treadle.Conv2d(20, 6, (3, 1), padding=(1, 0))
    again.load_state_dict(module.state_dict())
    assert_same_bits(again.weight, module.weight)


def test_an_activation_behind_it_is_its_own():
    x = samples.normal(1, 2, 3, 9, 8)
    module = treadle.Sequential(treadle.Conv2d(3, 8, 3, seed=0), treadle.ReLU6())
    assert_same_bits(module(x), F.relu6(module[0](x)))


def test_sizes_as_torchs_hold_them():
    assert repr(treadle.Conv2d(3, 4, (5, 5), (2, 1), (1, 1), [1, 2])) == (
        "Conv2d(3, 4, 5, stride=(2, 1), padding=1, dilation=(1, 2))"
    )


WRONG = [
    ((4, 4, 0), ValueError, "kernel_size"),
    ((4, 4, (3, 3, 3)), TypeError, "kernel_size"),
    ((4, 4, (3,)), TypeError, "kernel_size"),
    ((4, 4, (3, 0)), ValueError, "kernel_size"),
    ((4, 4, 3, (1, 0)), ValueError, "stride"),
    ((4, 4, 3, 1, (0, -1)), ValueError, "padding"),
    ((4, 4, 3, 1, "full"), ValueError, "padding"),
    ((4, 4, 3, (1, 2), "same"), ValueError, "padding"),
    ((4, 4, 3, 1, 0, (1, 1.0)), TypeError, "dilation"),
    ((4, 6, 3, 1, 0, 1, 4), ValueError, "out_channels"),
    ((6, 4, 3, 1, 0, 1, 4), ValueError, "in_channels"),
    ((4, 4, 3, 1, 0, 1, 1, True, "reflect"), ValueError, "padding_mode"),
    ((2**11, 1, 2**10), ValueError, "kernel_size"),
]


@pytest.mark.parametrize(("arguments", "error", "match"), WRONG, ids=str)
def test_wrong_arguments(arguments, error, match):
    with pytest.raises(error, match=rf"^treadle\.Conv2d: .*{match}"):
        treadle.Conv2d(*arguments)


def test_wrong_inputs():
    conv = treadle.Conv2d(3, 4, (3, 2), seed=0)
    x = samples.normal(0, 2, 3, 6, 6)
    for wrong in (x[:, :2], x[0, 0], x[None], x[:, :, :2], x[..., :1]):
        with pytest.raises(ValueError, match=r"^treadle\.Conv2d: x has shape"):
            conv(wrong)
    with pytest.raises(TypeError, match=r"^treadle\.Conv2d: x "):
        conv(x.astype(np.float64))
    assert conv(x[:0]).shape == (0, 4, 4, 5)

"""Images and sequences without a pixel, a channel or a batch, through every function of images.

CI runs these under the sanitizers: memory of no numbers may have no address, from which nothing is
to be counted.
"""

import itertools

import numpy as np
import pytest

import treadle
from support import samples
from support.tolerance import assert_same_bits

F = treadle.functional

# Images without a row, without a column and without both; the last are long enough to be read as
# planes once zeros are around them.
EMPTY = [(0, 3), (3, 0), (0, 0), (0, 150)]


def images(*shape, last=False):
    """Images of zeros [B, C, H, W], which lie in memory as they are or with their channels last."""
    x = np.zeros(shape, np.float32)
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2) if last else x


@pytest.mark.parametrize("last", [False, True], ids=["planes", "channels_last"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("shape", EMPTY, ids=str)
def test_convolutions_of_padding_are_their_bias(isa, shape, dtype, last):
    """A window that meets no pixel is f(bias): few channels and many, in groups or each alone."""
    cases = [(3, 5, 1), (40, 9, 1), (6, 4, 2), (8, 8, 8), (6, 12, 6)]
    options = [{"padding": (2, 4)}, {"padding": 5, "stride": 2}, {"padding": 7, "dilation": (2, 3)}]
    taps = [(3, 2), (3, 3), (2, 5), (1, 1)]
    for (channels, out, groups), around, kernel in itertools.product(cases, options, taps):
        x, bias = images(2, channels, *shape, last=last), samples.normal(0, out)
        weight = samples.normal(1, out, channels // groups, *kernel)
        y = F.conv2d(x, weight, bias, groups=groups, activation="relu", dtype=dtype, **around)
        assert y.size > 0
        wanted = np.maximum(bias, 0)[:, None, None]
        assert_same_bits(np.ascontiguousarray(y), np.broadcast_to(wanted, y.shape).copy())


def test_long_lines_of_padding_are_their_bias(isa):
    """Lines that are long enough for the product over planes, of images without a pixel."""
    weight, bias = samples.normal(1, 8, 4, 3, 3), samples.normal(0, 8)
    for shape, padding in (((0, 150), (2, 1)), ((5, 0), (1, 80)), ((0, 0), (2, 80))):
        for stride in (1, 2, 3):
            y = F.conv2d(images(2, 4, *shape), weight, bias, (1, stride), padding)
            assert y.shape[3] > 32
            assert_same_bits(y, np.broadcast_to(bias[:, None, None], y.shape).copy())


def test_sequences_without_a_step(isa):
    for groups in (1, 2, 4):
        weight, bias = samples.normal(1, 8, 4 // groups, 3), samples.normal(0, 8)
        y = F.conv1d(np.zeros((2, 4, 0), np.float32), weight, bias, padding=4, groups=groups)
        assert_same_bits(y, np.broadcast_to(bias[:, None], (2, 8, 6)).copy())


@pytest.mark.parametrize("last", [False, True], ids=["planes", "channels_last"])
def test_no_batch_and_no_channels_out(isa, last):
    for groups, out in ((1, 5), (2, 4), (6, 6), (6, 12), (1, 0), (6, 0)):
        for batch in (0, 2):
            x = images(batch, 6, 7, 40, last=last)
            y = F.conv2d(x, samples.normal(1, out, 6 // groups, 3, 3), groups=groups, padding=1)
            assert y.shape == (batch, out, 7, 40)
            assert not y.any()
            if out:
                weight = samples.normal(1, 6, out // groups, 3, 2)
                y = F.conv_transpose2d(x, weight, stride=(1, 3), padding=1, groups=groups)
                assert y.shape == (batch, out, 7, 117)
                assert not y.any()


@pytest.mark.parametrize("channels", [1, 3, 40])
def test_pools_of_padding(isa, channels):
    """The largest of no number is -inf, and an average without one is 0."""
    for shape in EMPTY[:3]:
        x = images(2, channels, *shape)
        options = {"kernel_size": 4, "padding": 2, "stride": 1}
        y = F.max_pool2d(x, **options)
        assert y.size > 0
        assert_same_bits(y, np.full(y.shape, -np.inf, np.float32))
        for pads in (False, True):
            average = F.avg_pool2d(x, count_include_pad=pads, **options)
            assert_same_bits(average, np.zeros(y.shape, np.float32))
    x = np.zeros((2, channels, 0), np.float32)
    assert_same_bits(F.avg_pool1d(x, 2, padding=1), np.zeros((2, channels, 1), np.float32))


def test_pools_into_nothing(isa):
    for leading in ((0, 3), (2, 0), (2, 3)):
        for sizes in ((0, 2), (2, 0), (0, 0)):
            for function in (F.adaptive_avg_pool2d, F.adaptive_max_pool2d):
                y = function(samples.normal(0, *leading, 5, 6), sizes)
                assert y.shape == (*leading, *sizes)


def test_norms_of_nothing(isa):
    """Every axis that may be empty, alone and with the others."""
    for batch, channels, *sizes in itertools.product((0, 2), (0, 4), (0, 3), (0, 5)):
        x = np.ones((batch, channels, *sizes), np.float32)
        if x.size:
            continue
        factors = np.ones(channels, np.float32)
        assert F.batch_norm(x, factors, factors, factors, factors).shape == x.shape
        if channels:
            assert F.group_norm(x, 2, factors, factors).shape == x.shape
            assert F.instance_norm(x).shape == x.shape
            assert F.layer_norm(x.swapaxes(1, 3), (channels,), factors).size == 0


def test_padding_of_nothing(isa):
    """Zeros around nothing are zeros, on every axis."""
    for shape in itertools.product((0, 2), (0, 3), (0, 4)):
        x = np.full(shape, 2, np.float32)
        for pad in ((1, 2), (0, 0, 1, 2), (0, 0, 0, 0, 2, 1), (1, 0, 2, 1, 0, 3)):
            y = F.pad(x, pad, value=3)
            around = np.reshape(pad, (-1, 2))[::-1]
            width = [(0, 0)] * (3 - len(around)) + around.tolist()
            assert_same_bits(y, np.pad(x, width, constant_values=3))
        for mode in ("replicate", "reflect", "circular"):
            if shape[2] > 1:
                assert F.pad(x, (1, 1), mode=mode).shape == (*shape[:2], 6)


def test_interpolation_of_nothing(isa):
    for leading in ((0, 3), (2, 0)):
        for mode in ("nearest", "nearest-exact", "bilinear", "area"):
            y = F.interpolate(samples.normal(0, *leading, 4, 5), (7, 3), mode=mode)
            assert y.shape == (*leading, 7, 3)

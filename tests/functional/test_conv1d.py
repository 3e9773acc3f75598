"""conv1d against its definition and PyTorch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import treadle
from support import samples
from support.tolerance import EPS, assert_product, assert_same_bits

conv1d = treadle.functional.conv1d


def check(x, weight, bias, stride=1, padding=0, dilation=1, groups=1):
    """Every output is a product of a window with the taps, within the bound of products."""
    y = conv1d(x, weight, bias, stride, padding, dilation, groups)
    taps = weight.shape[2]
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding)))
    steps = (x.shape[2] - dilation * (taps - 1) - 1) // stride + 1
    index = stride * np.arange(steps)[:, None] + dilation * np.arange(taps)
    width, out = weight.shape[1], len(weight) // groups
    assert y.shape == (len(x), len(weight), steps)
    for group in range(groups):
        own = slice(group * out, (group + 1) * out)
        windows = x[:, group * width : (group + 1) * width, index].transpose(0, 2, 1, 3)
        assert_product(
            y[:, own].transpose(0, 2, 1).reshape(-1, out),
            windows.reshape(-1, width * taps),
            weight[own].reshape(out, -1),
            None if bias is None else bias[own],
        )
    return y


@st.composite
def convolutions(draw):
    small = st.integers(1, 5)
    groups, taps, dilation = (
        draw(st.integers(1, 3)),
        draw(st.integers(1, 6)),
        draw(st.integers(1, 3)),
    )
    padding = draw(st.integers(0, 4))
    least = max(0, dilation * (taps - 1) + 1 - 2 * padding)
    time, batch = least + draw(st.integers(0, 20)), draw(st.integers(0, 3))
    width, out, seed = draw(small), draw(small), draw(st.integers(0, 99))
    x = samples.normal([seed, 1], batch, groups * width, time)
    weight = samples.normal([seed, 2], groups * out, width, taps)
    bias = samples.normal([seed, 3], groups * out) if draw(st.booleans()) else None
    return x, weight, bias, draw(st.integers(1, 4)), padding, dilation, groups


@settings(max_examples=150)
@given(convolutions())
def test_like_its_definition_and_torchs(call):
    x, weight, bias, *options = call
    y = check(*call)
    if x.shape[2]:
        tensors = [None if a is None else torch.from_numpy(a) for a in (x, weight, bias)]
        theirs = torch.nn.functional.conv1d(*tensors, *options).numpy()
        np.testing.assert_allclose(y, theirs, atol=1e-4)


def test_levels(isa, threads):
    check(samples.normal(0, 3, 20, 50), samples.normal(1, 40, 20, 3), samples.normal(2, 40), 2, 1)
    check(samples.normal(0, 2, 257, 30), samples.normal(1, 17, 257, 7), None)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("taps", [1, 2, 3, 4])
def test_named_padding(padding, taps):
    x, weight = samples.normal(0, 2, 3, 9), samples.normal(1, 4, 3, taps)
    for dilation in (1, 2):
        ours = conv1d(x, weight, None, 1, padding, dilation)
        theirs = torch.nn.functional.conv1d(
            *map(torch.from_numpy, (x, weight)), None, 1, padding, dilation
        )
        np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-5)


def test_without_batch():
    x, weight = samples.normal(0, 3, 9), samples.normal(1, 4, 3, 2)
    assert_same_bits(conv1d(x, weight), conv1d(x[None], weight)[0])


def test_a_sequence_does_not_see_its_batch(isa, threads):
    x, weight = samples.normal(0, 5, 6, 40), samples.normal(1, 20, 6, 5)
    whole = conv1d(x, weight, padding=2)
    assert_same_bits(conv1d(x[3:4], weight, padding=2), whole[3:4])
    assert_same_bits(conv1d(x[:, :, 10:20], weight), whole[:, :, 12:18])


def test_activation(isa):
    x, weight = samples.normal(0, 2, 3, 9), samples.normal(1, 4, 3, 2)
    plain = conv1d(x, weight)
    assert_same_bits(conv1d(x, weight, activation="relu"), np.maximum(plain, 0))
    assert_same_bits(conv1d(x, weight, activation="gelu"), treadle.functional.gelu(plain))


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_dtypes(isa, dtype):
    """The products of steps with their taps, group by group, in that dtype."""
    x, weight, bias = (
        samples.normal(0, 2, 260, 9),
        samples.normal(1, 6, 130, 3),
        samples.normal(2, 6),
    )
    y = conv1d(x, weight, bias, groups=2, dtype=dtype)
    assert not np.array_equal(y, conv1d(x, weight, bias, groups=2))
    for group in range(2):
        own = slice(3 * group, 3 * group + 3)
        exact, size = np.zeros((2, 7, 3)) + bias[own], np.abs(bias[own])
        for tap in range(3):
            steps = x[:, 130 * group : 130 * group + 130, tap : tap + 7].transpose(0, 2, 1)
            steps, own_tap = np.ascontiguousarray(steps), weight[own, :, tap]
            exact += treadle.functional.linear(steps, own_tap, dtype=dtype)
            size = size + np.abs(steps) @ np.abs(own_tap).T
        assert np.all(np.abs(y[:, own].transpose(0, 2, 1) - exact) <= 3 * EPS * size)


def test_int8_of_few_channels(isa):
    """A window is rounded as a whole, as a row of `linear` is."""
    x, weight = samples.normal(0, 2, 3, 9), samples.normal(1, 5, 3, 4)
    windows = np.lib.stride_tricks.sliding_window_view(x, 4, axis=2).transpose(0, 2, 3, 1)
    rows = np.ascontiguousarray(windows).reshape(2, 6, 12)
    taps = np.ascontiguousarray(weight.transpose(0, 2, 1)).reshape(5, 12)
    expected = treadle.functional.linear(rows, taps, dtype="int8")
    y = conv1d(x, weight, dtype="int8")
    assert_same_bits(np.ascontiguousarray(y.transpose(0, 2, 1)), expected)


WRONG = {
    "dtype": ["int4", None, 8, np.float64],
    "stride": [0, -1, 1.0, None, "1", True, 2**40],
    "dilation": [0, -1, 1.0, None, "1", True, 2**40],
    "groups": [0, -1, 1.0, None, True, 5],
    "padding": [-1, 1.0, None, "full", True, (1,), 2**40],
    "activation": ["nosuch", 5],
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_options(name):
    x, weight = samples.normal(0, 2, 3, 9), samples.normal(1, 4, 3, 2)
    for value in WRONG[name]:
        with pytest.raises(
            (ValueError, TypeError), match=rf"^treadle\.functional\.conv1d: .*{name}|the span"
        ):
            conv1d(x, weight, **{name: value})


def test_wrong_sizes():
    x, weight = samples.normal(0, 2, 3, 9), samples.normal(1, 4, 3, 2)
    for wrong in (x[:, :2], x[0, 0], x[None], x[:, :, :1]):
        with pytest.raises(ValueError, match=r"^treadle\.functional\.conv1d: x has shape"):
            conv1d(wrong, weight)
    for wrong in (weight[0], weight[:, :, :0], weight[:, :0]):
        with pytest.raises(ValueError, match=r"^treadle\.functional\.conv1d: (weight|x) has shape"):
            conv1d(x, wrong)
    with pytest.raises(ValueError, match=r"^treadle\.functional\.conv1d: padding "):
        conv1d(x, weight, padding="same", stride=2)
    with pytest.raises(ValueError, match=r"^treadle\.functional\.conv1d: weight .*groups = 3"):
        conv1d(x, weight[:, :1], groups=3)
    with pytest.raises((ValueError, MemoryError)):
        conv1d(x, weight, padding=2**31 - 1)


def test_no_channels_out():
    assert conv1d(np.zeros((2, 3, 5), np.float32), np.zeros((0, 3, 2), np.float32)).shape == (
        2,
        0,
        4,
    )

"""conv2d and the transposed convolutions against their definitions and PyTorch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import treadle
from support import samples
from support.tolerance import EPS, assert_product, assert_same_bits

F = treadle.functional


def windows_of(x, weight, stride, padding, dilation):
    """Every window of x [B, C, H, W] as [B, H', W', C, P, Q]."""
    x = np.pad(x, ((0, 0), (0, 0), *((n, n) for n in padding)))
    rows, columns = (
        s * np.arange((size - d * (taps - 1) - 1) // s + 1)[:, None] + d * np.arange(taps)
        for size, taps, s, d in zip(x.shape[2:], weight.shape[2:], stride, dilation, strict=True)
    )
    found = x[:, :, rows[:, None, :, None], columns[None, :, None, :]]  # B, C, H', W', P, Q
    return found.transpose(0, 2, 3, 1, 4, 5)


def check(x, weight, bias, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1):
    """Every output is a product of a window with the taps, within the bound of products."""
    y = F.conv2d(x, weight, bias, stride, padding, dilation, groups)
    windows = windows_of(x, weight, stride, padding, dilation)
    width, out = weight.shape[1], len(weight) // groups
    assert y.shape == (len(x), len(weight), *windows.shape[1:3])
    for group in range(groups):
        own = slice(group * out, (group + 1) * out)
        assert_product(
            y[:, own].transpose(0, 2, 3, 1).reshape(-1, out),
            windows[..., group * width : (group + 1) * width, :, :].reshape(-1, weight[0].size),
            weight[own].reshape(out, -1),
            None if bias is None else bias[own],
        )
    return y


def transposed(x, weight, bias, stride, padding, output_padding, groups, dilation):
    """The definition in float64: each input adds its product with every tap to an output."""
    (batch, channels, height, width), (_, out, *taps) = x.shape, weight.shape
    sizes = [
        (n - 1) * s + d * (j - 1) + 1 + extra
        for n, s, d, j, extra in zip(
            (height, width), stride, dilation, taps, output_padding, strict=True
        )
    ]
    y = np.zeros((batch, groups * out, *sizes))
    each = channels // groups
    for g in range(groups):
        own = slice(g * each, (g + 1) * each)
        for p in range(taps[0]):
            for q in range(taps[1]):
                rows = p * dilation[0] + stride[0] * np.arange(height)
                columns = q * dilation[1] + stride[1] * np.arange(width)
                product = np.einsum("bchw,cd->bdhw", x[:, own], weight[own, :, p, q])
                y[:, g * out : (g + 1) * out, rows[:, None], columns] += product
    y = y[:, :, padding[0] : sizes[0] - padding[0], padding[1] : sizes[1] - padding[1]]
    return y if bias is None else y + bias[:, None, None]


def check_transposed(x, weight, bias, *options):
    y = F.conv_transpose2d(x, weight, bias, *options)
    doubles = [None if a is None else a.astype(np.float64) for a in (x, weight, bias)]
    exact = transposed(*doubles, *options)
    size = transposed(*[None if a is None else np.abs(a) for a in doubles], *options)
    assert y.shape == exact.shape
    assert y.dtype == np.float32
    # The bound of `assert_product`.
    assert np.all(np.abs(y - exact) <= min((weight[:, 0].size + 1) / 2, 3) * EPS * size)
    return y


small = st.integers(1, 4)
pairs = st.tuples(small, small)


@st.composite
def convolutions(draw):
    groups, width, out = draw(small), draw(st.sampled_from([1, 2, 5, 17])), draw(small)
    taps, dilation = draw(pairs), draw(pairs)
    padding = draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    size = [
        max(0, d * (j - 1) + 1 - 2 * p) + draw(st.integers(0, 6))
        for j, d, p in zip(taps, dilation, padding, strict=True)
    ]
    batch, seed = draw(st.integers(0, 3)), draw(st.integers(0, 99))
    x = samples.normal([seed, 1], batch, groups * width, *size)
    weight = samples.normal([seed, 2], groups * out, width, *taps)
    bias = samples.normal([seed, 3], groups * out) if draw(st.booleans()) else None
    return x, weight, bias, draw(pairs), padding, dilation, groups


@settings(max_examples=120)
@given(convolutions())
def test_like_its_definition_and_torchs(call):
    x, weight, bias, *options = call
    y = check(*call)
    if x.size:
        tensors = [None if a is None else torch.from_numpy(a) for a in (x, weight, bias)]
        theirs = torch.nn.functional.conv2d(*tensors, *options).numpy()
        np.testing.assert_allclose(y, theirs, atol=1e-4)


@pytest.mark.parametrize("channels", [3, 32, 130])
def test_levels(isa, threads, channels):
    """Few channels are read row by row of the taps, many pixel by pixel."""
    x, weight = samples.normal(0, 2, channels, 9, 11), samples.normal(1, 70, channels, 3, 3)
    check(x, weight, samples.normal(2, 70), padding=(1, 1))
    check(x, weight[:33], None, (2, 1), (0, 1), (2, 1))


@pytest.mark.parametrize("options", [{"padding": 1}, {"stride": 2, "groups": 2}])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_an_image_does_not_see_its_batch_nor_its_layout(isa, threads, dtype, options):
    x = samples.normal(0, 3, 40, 10, 7)
    weight = samples.normal(1, 70, 40 // options.get("groups", 1), 3, 3)
    whole = F.conv2d(x, weight, dtype=dtype, activation="relu", **options)
    alone = F.conv2d(x[1], weight, dtype=dtype, activation="relu", **options)
    assert_same_bits(alone, whole[1])
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    y = F.conv2d(last, weight, dtype=dtype, activation="relu", **options)
    assert y.transpose(0, 2, 3, 1).flags.c_contiguous
    assert_same_bits(np.ascontiguousarray(y), whole)
    part = F.conv2d(x[:, :, ::2, :5], weight, dtype=dtype, **options)
    assert_same_bits(
        part, F.conv2d(np.ascontiguousarray(x[:, :, ::2, :5]), weight, dtype=dtype, **options)
    )


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize(
    ("channels", "taps", "options"),
    [
        (1, (3, 3), {"padding": 1}),
        (3, (7, 7), {"padding": 3, "stride": 2}),
        (2, (2, 3), {"dilation": 2, "stride": (3, 1)}),
        (4, (3, 2), {"padding": (2, 1), "stride": 3, "groups": 2}),
        (33, (1, 1), {}),
        (5, (1, 1), {"stride": 2, "padding": (1, 0)}),
    ],
)
def test_long_rows_are_read_as_planes(isa, threads, channels, taps, options, activation):
    """Rows that fill vectors, with few terms, take part in products as they lie; the results have
    the bits of the other layout, whatever the strides of x.
    """
    options = {"activation": activation, **options}
    x = samples.normal(0, 2, channels, 12, 390)
    weight = samples.normal(1, 70, channels // options.get("groups", 1), *taps)
    bias = samples.normal(2, 70)
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    wanted = np.ascontiguousarray(F.conv2d(last, weight, bias, **options))
    y = F.conv2d(x, weight, bias, **options)
    assert_same_bits(y, wanted)
    assert_same_bits(F.conv2d(x[1], weight, bias, **options), y[1])
    wide = samples.normal(3, 3, 2 * channels, 25, 400)
    wide[::2, ::2, 24:0:-2, 7:397] = x
    assert_same_bits(F.conv2d(wide[::2, ::2, 24:0:-2, 7:397], weight, bias, **options), y)


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
@pytest.mark.parametrize("channels", [4, 40])
def test_dtypes(isa, dtype, channels):
    """In int8 a pixel has scales of its own, and so has a tap; with few channels, a window has."""
    x, weight = samples.normal(0, 2, channels, 6, 5), samples.normal(1, 20, channels, 3, 2)
    bias = samples.normal(2, 20)
    y = F.conv2d(x, weight, bias, padding=(1, 0), dtype=dtype)
    windows = windows_of(x, weight, (1, 1), (1, 0), (1, 1))
    exact, size = np.zeros((2, *y.shape[2:], 20)) + bias, np.abs(bias)
    by_window = [(windows.transpose(0, 1, 2, 4, 5, 3), weight.transpose(0, 2, 3, 1))]
    by_pixel = [
        (windows[..., p, q], weight[:, :, p, q]) for p in range(3) for q in range(2)
    ]  # fmt: skip
    for rows, taps in by_pixel if channels == 40 else by_window:
        rows = np.ascontiguousarray(rows).reshape(*windows.shape[:3], -1)
        taps = np.ascontiguousarray(taps).reshape(20, -1)
        exact += F.linear(rows, taps, dtype=dtype)
        size = size + np.abs(rows) @ np.abs(taps).T
    assert np.all(np.abs(y.transpose(0, 2, 3, 1) - exact) <= 3 * EPS * size)
    assert not np.array_equal(y, F.conv2d(x, weight, bias, padding=(1, 0)))


@st.composite
def transposes(draw):
    groups, width, out = draw(small), draw(small), draw(small)
    taps, stride, dilation = draw(pairs), draw(pairs), draw(pairs)
    extra = tuple(
        draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True)
    )
    size = draw(pairs)
    most = [
        ((n - 1) * s + d * (j - 1) + e) // 2
        for n, s, d, j, e in zip(size, stride, dilation, taps, extra, strict=True)
    ]
    padding = tuple(draw(st.integers(0, min(n, 3))) for n in most)
    batch, seed = draw(st.integers(0, 2)), draw(st.integers(0, 99))
    x = samples.normal([seed, 1], batch, groups * width, *size)
    weight = samples.normal([seed, 2], groups * width, out, *taps)
    bias = samples.normal([seed, 3], groups * out) if draw(st.booleans()) else None
    return x, weight, bias, stride, padding, extra, groups, dilation


@settings(max_examples=120)
@given(transposes())
def test_transposed_like_its_definition_and_torchs(call):
    x, weight, bias, *options = call
    y = check_transposed(*call)
    if x.size:
        tensors = [None if a is None else torch.from_numpy(a) for a in (x, weight, bias)]
        theirs = torch.nn.functional.conv_transpose2d(*tensors, *options).numpy()
        np.testing.assert_allclose(y, theirs, atol=1e-4)


def test_transposed_levels(isa, threads):
    x, weight = samples.normal(0, 3, 20, 7, 9), samples.normal(1, 20, 70, 4, 3)
    options = (2, 2), (1, 1), (0, 1), 1, (1, 1)
    whole = check_transposed(x, weight, samples.normal(2, 70), *options)
    assert_same_bits(F.conv_transpose2d(x[1], weight, samples.normal(2, 70), *options), whole[1])
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    y = F.conv_transpose2d(last, weight, samples.normal(2, 70), *options)
    assert_same_bits(np.ascontiguousarray(y), whole)


def test_transposed_in_one_dimension(isa):
    x, weight, bias = samples.normal(0, 2, 6, 11), samples.normal(1, 6, 5, 4), samples.normal(2, 10)
    y = F.conv_transpose1d(x, weight, bias, 3, 1, 2, 2, 2, activation="tanh")
    flat = F.conv_transpose2d(
        x[:, :, None], weight[:, :, None], bias, (1, 3), (0, 1), (0, 2), 2, (1, 2)
    )
    assert_same_bits(y, F.tanh(flat[:, :, 0]))
    theirs = torch.nn.functional.conv_transpose1d(
        *map(torch.from_numpy, (x, weight, bias)), 3, 1, 2, 2, 2
    )
    np.testing.assert_allclose(y, np.tanh(theirs.numpy()), atol=1e-5)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_named_padding(padding):
    x, weight = samples.normal(0, 2, 3, 6, 9), samples.normal(1, 4, 3, 2, 3)
    for dilation in (1, (2, 3)):
        ours = F.conv2d(x, weight, None, 1, padding, dilation)
        theirs = torch.nn.functional.conv2d(
            *map(torch.from_numpy, (x, weight)), None, 1, padding, dilation
        )
        np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-5)


WRONG = {
    "dtype": ["int4", None, 8, np.float64],
    "stride": [0, -1, 1.0, None, "1", True, 2**40, (1,), (1, 2, 3), (1, 0), (1, 1.0)],
    "dilation": [0, -1, 1.0, None, "1", True, 2**40, (1,), (1, 2, 3), (0, 1)],
    "groups": [0, -1, 1.0, None, True, 5, (1, 1)],
    "padding": [-1, 1.0, None, "full", True, (1,), 2**40, (0, -1)],
    "output_padding": [-1, 1, 1.0, None, "same", (0, 1)],
    "activation": ["nosuch", 5],
}


@pytest.mark.parametrize(
    ("function", "name"),
    [("conv2d", name) for name in WRONG if name != "output_padding"]
    + [("conv_transpose2d", name) for name in WRONG],
)
def test_wrong_options(function, name):
    x, weight = samples.normal(0, 2, 4, 9, 9), samples.normal(1, 4, 4, 2, 2)
    for value in WRONG[name]:
        expected = rf"^treadle\.functional\.{function}: .*{name}|the span"
        with pytest.raises((ValueError, TypeError), match=expected):
            getattr(F, function)(x, weight, **{name: value})


def test_wrong_sizes():
    x, weight = samples.normal(0, 2, 3, 9, 8), samples.normal(1, 4, 3, 2, 2)
    for wrong in (x[:, :2], x[0, 0], x[None], x[:, :, :1], x[:, :, :, :1], x[:, :, :0]):
        with pytest.raises(ValueError, match=r"^treadle\.functional\.conv2d: x has shape"):
            F.conv2d(wrong, weight)
    for wrong in (weight[0], weight[:, :, :0], weight[:, :0]):
        with pytest.raises(ValueError, match=r"^treadle\.functional\.conv2d: (weight|x) has shape"):
            F.conv2d(x, wrong)
    with pytest.raises(ValueError, match=r"^treadle\.functional\.conv2d: padding "):
        F.conv2d(x, weight, padding="same", stride=(1, 2))
    with pytest.raises((ValueError, MemoryError)):
        F.conv2d(x, weight, padding=2**31 - 1)
    across = weight.transpose(1, 0, 2, 3)
    for wrong in (x[:, :2], x[0, 0], x[:, :, :0]):
        with pytest.raises(ValueError, match=r"^treadle\.functional\.conv_transpose2d: x has"):
            F.conv_transpose2d(wrong, across)
    with pytest.raises(ValueError, match=r"outputs, expected some"):
        F.conv_transpose2d(x, across, padding=9)
    for options in ({"stride": 2**31 - 1}, {"dilation": 2**31 - 1}):
        with pytest.raises((ValueError, MemoryError)):
            F.conv_transpose2d(x, across, **options)


def test_strides_beyond_the_taps():
    """Between the taps of a transposed convolution lies the bias."""
    x, weight = samples.normal(0, 1, 2, 2, 2), samples.normal(1, 2, 3, 1, 1)
    y = F.conv_transpose2d(x, weight, [1.0, 2.0, 3.0], stride=1000, activation="relu")
    assert y.shape == (1, 3, 1001, 1001)
    assert np.count_nonzero(y != np.array([1.0, 2.0, 3.0])[:, None, None]) <= 12


def test_no_channels_out():
    x = np.zeros((2, 3, 5, 4), np.float32)
    assert F.conv2d(x, np.zeros((0, 3, 2, 2), np.float32)).shape == (2, 0, 4, 3)

"""The transposed convolutions in bfloat16 and int8, against the definitions of the formats."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import treadle
from reference import formats as reference
from support import samples
from support.tolerance import EPS, assert_same_bits

F = treadle.functional
LOW = pytest.mark.parametrize("dtype", ["bfloat16", "int8"])


def product(x, w, dtype):
    """x [M, K] times the rows of w [N, K] in float64, and the sum of the terms' magnitudes."""
    if dtype == "bfloat16":
        x, w = (reference.bfloat16(a).astype(np.float64) for a in (x, w))
        return x @ w.T, np.abs(x) @ np.abs(w).T
    blocks = [slice(k, k + reference.BLOCK) for k in range(0, x.shape[1], reference.BLOCK)]
    terms = [reference.product_int8(x[:, own], w[:, own]) for own in blocks]
    return sum(terms), sum(np.abs(term) for term in terms)


def definition(x, weight, bias, stride, padding, extra, groups, dilation, dtype):
    """Each pixel's product with each tap, both rounded by themselves, is added to an output."""
    (batch, channels, height, width), (_, out, *taps) = x.shape, weight.shape
    sizes = [
        (n - 1) * s + d * (j - 1) + 1 + e
        for n, s, d, j, e in zip((height, width), stride, dilation, taps, extra, strict=True)
    ]
    y, size = np.zeros((2, batch, groups * out, *sizes))
    each = channels // groups
    for g, p, q in np.ndindex(groups, *taps):
        own = slice(g * each, (g + 1) * each)
        pixels = np.ascontiguousarray(x[:, own].transpose(0, 2, 3, 1)).reshape(-1, each)
        found = product(pixels, weight[own, :, p, q].T, dtype)
        rows = p * dilation[0] + stride[0] * np.arange(height)[:, None]
        columns = q * dilation[1] + stride[1] * np.arange(width)
        for target, part in zip((y, size), found, strict=True):
            part = part.reshape(batch, height, width, out).transpose(0, 3, 1, 2)
            target[:, g * out : (g + 1) * out, rows, columns] += part
    ends = [n - p for n, p in zip(sizes, padding, strict=True)]
    y, size = (a[:, :, padding[0] : ends[0], padding[1] : ends[1]] for a in (y, size))
    if bias is not None:
        y, size = (a + b[:, None, None] for a, b in ((y, bias), (size, np.abs(bias))))
    return y, size


def check(x, weight, bias, *options, dtype):
    y = F.conv_transpose2d(x, weight, bias, *options, dtype=dtype)
    exact, size = definition(x, weight, bias, *options, dtype)
    assert y.shape == exact.shape
    # In int8 there is a rounding for each block's scale and one for its sum; in bfloat16 the bound
    # is that of `assert_product`.
    taps, each = weight[0, 0].size, x.shape[1] // options[3]
    blocks = taps * -(-each // reference.BLOCK)
    factor = 1 + blocks if dtype == "int8" else min((taps * each + 1) / 2, 3)
    assert (np.abs(y - exact) <= factor * EPS * size + 1e-30).all()
    return y


@LOW
@pytest.mark.parametrize("channels", [3, 40, 300])
def test_levels(isa, threads, dtype, channels):
    """In int8 each pixel and each tap of an output has a scale, also where channels are few."""
    x, bias = samples.normal(0, 2, channels, 5, 8), samples.normal(2, 70)
    weight = samples.normal(1, channels, 70, 4, 3)
    options = (2, 2), (1, 1), (0, 1), 1, (1, 1)
    y = check(x, weight, bias, *options, dtype=dtype)
    assert not np.array_equal(y, F.conv_transpose2d(x, weight, bias, *options))
    check(x, weight[:, :9], None, (1, 3), (2, 0), (0, 1), 1, (2, 1), dtype=dtype)


small = st.integers(1, 3)
pairs = st.tuples(small, small)


@LOW
@settings(max_examples=60)
@given(data=st.data())
def test_like_the_definition(dtype, data):
    draw = data.draw
    groups, width, out = draw(small), draw(st.sampled_from([2, 4, 17])), draw(small)
    taps, stride, dilation, size = (draw(pairs) for _ in range(4))
    extra = tuple(
        draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True)
    )
    most = [
        ((n - 1) * s + d * (j - 1) + e) // 2
        for n, s, d, j, e in zip(size, stride, dilation, taps, extra, strict=True)
    ]
    padding = tuple(draw(st.integers(0, min(n, 3))) for n in most)
    batch, seed = draw(st.integers(0, 2)), draw(st.integers(0, 99))
    x = samples.normal([seed, 1], batch, groups * width, *size)
    weight = samples.normal([seed, 2], groups * width, out, *taps)
    bias = samples.normal([seed, 3], groups * out) if draw(st.booleans()) else None
    check(x, weight, bias, stride, padding, extra, groups, dilation, dtype=dtype)


@LOW
@pytest.mark.parametrize("channels", [4, 40])
@pytest.mark.parametrize("options", [{"padding": 1}, {"stride": 2, "groups": 2}, {"stride": 3}])
def test_an_image_does_not_see_its_batch_nor_its_layout(isa, threads, dtype, channels, options):
    options = {"dtype": dtype, "activation": "tanh", **options}
    x, bias = samples.normal(0, 3, channels, 10, 7), samples.normal(2, 70)
    weight = samples.normal(1, channels, 70 // options.get("groups", 1), 3, 3)
    whole = F.conv_transpose2d(x, weight, bias, **options)
    assert_same_bits(F.conv_transpose2d(x[1], weight, bias, **options), whole[1])
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    y = F.conv_transpose2d(last, weight, bias, **options)
    assert y.transpose(0, 2, 3, 1).flags.c_contiguous
    assert_same_bits(np.ascontiguousarray(y), whole)
    assert_same_bits(np.ascontiguousarray(F.conv_transpose2d(last[1], weight, bias, **options)),
                     whole[1])  # fmt: skip
    part = x[:, :, ::2, :5]
    assert_same_bits(
        F.conv_transpose2d(part, weight, bias, **options),
        F.conv_transpose2d(part.copy(), weight, bias, **options),
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("outputs", [1, 24])
def test_outputs_side_by_side_have_the_bits_of_single_ones(isa, dtype, outputs):
    """With as many taps as the stride, a pixel's outputs are made at once; not with one more."""
    x, bias = samples.normal(0, 2, 20, 5, 7), samples.normal(2, outputs)
    weight = samples.normal(1, 20, outputs, 4, 3)
    options = {"stride": (2, 3), "activation": "sigmoid", "dtype": dtype}
    single = F.conv_transpose2d(x, weight, bias, output_padding=1, **options)
    joined = F.conv_transpose2d(x, weight, bias, **options)
    assert_same_bits(np.ascontiguousarray(single[:, :, :-1, :-1]), joined)


@LOW
def test_the_number_of_threads_does_not_matter(isa, dtype):
    x, weight = samples.normal(0, 3, 40, 9, 20), samples.normal(1, 40, 70, 4, 3)
    found = []
    before = treadle.get_num_threads()
    try:
        for threads in (1, 2):
            treadle.set_num_threads(threads)
            found.append(F.conv_transpose2d(x, weight, stride=(2, 3), dtype=dtype))
    finally:
        treadle.set_num_threads(before)
    assert_same_bits(*found)


@LOW
def test_more_pixels_than_are_encoded_at_a_time(threads, dtype):
    """The parts of a batch are encoded one after another, for all the products that read them."""
    x, weight = samples.normal(0, 3, 512, 64, 40), samples.normal(1, 512, 2, 2, 2)
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    whole = F.conv_transpose2d(last, weight, stride=2, dtype=dtype)
    for image in range(3):
        alone = F.conv_transpose2d(last[image], weight, stride=2, dtype=dtype)
        assert_same_bits(np.ascontiguousarray(alone), np.ascontiguousarray(whole[image]))


@LOW
def test_in_one_dimension(isa, dtype):
    x, weight, bias = samples.normal(0, 2, 6, 11), samples.normal(1, 6, 5, 4), samples.normal(2, 10)
    y = F.conv_transpose1d(x, weight, bias, 3, 1, 2, 2, 2, activation="relu", dtype=dtype)
    flat = F.conv_transpose2d(
        x[:, :, None], weight[:, :, None], bias, (1, 3), (0, 1), (0, 2), 2, (1, 2), dtype=dtype
    )
    assert_same_bits(y, F.relu(flat[:, :, 0]))


@LOW
def test_depthwise_rounds_the_weight_alone(isa, dtype):
    """Where a channel has taps of its own there is no product."""
    x, weight = samples.normal(0, 2, 6, 5, 8), samples.normal(1, 6, 2, 3, 3)
    layer = treadle.ConvTranspose2d(6, 12, 3, 2, groups=6, bias=False)
    layer.load_state_dict({"weight": weight})
    rounded = layer.to(dtype).weight
    assert np.abs(rounded - weight).max() <= np.abs(weight).max() * 2.0**-8
    y = F.conv_transpose2d(x, weight, stride=2, groups=6, dtype=dtype)
    assert_same_bits(y, F.conv_transpose2d(x, rounded, stride=2, groups=6))


@LOW
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_reaches_the_outputs_of_its_pixel(isa, dtype, value):
    x, weight = samples.normal(0, 1, 20, 6, 9), samples.normal(1, 20, 5, 3, 2)
    clean = F.conv_transpose2d(x, weight, stride=2, dtype=dtype)
    x[0, 7, 2, 4] = value
    y = F.conv_transpose2d(x, weight, stride=2, dtype=dtype)
    touched = np.zeros(y.shape, bool)
    touched[:, :, 4:7, 8:10] = True
    assert not np.isfinite(y[touched]).any()
    assert_same_bits(y[~touched], clean[~touched])

"""Pools against their definition in PyTorch, in float64 within derived bounds, and bit for bit."""

import functools

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import treadle
from support import samples
from support.tolerance import assert_same_bits

F, TF = treadle.functional, torch.nn.functional
UNIT = np.finfo(np.float32).eps / 2


def theirs(function, x, *args, **options):
    return function(torch.from_numpy(x), *args, **options).numpy()


def assert_average(y, x, function, terms, *args, **options):
    """An average of so many terms, each with the rounding errors of its sum and of the division."""
    exact = theirs(function, x.astype(np.float64), *args, **options)
    magnitude = theirs(function, np.abs(x).astype(np.float64), *args, **options)
    assert y.shape == exact.shape
    assert (np.abs(y - exact) <= UNIT * (terms + 2) * magnitude).all()


@st.composite
def pools(draw, axes):
    kernel = [draw(st.integers(1, 5)) for _ in range(axes)]
    options = {"kernel_size": tuple(kernel), "ceil_mode": draw(st.booleans())}
    options["padding"] = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    if draw(st.booleans()):
        options["stride"] = tuple(draw(st.integers(1, 4)) for _ in kernel)
    sizes = [draw(st.integers(1, 17)) for _ in kernel]
    leading = draw(st.sampled_from([(1, 1), (2, 3), (1, 17), (5,), (2, 33)]))
    return samples.normal(draw(st.integers(0, 99)), *leading, *sizes), options


@settings(max_examples=120)
@given(st.data(), st.sampled_from([1, 2]))
def test_max_like_torch(data, axes):
    x, options = data.draw(pools(axes))
    options["dilation"] = data.draw(st.integers(1, 3))
    function = getattr(TF, f"max_pool{axes}d")
    ours = getattr(F, f"max_pool{axes}d")
    try:
        expected = theirs(function, x, **options)
    except RuntimeError:
        with pytest.raises(ValueError, match=rf"^treadle\.functional\.max_pool{axes}d: "):
            ours(x, **options)
        return
    assert_same_bits(ours(x, **options), expected)


@settings(max_examples=120)
@given(st.data(), st.sampled_from([1, 2]))
def test_averages_like_torch(data, axes):
    x, options = data.draw(pools(axes))
    options["count_include_pad"] = data.draw(st.booleans())
    if axes == 2 and data.draw(st.booleans()):
        options["divisor_override"] = data.draw(st.integers(1, 9))
    function = getattr(TF, f"avg_pool{axes}d")
    ours = getattr(F, f"avg_pool{axes}d")
    try:
        theirs(function, x, **options)
    except RuntimeError:
        with pytest.raises(ValueError, match=rf"^treadle\.functional\.avg_pool{axes}d: "):
            ours(x, **options)
        return
    assert_average(ours(x, **options), x, function, np.prod(options["kernel_size"]), **options)


@settings(max_examples=80)
@given(st.data(), st.sampled_from([1, 2]))
def test_adaptive_like_torch(data, axes):
    sizes = [data.draw(st.integers(1, 19)) for _ in range(axes)]
    leading = data.draw(st.sampled_from([(1, 1), (2, 3), (4,), (1, 20)]))
    wanted = tuple(data.draw(st.integers(1, 7)) for _ in sizes)
    x = samples.normal(0, *leading, *sizes)
    ours = getattr(F, f"adaptive_max_pool{axes}d")(x, wanted)
    assert_same_bits(ours, theirs(getattr(TF, f"adaptive_max_pool{axes}d"), x, wanted))
    y = getattr(F, f"adaptive_avg_pool{axes}d")(x, wanted)
    assert_average(y, x, getattr(TF, f"adaptive_avg_pool{axes}d"), np.prod(sizes), wanted)
    if axes == 2:
        kept = F.adaptive_avg_pool2d(x, (None, wanted[1]))
        assert_same_bits(kept, F.adaptive_avg_pool2d(x, (sizes[0], wanted[1])))
        assume(x.shape[-1] > 1)


@functools.cache
def images():
    return samples.normal(3, 3, 37, 20, 23)


CALLS = {
    "max": lambda x: F.max_pool2d(x, 3, 2, 1),
    "average": lambda x: F.avg_pool2d(x, 3, 2, 1),
    "adaptive": lambda x: F.adaptive_avg_pool2d(x, (7, 5)),
    "global": lambda x: F.adaptive_avg_pool2d(x, 1),
    "global max": lambda x: F.adaptive_max_pool2d(x, 1),
}


@pytest.mark.parametrize("name", CALLS)
def test_levels(isa, threads, name):
    """The bits of an image do not depend on the batch, and its averages are within the bounds."""
    x, call = images(), CALLS[name]
    y = call(x)
    assert_same_bits(call(x[1:2]), y[1:2])
    assert_same_bits(call(x[1]), y[1])
    if "max" in name:
        for_torch = {"max": (TF.max_pool2d, 3, 2, 1), "global max": (TF.adaptive_max_pool2d, 1)}
        function, *args = for_torch[name]
        assert_same_bits(y, theirs(function, x, *args))
    else:
        function, terms, *args = {
            "average": (TF.avg_pool2d, 9, 3, 2, 1),
            "adaptive": (TF.adaptive_avg_pool2d, 16, (7, 5)),
            "global": (TF.adaptive_avg_pool2d, 460, 1),
        }[name]
        assert_average(y, x, function, terms, *args)


@pytest.mark.parametrize("size", [1, 4, 15, 16, 17, 40])
def test_special_values(isa, size):
    """NaN is the largest number of its windows, wherever it stands; infinities stay."""
    x = samples.normal(0, 1, 2, size)
    for at in range(size):
        own = x.copy()
        own[0, 0, at] = np.nan
        for kernel in (1, 2, 3):
            if kernel <= size:
                expected = theirs(TF.max_pool1d, own, kernel, 1)
                np.testing.assert_array_equal(F.max_pool1d(own, kernel, 1), expected)
        assert np.isnan(F.adaptive_max_pool1d(own, 1)).ravel().tolist() == [True, False]
        assert np.isnan(F.adaptive_avg_pool1d(own, 1)).ravel().tolist() == [True, False]
    low = np.full((1, 2, size), -np.inf, np.float32)
    assert_same_bits(F.max_pool1d(low, 1), low)
    assert_same_bits(F.adaptive_max_pool1d(low, 1), low[:, :, :1])


def test_empty_batches_and_channels():
    for leading in ((0, 3), (2, 0)):
        x = np.zeros((*leading, 6, 6), np.float32)
        for name, call in CALLS.items():
            y = call(x)
            assert y.shape[:2] == leading, name
            assert y.size == 0
    assert F.adaptive_avg_pool1d(np.ones((1, 2, 3), np.float32), 0).shape == (1, 2, 0)


WRONG = {
    "kernel_size": [0, -1, 1.0, None, "2", True, (2, 2, 2), (), 2**40, (2, 0)],
    "stride": [0, -1, 1.5, "1", True, (1, 1, 1), 2**40],
    "padding": [-1, 2, 1.0, None, "same", True, 2**40],
    "dilation": [0, -1, 1.0, None, True, 2**40],
    "ceil_mode": [0, None, "yes"],
    "return_indices": [True, 1, None],
    "count_include_pad": [1, None],
    "divisor_override": [0, -1, 1.0, True, 2**40],
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("function", ["max_pool2d", "avg_pool2d"])
def test_wrong_options(function, name):
    call = getattr(F, function)
    takes = call.__code__.co_varnames[: call.__code__.co_argcount]
    if name not in takes:
        pytest.skip("the function has no such argument")
    for value in WRONG[name]:
        options = {"kernel_size": 3, name: value}
        with pytest.raises((TypeError, ValueError), match=rf"^treadle\.functional\.{function}: "):
            call(np.zeros((1, 2, 6, 6), np.float32), **options)


@pytest.mark.parametrize("value", [-1, 1.0, "1", True, (1, 1, 1), (1,), 2**40, [None, -1]], ids=str)
def test_wrong_output_sizes(value):
    message = r"^treadle\.functional\.adaptive_(avg|max)_pool2d: output_size "
    for function in (F.adaptive_avg_pool2d, F.adaptive_max_pool2d):
        with pytest.raises((TypeError, ValueError), match=message):
            function(np.zeros((1, 2, 6, 6), np.float32), value)


def test_wrong_inputs():
    for call in CALLS.values():
        for wrong in (np.zeros((2, 3)), np.zeros((1, 1, 4, 4))):
            with pytest.raises(TypeError, match=r"^treadle\.functional\.\w+: x has dtype"):
                call(wrong)
        for shape in ((3,), (4, 4), (1, 1, 1, 4, 4), (1, 2, 0, 4)):
            with pytest.raises(ValueError, match=r"^treadle\.functional\.\w+: x has"):
                call(np.zeros(shape, np.float32))

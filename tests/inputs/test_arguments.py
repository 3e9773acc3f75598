"""Every wrong argument is a ValueError or TypeError that names the function and the argument.

hypothesis draws the entry point, the argument and what is wrong with it. Right arguments in odd
layouts are in test_invariance.py; lengths, mask, resets and streams have their own files, and so
have configurations and the native module.
"""

import array
import re

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import treadle
from support import samples
from support.checks import MODULES
from support.entries import ENTRIES, INPUT, WRONG_DTYPES, B, H, T
from support.objects import OBJECTS
from support.tolerance import assert_same_bits

F32 = np.float32

# How the state is called in messages where the caller's argument holds several arrays.
ALSO_NAMED = {"state": ("h_0", "state"), "h": ("h", "h_0", "state"), "c": ("c", "c_0", "state")}
OPTIONAL = ("bias_ih", "bias_hh", "bias", "h_0", "c_0", "h", "c", "state", "weight_hr", "peepholes",
            "dy", "dh_n", "dc_n")  # fmt: skip


def assert_refused(name, arguments, culprit):
    function, _ = ENTRIES[name]
    before = {k: np.array(v) for k, v in arguments.items() if type(v) is np.ndarray}
    with pytest.raises((ValueError, TypeError)) as caught:
        function(**arguments)
    message = str(caught.value)
    assert message.startswith(name.partition(" with")[0] + ": "), message
    names = "|".join(ALSO_NAMED.get(culprit, (culprit,)))
    assert re.search(rf"\b({names})\b", message), f"no {culprit} in: {message}"
    assert len(message) < 600
    for key, value in before.items():
        np.testing.assert_array_equal(arguments[key], value)


@st.composite
def one_argument(draw):
    """Draw an entry point, its arguments, and the name of one of them."""
    name = draw(st.sampled_from(list(ENTRIES)))
    _, arguments = ENTRIES[name]
    return name, dict(arguments), draw(st.sampled_from(list(arguments)))


@settings(max_examples=300)
@given(one_argument(), st.sampled_from(WRONG_DTYPES))
def test_wrong_dtype(case, dtype):
    """Nothing is cast silently, and for numbers the message says how to cast."""
    name, arguments, culprit = case
    arguments[culprit] = np.zeros(arguments[culprit].shape, dtype)
    assert_refused(name, arguments, culprit)


def test_wrong_dtype_says_how_to_cast():
    module = treadle.GRU(INPUT, H)
    with pytest.raises(TypeError, match=r"float64.*float32.*x\.astype\(np\.float32\)"):
        module(np.zeros((T, B, INPUT)))
    with pytest.raises(TypeError, match=r"float64.*float32.*x\.to\(torch\.float32\)"):
        module(torch.zeros(T, B, INPUT, dtype=torch.float64))


@settings(max_examples=300)
@given(one_argument(), st.integers(0, 6))
def test_wrong_rank(case, rank):
    name, arguments, culprit = case
    value = arguments[culprit]
    right = {value.ndim, value.ndim - 1} if culprit in ("x", *OPTIONAL) else {value.ndim}
    assume(rank not in right)
    assume(name != "treadle.functional.linear" or culprit != "x" or rank == 0)  # any [..., K]
    arguments[culprit] = np.ones((2,) * rank, F32)
    assert_refused(name, arguments, culprit)


@settings(max_examples=400)
@given(one_argument(), st.integers(0, 2), st.sampled_from([-2, -1, 1, 2, 1000]))
def test_wrong_size(case, axis, change):
    name, arguments, culprit = case
    function, _ = ENTRIES[name]
    value = arguments[culprit]
    assume(axis < value.ndim)
    # Nothing else says how many steps there are, nor, without a state, how many rows.
    assume(culprit != "x" or axis != 0 or (value.ndim == 2 and "linear" not in name))
    assume(culprit != "x" or axis == value.ndim - 1 or {*arguments} & {"h", "h_0", "state"})
    # Convolutions take any number of pixels and taps; wrong channels of x are in their own tests.
    assume("conv" not in name.lower() or (culprit != "x" and axis < 2))
    shape = [n + change * (i == axis) for i, n in enumerate(value.shape)]
    arguments[culprit] = np.ones([max(n, 0) for n in shape], F32)
    with pytest.raises(ValueError, match=rf"^{re.escape(name.partition(' with')[0])}: "):
        function(**arguments)


@pytest.mark.parametrize("value", OBJECTS.values(), ids=OBJECTS)
@pytest.mark.parametrize("name", ENTRIES)
def test_wrong_objects(name, value):
    """Every argument is replaced by wrong objects in turn."""
    _, arguments = ENTRIES[name]
    for culprit in arguments:
        assert_refused(name, arguments | {culprit: value}, culprit)


@pytest.mark.parametrize("name", ENTRIES)
def test_none_where_an_array_is_needed(name):
    _, arguments = ENTRIES[name]
    for culprit in arguments:
        if culprit not in OPTIONAL:
            assert_refused(name, arguments | {culprit: None}, culprit)


def test_half_a_state():
    module, x = treadle.LSTM(INPUT, H), samples.normal(0, T, B, INPUT)
    h = np.zeros((1, B, H), F32)
    for state in ((h,), (h, h, h), [], h, "hc", 5, {"h": h, "c": h}):
        with pytest.raises((ValueError, TypeError), match=r"^treadle\.LSTM: (state|h_0|c_0)\b"):
            module(x, state)


LISTS = [
    samples.normal(0, T, B, INPUT).tolist(),
    tuple(map(tuple, samples.normal(0, T, INPUT).tolist())),
    [[0] * INPUT] * T,
    list(samples.normal(0, T, B, INPUT)),
    [[float("nan")] * INPUT],
]


@pytest.mark.parametrize("x", LISTS, ids=["floats", "tuples", "integers", "rows", "nan"])
def test_lists_of_numbers_are_arrays(x):
    """A list of Python's numbers is taken as an array, since they have no dtype to respect."""
    module = treadle.GRU(INPUT, H, seed=0)
    assert_same_bits(module(x), module(np.array(x, F32)))


def test_objects_with_a_buffer():
    module, values = treadle.GRU(INPUT, H, seed=0), samples.normal(0, T, INPUT)
    buffer = memoryview(array.array("f", values.ravel().tolist())).cast("B").cast("f", [T, INPUT])
    assert_same_bits(module(buffer), module(values))

    class Holder:
        def __array__(self, dtype=None, copy=None):
            return values

    class Sub(np.ndarray):
        pass

    assert_same_bits(module(Holder()), module(values))
    result = module(values.view(Sub))
    assert_same_bits(result, module(values))
    assert all(type(part) is np.ndarray for part in result)


# Sizes that no machine has: an error, at once, and nothing allocated first.


@pytest.mark.parametrize("time", [2**40, 2**53, 2**58], ids=lambda n: f"T2^{n.bit_length() - 1}")
@pytest.mark.parametrize("mode", samples.MODES)
def test_more_steps_than_memory(mode, time):
    """x is one row, repeated by a stride of zero; the output would be of petabytes, or wrap."""
    module = MODULES[mode](1, 256)
    x = np.broadcast_to(np.zeros((1, 1, 1), F32), (time, 1, 1))
    with pytest.raises((MemoryError, ValueError)):
        module(x)
    with pytest.raises((MemoryError, ValueError)):
        module.stream().run(x)


@pytest.mark.parametrize("batch", [2**45, 2**58], ids=lambda n: f"B2^{n.bit_length() - 1}")
@pytest.mark.parametrize("mode", samples.MODES)
def test_more_rows_than_memory(mode, batch):
    module = MODULES[mode](1, 4)
    for shape in ((1, batch, 1), (0, batch, 1)):
        x = np.broadcast_to(np.zeros((1, 1, 1), F32)[: shape[0]], shape)
        with pytest.raises((MemoryError, ValueError)):
            module(x)


def test_huge_linear():
    x, weight = np.zeros((1, 1), F32), np.zeros((2**16, 1), F32)
    for rows in (2**42, 2**58):
        with pytest.raises((MemoryError, ValueError)):
            treadle.functional.linear(np.broadcast_to(x, (rows, 1)), weight)

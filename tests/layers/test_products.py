"""Linear and Conv1d: layers that pack a product once, against their functions and PyTorch."""

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import treadle
from support import samples
from support.tolerance import assert_product, assert_same_bits

F = treadle.functional
DTYPES = ["float32", "bfloat16", "int8"]
MODULES = [
    treadle.Linear(5, 7, seed=0),
    treadle.Linear(300, 3, bias=False, activation=("elu", 0.3), dtype="int8", seed=0),
    treadle.Conv1d(6, 8, 3, 2, 1, 2, 2, False, dtype="bfloat16", seed=0),
    treadle.Conv1d(4, 9, 3, padding="same", activation="relu", seed=0),
    treadle.Conv1d(100, 5, 3, groups=1, dtype="int8", seed=0),
]
every_module = pytest.mark.parametrize("module", MODULES, ids=repr)


def sample(module, *leading):
    if isinstance(module, treadle.Linear):
        return samples.normal(0, *leading, module.in_features)
    return samples.normal(0, *leading, module.in_channels, 20)


# -- values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (1,), (7,), (2, 3), (2, 0), (3, 1, 5)], ids=str)
def test_linear(isa, threads, shape):
    module = treadle.Linear(37, 70, seed=0)
    x = samples.normal(1, *shape, 37)
    y = module(x)
    assert y.shape == (*shape, 70)
    assert_product(y.reshape(-1, 70), x.reshape(-1, 37), module.weight, module.bias)


@pytest.mark.parametrize("activation", [None, "gelu", ("leaky_relu", 0.2)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_linear_like_its_function(isa, dtype, activation):
    module = treadle.Linear(300, 20, activation=activation, seed=0)
    x = samples.normal(1, 4, 300)
    expected = F.linear(x, module.weight, module.bias, activation=activation, dtype=dtype)
    assert_same_bits(module.to(dtype)(x), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "options",
    [
        (3,),
        (3, 2, 1),
        (5, 1, "same"),
        (4, 3, 2, 2),
        (3, 1, 0, 1, 2),
        (1,),
        (3, 1, 2, 4, 10),
        (9, 20, 4),
    ],
    ids=str,
)
def test_conv1d_like_its_function(isa, dtype, options):
    """The function rounds the same weight, and adds in the same order."""
    module = treadle.Conv1d(10, 30, *options, activation="tanh", seed=0)
    x = samples.normal(1, 2, 10, 50)
    taps = options[1:]
    weight, bias = module.weight, module.bias
    expected = F.conv1d(x, weight, bias, *taps, activation="tanh", dtype=dtype)
    assert_same_bits(module.to(dtype)(x), expected)


@st.composite
def convolutions(draw):
    groups = draw(st.integers(1, 3))
    options = {
        "in_channels": groups * draw(st.integers(1, 9)),
        "out_channels": groups * draw(st.integers(1, 9)),
        "kernel_size": draw(st.integers(1, 7)),
        "stride": draw(st.integers(1, 9)),
        "padding": draw(st.integers(0, 5)),
        "dilation": draw(st.integers(1, 4)),
        "groups": groups,
        "bias": draw(st.booleans()),
    }
    span = options["dilation"] * (options["kernel_size"] - 1) + 1
    time = max(span - 2 * options["padding"], 0) + draw(st.integers(0, 40))
    return options, draw(st.integers(0, 4)), time


@settings(max_examples=150)
@given(convolutions())
def test_conv1d_like_torchs(case):
    options, batch, time = case
    theirs = torch.nn.Conv1d(**options)
    ours = treadle.Conv1d(**options)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(batch, options["in_channels"], time)
    if time == 0:  # PyTorch refuses it
        x = torch.randn(batch, options["in_channels"], 1)[:, :, :0]
        assert not np.isnan(ours(x)).any()
        return
    with torch.no_grad():
        np.testing.assert_allclose(ours(x), theirs(x).numpy(), atol=1e-4)
        if batch:
            np.testing.assert_allclose(ours(x[0]), theirs(x[0]).numpy(), atol=1e-4)


# -- the law of bits ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_do_not_see_their_batch(isa, threads, dtype):
    linear = treadle.Linear(300, 130, dtype=dtype, activation="gelu", seed=0)
    x = samples.normal(1, 70, 300)
    whole = linear(x)
    for row in (0, 33, 69):
        assert_same_bits(linear(x[row]), whole[row])
    assert_same_bits(linear(x[5:12]), whole[5:12])
    conv = treadle.Conv1d(20, 70, 3, 2, 1, activation="gelu", dtype=dtype, seed=0)
    x = samples.normal(1, 9, 20, 131)
    whole = conv(x)
    for row in (0, 4, 8):
        assert_same_bits(conv(x[row]), whole[row])
    # A part of the time: outputs 10..19 read the steps 19..39.
    assert_same_bits(conv(x[2:4, :, 20:])[:, :, 1:10], np.ascontiguousarray(whole[2:4, :, 11:20]))


def test_threads_do_not_change_bits():
    x = samples.normal(1, 16, 64, 300)
    results = []
    for threads in (1, 2):
        treadle.set_num_threads(threads)
        for dtype in DTYPES:
            conv = treadle.Conv1d(64, 70, 3, padding=1, dtype=dtype, seed=0)
            linear = treadle.Linear(64, 70, dtype=dtype, seed=0)
            results.append((conv(x), linear(np.ascontiguousarray(x.swapaxes(1, 2)))))
    assert_same_bits(results[:3], results[3:])


def test_layouts(isa):
    """x may lie in memory in any way, and only what it holds counts."""
    linear, conv = treadle.Linear(6, 5, seed=0), treadle.Conv1d(6, 5, 3, seed=0)
    for module, x in ((linear, samples.normal(0, 4, 6)), (conv, samples.normal(0, 4, 6, 9))):
        expected = module(x)
        for other in (
            np.asfortranarray(x), x.astype(">f4"), x.tolist(), torch.from_numpy(x),
            np.repeat(x, 2, axis=-1)[..., ::2], np.repeat(x, 3, axis=0)[::3], x[::-1][::-1],
        ):  # fmt: skip
            assert_same_bits(module(other), expected)


# -- copies and files -----------------------------------------------------------------------------


@every_module
def test_copies_and_files(tmp_path, module):
    path = tmp_path / "layer.safetensors"
    treadle.save(module, path)
    x = sample(module, 3)
    for other in (
        pickle.loads(pickle.dumps(module)), copy.copy(module), copy.deepcopy(module),
        treadle.load(path), eval(repr(module).replace(")", ", seed=0)", 1), vars(treadle))
        if "elu" not in repr(module) else module,
    ):  # fmt: skip
        assert repr(other) == repr(module)
        assert_same_bits(other(x), module(x))
        assert_same_bits(list(other.state_dict().values()), list(module.state_dict().values()))


def test_low_precision_in_files(tmp_path):
    """A convolution's int8 is stored as PyTorch's weight lies, with scales for each tap."""
    from safetensors.numpy import load_file

    conv = treadle.Conv1d(100, 4, 3, dtype="int8", seed=0)
    path = tmp_path / "conv.safetensors"
    treadle.save(conv, path)
    tensors = load_file(path)
    assert tensors["weight"].shape == (4, 100, 3)
    assert tensors["weight.scale"].shape == (4, 3)
    numbers = tensors["weight"].astype(np.float32) * tensors["weight.scale"][:, None]
    assert_same_bits(conv.weight, numbers)
    plain = treadle.Conv1d(100, 4, 3, seed=0)
    assert np.abs(plain.weight - numbers).max() <= np.abs(plain.weight).max() / 127


def test_from_one_dtype_to_another():
    conv = treadle.Conv1d(100, 4, 3, seed=0)
    for dtype in DTYPES:
        other = conv.to("int8").to(dtype)
        assert other.dtype == dtype
        assert_same_bits(other.to("float32").weight, other.weight)
    assert_same_bits(conv.to("bfloat16").to("bfloat16").weight, conv.to("bfloat16").weight)


# -- what is refused ------------------------------------------------------------------------------

WRONG = [
    (treadle.Linear, (0, 4), ValueError, "in_features"),
    (treadle.Linear, (4, 2.0), TypeError, "out_features"),
    (treadle.Linear, (4, 4, 1), TypeError, "bias"),
    (treadle.Linear, (2**31 - 1, 2**31 - 1), (ValueError, MemoryError), "sizes"),
    (treadle.Conv1d, (4, 4, 0), ValueError, "kernel_size"),
    (treadle.Conv1d, (4, 4, (3, 3)), TypeError, "kernel_size"),
    (treadle.Conv1d, (4, 4, 3, 0), ValueError, "stride"),
    (treadle.Conv1d, (4, 4, 3, 1, -1), ValueError, "padding"),
    (treadle.Conv1d, (4, 4, 3, 1, "full"), ValueError, "padding"),
    (treadle.Conv1d, (4, 4, 3, 2, "same"), ValueError, "padding"),
    (treadle.Conv1d, (4, 4, 3, 1, 0, 0), ValueError, "dilation"),
    (treadle.Conv1d, (4, 6, 3, 1, 0, 1, 4), ValueError, "out_channels"),
    (treadle.Conv1d, (6, 4, 3, 1, 0, 1, 4), ValueError, "in_channels"),
    (treadle.Conv1d, (4, 4, 3, 1, 0, 1, 1, True, "reflect"), ValueError, "padding_mode"),
    (treadle.Conv1d, (2**20, 1, 2**20), ValueError, "kernel_size"),
]


@pytest.mark.parametrize(("cls", "arguments", "error", "name"), WRONG)
def test_wrong_arguments(cls, arguments, error, name):
    with pytest.raises(error, match=rf"^treadle\.{cls.__name__}: .*{name}"):
        cls(*arguments)


@pytest.mark.parametrize(
    "option", [{"activation": "nosuch"}, {"dtype": "int4"}, {"seed": -1}], ids=str
)
@pytest.mark.parametrize("cls", [treadle.Linear, treadle.Conv1d])
def test_wrong_options(cls, option):
    with pytest.raises(ValueError, match=rf"^treadle\.{cls.__name__}: {next(iter(option))}"):
        cls(*(4, 4, 3)[: 2 + (cls is treadle.Conv1d)], **option)


def test_wrong_inputs():
    linear, conv = treadle.Linear(5, 4), treadle.Conv1d(5, 4, 3)
    x = samples.normal(0, 2, 5)
    for wrong in (x[:, :4], x[None, :, :4], samples.normal(0, 6), np.float32(1)):
        with pytest.raises(ValueError, match=r"^treadle\.Linear: x "):
            linear(wrong)
    for wrong in (x[0], x[None, None], samples.normal(0, 3, 4, 9), samples.normal(0, 5, 2)):
        with pytest.raises(ValueError, match=r"^treadle\.Conv1d: x "):
            conv(wrong)
    for module in (linear, conv):
        with pytest.raises(TypeError, match=r"x has dtype float64.*np\.float32"):
            module(x.astype(np.float64))
        with pytest.raises(TypeError, match=": x is None"):
            module(None)


def test_padding_that_no_memory_holds():
    conv = treadle.Conv1d(1, 1, 2, 2**31 - 1, 2**31 - 1, 2**31 - 1)
    assert conv(samples.normal(0, 1, 1, 5)).shape == (1, 1, 2)  # few windows of two steps each
    with pytest.raises((ValueError, MemoryError)):
        treadle.Conv1d(1, 1, 1, padding=2**31 - 1)(np.zeros((2**20, 1, 1), np.float32))
    x = np.broadcast_to(np.zeros((1, 1, 1), np.float32), (1, 1, 2**58))
    with pytest.raises((ValueError, MemoryError)):
        treadle.Conv1d(1, 4, 1)(x)


def test_single_sizes_may_be_tuples():
    """torch.nn.Conv1d keeps its sizes as tuples, and programs hand those on."""
    assert repr(treadle.Conv1d(3, 4, (5,), (2,), (1,), (3,))) == (
        "Conv1d(3, 4, 5, stride=2, padding=1, dilation=3)"
    )

"""ConvTranspose1d and ConvTranspose2d, which pack a product once, against functions and PyTorch."""

import copy
import pickle

import numpy as np
import pytest
import torch

import treadle
from support import samples
from support.tolerance import EPS, assert_same_bits

F = treadle.functional
DTYPES = ["float32", "bfloat16", "int8"]
OPTIONS = [
    {"kernel_size": 4, "stride": 2, "padding": 1},
    {"kernel_size": 2, "stride": 2},
    {"kernel_size": 3, "stride": 3, "output_padding": 1},
    {"kernel_size": 3, "stride": 3, "output_padding": 2, "groups": 2, "bias": False},
    {"kernel_size": 2, "stride": 3, "padding": 1, "dilation": 3},
    {"kernel_size": 1, "groups": 10},
    {"kernel_size": 3, "padding": 2, "output_padding": 1, "dilation": 2},
]
every = pytest.mark.parametrize("options", OPTIONS, ids=str)
axes = pytest.mark.parametrize("axes", [1, 2])


def classes(axes):
    name = f"ConvTranspose{axes}d"
    return getattr(treadle, name), getattr(torch.nn, name)


def image(axes, channels=20, batch=3):
    return samples.normal(1, batch, channels, *(7, 6)[:axes])


@axes
@every
@pytest.mark.parametrize("dtype", DTYPES)
def test_like_its_function(isa, threads, axes, options, dtype):
    plain = classes(axes)[0](20, 40, **options, activation="tanh", seed=0)
    module, x = plain.to(dtype), image(axes)
    function = getattr(F, f"conv_transpose{axes}d")
    others = {k: v for k, v in options.items() if k not in ("kernel_size", "bias")}
    bias = plain.bias if options.get("bias", True) else None
    expected = function(x, plain.weight, bias, **others, activation="tanh", dtype=dtype)
    assert_same_bits(module(x), expected)
    assert_same_bits(module(x[1]), expected[1])
    assert_same_bits(module(x[1:2]), expected[1:2])


@axes
@every
def test_like_torchs(isa, axes, options):
    """Each sum passes at most as many roundings as it has terms and a bias, of eps / 2 each."""
    _, cls = classes(axes)
    theirs = cls(20, 40, **options)
    ours = treadle.from_torch(theirs)
    x = image(axes)
    exact = theirs.double()
    with torch.no_grad():
        expected = exact(torch.from_numpy(x).double()).numpy()
        for parameter in exact.parameters():
            parameter.abs_()
        size = exact(torch.from_numpy(np.abs(x)).double()).numpy()
    y = ours(x)
    terms = 20 // theirs.groups * options["kernel_size"] ** axes
    assert y.dtype == np.float32
    assert y.shape == expected.shape
    assert (np.abs(y - expected) <= min((terms + 1) / 2, 3) * EPS * size).all()


@axes
@pytest.mark.parametrize("dtype", DTYPES)
def test_channels_last_are_read_as_they_lie(axes, dtype):
    module = classes(axes)[0](20, 6, 4, 2, 1, dtype=dtype, seed=0)
    x = image(axes)
    last = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    y = module(last)
    assert np.moveaxis(y, 1, -1).flags.c_contiguous
    assert_same_bits(np.ascontiguousarray(y), module(x))


@axes
@pytest.mark.parametrize("dtype", DTYPES)
def test_files_and_copies(axes, dtype, tmp_path):
    options = {"output_padding": 1, "groups": 2, "activation": "relu", "dtype": dtype}
    module = classes(axes)[0](20, 6, 3, 2, **options, seed=0)
    treadle.save(module, tmp_path / "conv.safetensors")
    x = image(axes)
    for other in (
        treadle.load(tmp_path / "conv.safetensors"), copy.copy(module), copy.deepcopy(module),
        pickle.loads(pickle.dumps(module)), module.to(dtype),
    ):  # fmt: skip
        assert repr(other) == repr(module)
        assert other.dtype == dtype
        assert_same_bits(other.weight, module.weight)
        assert_same_bits(other(x), module(x))
    again = eval(repr(module), vars(treadle))
    again.load_state_dict(module.state_dict())
    assert_same_bits(again(x), module(x))


@axes
@pytest.mark.parametrize("dtype", DTYPES)
def test_outputs_of_a_size(isa, axes, dtype):
    """The size that is asked for takes the place of output_padding."""
    x, cls = image(axes), classes(axes)[0]
    module = cls(20, 6, 4, 3, 2, 1, dtype=dtype, activation="relu", seed=0)
    least = [3 * (n - 1) for n in x.shape[2:]]
    for extra in range(3):
        size = [n + extra for n in least]
        other = cls(20, 6, 4, 3, 2, extra, dtype=dtype, activation="relu")
        other.load_state_dict(module.state_dict())
        expected = other(x)
        assert list(expected.shape[2:]) == size
        for asked in (size, tuple(size), (3, 6, *size), np.array(size).tolist(), torch.Size(size)):
            assert_same_bits(module(x, asked), expected)
        assert_same_bits(module(x, output_size=size), expected)
        assert_same_bits(module(x[1], output_size=(6, *size)), expected[1])
        last = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
        assert_same_bits(np.ascontiguousarray(module(last, size)), expected)
    assert_same_bits(module(x, None), module(x))


def test_outputs_of_a_size_like_torchs(isa):
    theirs = torch.nn.ConvTranspose2d(20, 10, (4, 3), (3, 2), (2, 0), (1, 0), groups=2)
    ours, x = treadle.from_torch(theirs), image(2)
    for size in ([18, 13], [19, 14], [20, 13]):
        with torch.no_grad():
            expected = theirs(torch.from_numpy(x), output_size=size).numpy()
        np.testing.assert_allclose(ours(x, output_size=size), expected, atol=1e-5)
    image_of_one = samples.normal(2, 1, 20, 1, 1)
    pixel = treadle.ConvTranspose2d(20, 4, 2, 3, 1, seed=0)  # whose own output would be nothing
    assert pixel(image_of_one, 2).shape == (1, 4, 2, 2)


@pytest.mark.parametrize(
    ("size", "error", "match"),
    [
        ((17, 13), ValueError, r"output_size is 17 for H, expected 18 to 20, since x has shape"),
        ((18, 15), ValueError, r"output_size is 15 for W, expected 13 to 14"),
        (18, ValueError, r"output_size is 18 for W"),
        ((18,), TypeError, r"output_size is .*expected an integer or 2 of them"),
        ((1, 18, 13), TypeError, r"output_size"),
        ((18, 0), ValueError, r"output_size is 0"),
        ((18, -13), ValueError, r"output_size is -13"),
        ((18, 13.0), TypeError, r"output_size is 13.0"),
        ((18, True), TypeError, r"output_size is True"),
        ("18", TypeError, r"output_size is '18'"),
        ((18, 2**63), ValueError, r"output_size"),
        ({}, TypeError, r"output_size"),
    ],
    ids=str,
)
def test_wrong_output_sizes(size, error, match):
    module, x = treadle.ConvTranspose2d(20, 4, (4, 3), (3, 2), (2, 0), seed=0), image(2)
    with pytest.raises(error, match=rf"^treadle\.ConvTranspose2d: {match}"):
        module(x, output_size=size)
    with pytest.raises(ValueError, match=r"^treadle\.ConvTranspose2d: x has shape"):
        module(x[:, :5], output_size=(18, 13))
    with pytest.raises(ValueError, match=r"^treadle\.ConvTranspose2d: output_size is "):
        module(x[:, :, :0], output_size=(18, 13))
    with pytest.raises(TypeError, match=r"^treadle\.ConvTranspose2d: x "):
        module(x.astype(np.float64), output_size=(18, 13))


def test_low_precision_in_files(tmp_path):
    """The int8 is stored as PyTorch's weight lies, with scales for each tap of an output."""
    from safetensors.numpy import load_file

    conv = treadle.ConvTranspose1d(600, 4, 3, groups=2, dtype="int8", seed=0)
    treadle.save(conv, tmp_path / "conv.safetensors")
    tensors = load_file(tmp_path / "conv.safetensors")
    assert tensors["weight"].shape == (600, 2, 3)
    scales = tensors["weight.scale"]
    assert scales.shape == (2, 2, 6)  # two blocks of the 300 channels of a group
    each = np.repeat(scales.reshape(2, 2, 3, 2), 256, axis=3)[..., :300]  # [g, D/g, J, C/g]
    numbers = tensors["weight"].astype(np.float32) * each.transpose(0, 3, 1, 2).reshape(600, 2, 3)
    assert_same_bits(conv.weight, numbers)
    plain = treadle.ConvTranspose1d(600, 4, 3, groups=2, seed=0)
    assert np.abs(plain.weight - numbers).max() <= np.abs(plain.weight).max() / 127
    conv = treadle.Sequential(conv)  # the names of whose parameters begin with "0."
    treadle.save(conv, tmp_path / "conv.safetensors")
    assert_same_bits(treadle.load(tmp_path / "conv.safetensors")[0].weight, numbers)


@pytest.mark.parametrize("groups", [1, 4])
def test_from_one_dtype_to_another(groups):
    conv = treadle.ConvTranspose2d(40, 8, (3, 2), groups=groups, seed=0)
    for dtype in DTYPES:
        other = conv.to("int8").to(dtype)
        assert other.dtype == dtype
        assert_same_bits(other.to("float32").weight, other.weight)
    assert_same_bits(conv.to("bfloat16").to("bfloat16").weight, conv.to("bfloat16").weight)
    assert_same_bits(conv.to("int8").to("int8").weight, conv.to("int8").weight)
    low = conv.to("int8")
    low.load_state_dict(conv.state_dict())
    assert_same_bits(low.weight, conv.to("int8").weight)
    drawn = treadle.ConvTranspose2d(40, 8, (3, 2), groups=groups, dtype="int8", seed=0)
    assert_same_bits(drawn.weight, low.weight)


@pytest.mark.parametrize("dtype", DTYPES[1:])
def test_from_torch_in_low_precision(isa, dtype):
    theirs = torch.nn.ConvTranspose2d(40, 10, 4, 2, 1, groups=2)
    x = image(2, 40)
    with torch.no_grad():
        exact = theirs(torch.from_numpy(x)).numpy()
    ours = treadle.from_torch(theirs).to(dtype)
    assert np.abs(ours(x) - exact).max() < 0.02 * np.abs(exact).max()
    theirs.bfloat16()
    half = treadle.from_torch(theirs).to("bfloat16")  # the bits that it has
    assert_same_bits(half.weight, theirs.weight.detach().float().numpy())


def test_the_activation_behind_it_is_its_own(isa):
    x = image(2)
    module = treadle.Sequential(treadle.ConvTranspose2d(20, 8, 3, 3, seed=0), treadle.Sigmoid())
    assert_same_bits(module(x), F.sigmoid(module[0](x)))
    assert len(module._plan) == 1


def test_weights_are_drawn_as_in_torch():
    module = treadle.ConvTranspose2d(64, 50, (3, 2), groups=2, seed=0)
    reach = (25 * 6) ** -0.5
    assert module.weight.shape == (64, 25, 3, 2)
    assert 0.99 * reach < np.abs(module.weight).max() <= reach
    assert np.abs(module.bias).max() <= reach


def test_sizes_as_torchs_hold_them():
    shown = repr(treadle.ConvTranspose2d(3, 4, (5, 5), (2, 1), (1, 1), (1, 0)))
    assert shown == "ConvTranspose2d(3, 4, 5, stride=(2, 1), padding=1, output_padding=(1, 0))"
    assert repr(treadle.ConvTranspose1d(3, 4, (5,))) == "ConvTranspose1d(3, 4, 5)"


WRONG = [
    ((4, 4, 0), ValueError, "kernel_size"),
    ((4, 4, (3, 3, 3)), TypeError, "kernel_size"),
    ((4, 4, 3, (1, 0)), ValueError, "stride"),
    ((4, 4, 3, 1, -1), ValueError, "padding"),
    ((4, 4, 3, 1, "same"), TypeError, "padding"),
    ((4, 4, 3, 2, 0, 2), ValueError, "output_padding is 2"),
    ((4, 4, 3, (2, 1), 0, 1), ValueError, "output_padding is 1"),
    ((4, 6, 3, 1, 0, 0, 4), ValueError, "out_channels"),
    ((6, 4, 3, 1, 0, 0, 4), ValueError, "in_channels"),
    ((4, 4, 3, 1, 0, 0, 1, 1), TypeError, "bias"),
    ((4, 4, 3, 1, 0, 0, 1, True, 1.0), TypeError, "dilation"),
    ((4, 4, 3, 1, 0, 0, 1, True, 1, "reflect"), ValueError, "padding_mode"),
    ((2**11, 1, 2**10), ValueError, "kernel_size"),
]
WRONG_DTYPES = ["int4", "float16", None, 8]


@pytest.mark.parametrize(("arguments", "error", "match"), WRONG, ids=str)
def test_wrong_arguments(arguments, error, match):
    with pytest.raises(error, match=rf"^treadle\.ConvTranspose2d: .*{match}"):
        treadle.ConvTranspose2d(*arguments)


@pytest.mark.parametrize("dtype", WRONG_DTYPES)
def test_wrong_dtypes(dtype):
    with pytest.raises(ValueError, match=r"^treadle\.ConvTranspose1d: dtype "):
        treadle.ConvTranspose1d(4, 4, 3, dtype=dtype)
    with pytest.raises(ValueError, match=r"^treadle\.ConvTranspose1d\.to: dtype "):
        treadle.ConvTranspose1d(4, 4, 3).to(dtype)


def test_wrong_inputs():
    conv = treadle.ConvTranspose2d(3, 4, 2, padding=1, seed=0)
    x = samples.normal(0, 2, 3, 6, 6)
    for wrong in (x[:, :2], x[0, 0], x[None], x[:, :, :0], x[..., :1]):
        with pytest.raises(ValueError, match=r"^treadle\.ConvTranspose2d: x has shape"):
            conv(wrong)
    with pytest.raises(TypeError, match=r"^treadle\.ConvTranspose2d: x "):
        conv(x.astype(np.float64))
    assert conv(x[:0]).shape == (0, 4, 5, 5)

"""Interpolation and padding against PyTorch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import treadle
from support import samples
from support.tolerance import assert_same_bits

F, TF = treadle.functional, torch.nn.functional
UNIT = np.finfo(np.float32).eps / 2


@st.composite
def resizings(draw):
    axes = draw(st.sampled_from([1, 2]))
    mode = draw(st.sampled_from(["nearest", "nearest-exact", "area", "bilinear"]))
    options = {"mode": "linear" if (mode, axes) == ("bilinear", 1) else mode}
    sizes = [draw(st.integers(1, 20)) for _ in range(axes)]
    if mode == "bilinear" and draw(st.booleans()):
        options["align_corners"] = draw(st.booleans())
    if draw(st.booleans()):
        options["size"] = [draw(st.integers(1, 40)) for _ in sizes]
    else:
        options["scale_factor"] = [draw(st.sampled_from([1.0, 2.0, 1.5, 3.0])) for _ in sizes]
        options["recompute_scale_factor"] = draw(st.sampled_from([None, True, False]))
    return samples.normal(draw(st.integers(0, 9)), 2, 3, *sizes), options


@settings(max_examples=200)
@given(resizings())
def test_like_torch(call):
    """Nearest pixels are PyTorch's; a linear function is as near as PyTorch's float32 places."""
    x, options = call
    y = F.interpolate(x, **options)
    expected = TF.interpolate(torch.from_numpy(x), **options).numpy()
    if options["mode"].startswith("nearest"):
        assert_same_bits(y, expected)
        return
    exact = TF.interpolate(torch.from_numpy(x).double(), **options).numpy()
    # PyTorch places pixels of float32 images by float32 numbers.
    places = max(x.shape[2:]) * 8
    assert y.shape == expected.shape
    assert (np.abs(y - exact) <= UNIT * (places + 8) * 2 * np.abs(x).max()).all()
    np.testing.assert_allclose(y, expected, atol=4 * UNIT * places * np.abs(x).max())


def test_levels(isa, threads):
    x = samples.normal(0, 3, 5, 17, 23)
    for mode in ("nearest", "bilinear", "area"):
        y = F.interpolate(x, (40, 31), mode=mode)
        exact = TF.interpolate(torch.from_numpy(x).double(), (40, 31), mode=mode).numpy()
        np.testing.assert_allclose(y, exact, atol=2e-6)
        assert_same_bits(F.interpolate(x[1:2], (40, 31), mode=mode), y[1:2])


@settings(max_examples=150)
@given(st.data())
def test_padding_like_torch(data):
    mode = data.draw(st.sampled_from(["constant", "reflect", "replicate", "circular"]))
    rank = data.draw(st.sampled_from([3, 4]))
    sizes = [data.draw(st.integers(1, 7)) for _ in range(rank)]
    axes = rank - 2 if mode != "constant" else data.draw(st.integers(0, rank))
    most = {"reflect": -1, "circular": 0}.get(mode)
    pad = []
    for axis in range(axes):
        limit = 6 if most is None else sizes[-1 - axis] + most
        pad += [data.draw(st.integers(0, limit)) for _ in range(2)]
    x = samples.normal(0, *sizes)
    options = {"mode": mode}
    if mode == "constant":
        pad = [data.draw(st.sampled_from([n, -1 if n % 2 else n])) for n in pad]
        options["value"] = data.draw(st.sampled_from([None, 1.5, -np.inf]))
    tensor = torch.from_numpy(x)
    try:
        expected = TF.pad(tensor, pad, **options).numpy()
    except RuntimeError:
        if all(size > 0 for size in sizes) and all(n >= 0 for n in pad):
            raise
        return  # cut to nothing, which PyTorch refuses
    assert_same_bits(F.pad(x, pad, **options), np.ascontiguousarray(expected))


def test_padding_of_any_rank(isa, threads):
    x = samples.normal(0, 4, 5, 300, 70)
    for mode, name in (("reflect", "reflect"), ("replicate", "edge"), ("circular", "wrap")):
        y = F.pad(x, (3, 4, 1, 2, 0, 3), mode=mode)
        expected = np.pad(x, [(0, 0), (0, 3), (1, 2), (3, 4)], name)
        assert_same_bits(y, np.ascontiguousarray(expected))
    assert_same_bits(F.pad(np.float32(2.0), ()), np.array(2.0, np.float32))
    assert F.pad(np.zeros((2, 0), np.float32), (1, 1)).shape == (2, 2)
    assert F.pad(np.zeros((2, 3), np.float32), (-1, -2)).shape == (2, 0)
    assert_same_bits(F.pad(x[0, 0, 0, :3], (7, 8), mode="circular"),
                     np.pad(x[0, 0, 0, :3], (7, 8), "wrap"))  # fmt: skip


WRONG_PADDING = {
    "pad has": [(1,), (1,) * 6],
    "pad is": [1, "12", None, (1.0, 1), (True, 1), (2**40, 1), (None, 1)],
    "mode": [],
}


@pytest.mark.parametrize("message", WRONG_PADDING)
def test_wrong_padding(message):
    x = np.zeros((2, 3), np.float32)
    for value in WRONG_PADDING[message]:
        with pytest.raises((TypeError, ValueError), match=rf"^treadle\.functional\.pad: {message}"):
            F.pad(x, value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(((3, 0), "reflect"), "axis 1"), (((0, 3), "reflect"), "axis 1"), (((-4, 0),), "axis 1"),
     (((-2, -2),), "axis 1"), (((1, 1), "mirror"), "mode"), (((1, 1), ["reflect"]), "mode"),
     (((1, 1), "reflect", 1.0), "value"), (((1, 1), "constant", "1"), "value"),
     (((0, 0, 1, 1, 0, 0), "constant"), "pad has")],
)  # fmt: skip
def test_wrong_padding_of_a_mode(arguments, message):
    with pytest.raises((TypeError, ValueError), match=rf"^treadle\.functional\.pad: {message}"):
        F.pad(np.zeros((2, 3), np.float32), *arguments)


@pytest.mark.parametrize("mode", ["constant", "replicate", "circular"])
def test_more_than_memory_holds(mode):
    x, most = np.zeros((1024, 1024, 3), np.float32), 2**31 - 1
    with pytest.raises(
        MemoryError, match=r"^treadle\.functional\.pad: the result would have 18\d* "
    ):
        F.pad(x, (most, most), mode)
    with pytest.raises(ValueError, match=r"^treadle\.functional\.pad: sizes multiply to more"):
        F.pad(x, (most,) * 6, mode)
    assert F.pad(x[:0], (most, most)).shape == (0, 1024, 2 * most + 3)
    for cls, n in ((treadle.ZeroPad1d, 1), (treadle.ZeroPad2d, 2)):
        with pytest.raises((MemoryError, ValueError), match=rf"^treadle\.{cls.__name__}: "):
            cls(most)(x if n == 1 else x[None])


def test_nothing_to_repeat():
    for mode in ("reflect", "replicate", "circular"):
        with pytest.raises(ValueError, match=r"^treadle\.functional\.pad: axis 0 has 0 elements"):
            F.pad(np.zeros(0, np.float32), (1, 0), mode=mode)


@pytest.mark.parametrize(
    "options",
    [{}, {"size": 2, "scale_factor": 2.0}, {"size": 0}, {"size": (1, 2, 3)}, {"size": 1.5},
     {"size": 2**40}, {"scale_factor": 0.0}, {"scale_factor": "2"}, {"scale_factor": (1.0,)},
     {"scale_factor": np.inf}, {"scale_factor": 1e-9}, {"size": 2, "mode": "bicubic"},
     {"size": 2, "mode": "linear"}, {"size": 2, "mode": None}, {"size": 2, "antialias": True},
     {"size": 2, "align_corners": True}, {"size": 2, "mode": "bilinear", "align_corners": 1},
     {"size": 2, "recompute_scale_factor": True}],
    ids=str,
)  # fmt: skip
def test_wrong_resizings(options):
    with pytest.raises((TypeError, ValueError), match=r"^treadle\.functional\.interpolate: "):
        F.interpolate(np.zeros((1, 2, 4, 4), np.float32), **options)


def test_wrong_images():
    for shape in ((3,), (2, 2), (1, 1, 1, 1, 1), (1, 1, 0, 3)):
        with pytest.raises(ValueError, match=r"^treadle\.functional\.interpolate: "):
            F.interpolate(np.zeros(shape, np.float32), 2)

"""STFT with a constant window runs as a convolution; any other is refused with what it needs."""

import numpy as np
import pytest

from treadle.graph import Graph, Node, Value
from treadle.graph.model import Model

EPS = np.finfo(np.float32).eps


def model(*, shape=("B", "L", 1), window=None, length=None, step=5, onesided=None, constants=True):
    inputs = ["x", "step", "window" if window is not None else ""]
    arrays = {"step": np.array(step)}
    if window is not None:
        arrays["window"] = window
    if length is not None:
        inputs.append("length")
        arrays["length"] = np.array(length)
    attributes = {} if onesided is None else {"onesided": onesided}
    values = [Value("x", "float32", shape)]
    if not constants:
        values += [Value(name, array.dtype.name, array.shape) for name, array in arrays.items()]
        arrays = {}
    node = Node("STFT", inputs, ["y"], attributes, "spectrum")
    return Model(Graph(values, [Value("y", "float32", None)], [node], arrays), single=True)


def spectrum(x, window, step, onesided):
    """The frames' Fourier transforms in float64, real and imaginary parts last."""
    N = window.size
    frames = np.lib.stride_tricks.sliding_window_view(x.astype(float), N, axis=1)[:, ::step]
    transform = np.fft.rfft if onesided else np.fft.fft
    y = transform(frames * window, axis=-1)
    return np.stack([y.real, y.imag], axis=-1)


@pytest.mark.parametrize("onesided", [None, 0, 1])
@pytest.mark.parametrize("rank", [2, 3])
def test_window(isa, onesided, rank):
    rng = np.random.default_rng(3)
    x = rng.standard_normal((3, 61)).astype(np.float32)
    window = np.hanning(16).astype(np.float32)
    shape = ("B", "L") if rank == 2 else ("B", "L", 1)
    y = model(window=window, onesided=onesided, shape=shape)(x if rank == 2 else x[..., None])
    exact = spectrum(x, window, 5, onesided != 0)
    assert y.shape == exact.shape
    np.testing.assert_allclose(y, exact, rtol=0, atol=2 * 16 * 4 * EPS)


def test_length_without_window():
    x = np.random.default_rng(4).standard_normal((1, 40, 1)).astype(np.float32)
    y = model(length=9)(x)
    np.testing.assert_allclose(
        y, spectrum(x[..., 0], np.ones(9), 5, True), rtol=0, atol=2 * 9 * 4 * EPS
    )


@pytest.mark.parametrize(
    "options",
    [
        {"window": np.ones(8, np.float32), "constants": False},
        {"window": np.ones(8, np.float32), "shape": ("B", "L", 2)},
        {"window": np.ones(8, np.float32), "shape": None},
        {"window": np.ones(8, np.float32), "length": 9},
        {"window": np.ones(8, np.float32), "step": 0},
        {},
    ],
)
def test_what_cannot_run(options):
    with pytest.raises(ValueError, match=r"node spectrum \(STFT\) needs a real signal"):
        model(**options)

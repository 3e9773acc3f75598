"""This module makes the series that the programs of this folder learn from, from its formula.

    s(t) = sin(2 pi t / 25) + 0.5 sin(2 pi t / 11 + 1) + 0.2 e(t),    e(t) drawn from N(0, 1)

No model can predict the noise: the best one is off by 0.2 in the root of the mean square.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NOISE = 0.2


def waves(steps: int, seed: int, noise: float = NOISE) -> NDArray[np.float32]:
    """Return so many steps of the series s(t), with this much noise, as an array [steps]."""
    t = np.arange(steps)
    clean = np.sin(2 * np.pi * t / 25) + 0.5 * np.sin(2 * np.pi * t / 11 + 1)
    drawn = np.random.default_rng(seed).standard_normal(steps)
    return (clean + noise * drawn).astype(np.float32)


def windows(
    series: NDArray[np.float32], length: int, ahead: int = 1
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cut a series into windows x [B, length, 1] and the value y [B, 1] that far ahead of each."""
    count = len(series) - length - ahead + 1
    x = np.lib.stride_tricks.sliding_window_view(series, length)[:count]
    y = series[length + ahead - 1 :]
    return np.ascontiguousarray(x[..., None]), np.ascontiguousarray(y[:, None])


def error(predicted: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Return the root of the mean square of what a prediction is off by."""
    return float(np.sqrt(np.mean((predicted - expected) ** 2)))

"""This module makes the answer that every peer is held to: some outputs in float64, all channels.

An implementation may transform its taps (Winograd), whose rounding errors are larger than those of
sums: the tolerance is that of sums of as many terms, times `TRANSFORMS`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ...core.dtypes import Array
from ...core.errors import EPS
from .case import ConvCase, ConvInputs

PIXELS = 40  # outputs that are checked, of all channels
TRANSFORMS = 16


class Expected(NamedTuple):
    """The answer [R, D] for the outputs (b, i, j)."""

    where: tuple[Array, Array, Array]
    values: Array
    tolerance: float


def expected(case: ConvCase, inputs: ConvInputs) -> Expected:
    """Return the reference for some outputs, of which the first and the last are some."""
    x, weight, bias = inputs
    height, width = case.outputs
    count = case.B * height * width
    picked = np.unique(np.linspace(0, count - 1, min(PIXELS, count)).round().astype(int))
    b, rest = np.divmod(picked, height * width)
    i, j = np.divmod(rest, width)
    padded = np.pad(x, ((0, 0), (0, 0), *((n, n) for n in case.padding)))
    windows = []
    for image, row, column in zip(b, i * case.stride[0], j * case.stride[1], strict=True):
        windows.append(
            padded[image, :, row : row + case.taps[0], column : column + case.taps[1]].ravel()
        )
    rows = np.array(windows, np.float64)
    taps = weight.reshape(case.D, -1).astype(np.float64)
    values = np.maximum(rows @ taps.T + bias, 0)
    size = float((np.abs(rows) @ np.abs(taps).T + np.abs(bias)).max())
    return Expected((b, i, j), values, TRANSFORMS * EPS * size)


def worst_error(case: ConvCase, want: Expected, got: Array) -> float:
    """Return the largest absolute difference; it is infinite for a wrong shape or a value that is
    not finite.
    """
    if got.shape != (case.B, case.D, *case.outputs) or not np.isfinite(got).all():
        return float("inf")
    b, i, j = want.where
    return float(np.abs(got[b, :, i, j] - want.values).max())

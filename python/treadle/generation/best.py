"""The best k numbers of rows of many, by their size and then by their place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from treadle._inputs.types import Float, Int

_BLOCK = 128


def best(values: Float, k: int) -> tuple[Int, Float]:
    """Return the places [R, k] and the numbers [R, k] of the k largest of each row [R, M].

    The larger number comes first; of equal ones, the one at the lower place. NaN counts as larger
    than all numbers.

    The k best numbers lie in the k best blocks, if a block is as good as its largest number and
    blocks that are equally good are taken in their order. So only the maxima of blocks are read
    from all numbers, and only k blocks are sorted.
    """
    rows, width = values.shape
    blocks = width // _BLOCK
    if width <= 4 * _BLOCK or k >= blocks:
        return _sorted(values, k)
    maxima = np.empty((rows, blocks + (width % _BLOCK > 0)), np.float32)
    values[:, : blocks * _BLOCK].reshape(rows, blocks, _BLOCK).max(axis=2, out=maxima[:, :blocks])
    if width % _BLOCK:
        values[:, blocks * _BLOCK :].max(axis=1, out=maxima[:, blocks])
    chosen = np.sort(best(maxima, k)[0], axis=1)
    places = (chosen[:, :, None] * _BLOCK + np.arange(_BLOCK)).reshape(rows, k * _BLOCK)
    inside = places < width
    found = np.take_along_axis(values, np.minimum(places, width - 1), axis=1)
    # The last block may be shorter. Its missing numbers come last, behind others that are -inf.
    found[~inside] = -np.inf
    order, numbers = _sorted(found, k)
    return np.take_along_axis(places, order, axis=1), numbers


def _sorted(values: Float, k: int) -> tuple[Int, Float]:
    # NaN, which sort would put last, gets the sign that brings it to the front.
    keys = np.where(np.isnan(values), -np.inf, -values)
    order = np.argsort(keys, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(values, order, axis=1)

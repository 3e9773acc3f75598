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
    blocks that are equally good are taken in their order. So all numbers are read once, for the
    maxima of blocks, and the rest is done for k blocks.
    """
    rows, width = values.shape
    if width <= 4 * _BLOCK or k >= width // _BLOCK:
        return _selected(values, k)
    maxima = np.maximum.reduceat(values, np.arange(0, width, _BLOCK), axis=1)
    chosen = np.sort(best(maxima, k)[0], axis=1)
    places = (chosen[:, :, None] * _BLOCK + np.arange(_BLOCK)).reshape(rows, k * _BLOCK)
    found = np.take_along_axis(values, np.minimum(places, width - 1), axis=1)
    # The last block may be shorter. Its missing numbers come last, behind others that are -inf.
    found[places >= width] = -np.inf
    order, numbers = _selected(found, k)
    return np.take_along_axis(places, order, axis=1), numbers


def _selected(values: Float, k: int) -> tuple[Int, Float]:
    """Return what `best` returns, by a look at all numbers."""
    rows, width = values.shape
    keys = np.where(np.isnan(values), np.float32(np.inf), values)
    places = np.broadcast_to(np.arange(width), values.shape)
    if k < width:
        # NumPy finds the k-th number much faster than it sorts so that equal ones stay in order.
        least = np.partition(keys, width - k, axis=1)[:, width - k, None]
        above, equal = keys > least, keys == least
        missing = k - np.count_nonzero(above, axis=1)
        kept = above | (equal & (np.cumsum(equal, axis=1) <= missing[:, None]))
        places = np.nonzero(kept)[1].reshape(rows, k)
    order = np.argsort(-np.take_along_axis(keys, places, axis=1), axis=1, kind="stable")
    places = np.take_along_axis(places, order, axis=1)
    return places, np.take_along_axis(values, places, axis=1)

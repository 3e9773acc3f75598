"""A padded batch as its tokens, one after the other, and back.

Only tokens that attention_mask keeps exist from here on: they are gathered into flat arrays [M]
with offsets [B + 1], whatever holes or padding on whichever side the mask has. Results are scattered
into arrays of the padded shape, which are zero elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from treadle._inputs import arrays, checks

if TYPE_CHECKING:
    from treadle._inputs.types import AnyArray, ArrayLike, Bool, Float, Int


class Ragged(NamedTuple):
    """Where the kept tokens of a [B, S] batch are."""

    batch: int
    length: int
    kept: Int | None
    """Numbers of the kept places among B * S, or None when all are kept."""
    offsets: Int
    """[B + 1]: the tokens of row b are offsets[b]..offsets[b + 1]."""

    def gather(self, grid: Int) -> Int:
        """[B, S] or [B * S] -> [M]."""
        flat = grid.reshape(-1)
        return flat if self.kept is None else flat[self.kept]

    def scatter(self, flat: Float, fill: float = 0.0) -> Float:
        """[M, ...] -> [B, S, ...]."""
        shape = flat.shape[1:]
        if self.kept is None:
            return flat.reshape(self.batch, self.length, *shape)
        padded = np.zeros((self.batch * self.length, *shape), np.float32)
        if fill:
            padded.fill(fill)
        padded[self.kept] = flat
        return padded.reshape(self.batch, self.length, *shape)

    def scatter_square(self, weights: Float) -> Float:
        """[B, N, K, K] for the tokens that are there -> [B, N, S, S]."""
        if self.kept is None:
            return weights
        batch, heads = weights.shape[:2]
        padded = np.zeros((batch, heads, self.length, self.length), np.float32)
        columns = self.kept % max(self.length, 1)
        for b in range(batch):
            at = columns[self.offsets[b] : self.offsets[b + 1]]
            padded[b][:, at[:, None], at] = weights[b, :, : at.size, : at.size]
        return padded

    def first(self, flat: Float) -> Float:
        """The first kept token of each row, [M, H] -> [B, H]; zeros where a row has none."""
        starts = self.offsets[:-1]
        if self.kept is None and self.length:
            return np.ascontiguousarray(flat[starts])
        full = self.offsets[1:] > starts
        rows = np.zeros((self.batch, flat.shape[1]), np.float32)
        rows[full] = flat[starts[full]]
        return rows

    @property
    def longest(self) -> int:
        """The number of tokens in the longest row."""
        return int(np.diff(self.offsets).max(initial=0))


def ids(function: str, value: ArrayLike) -> Int:
    """input_ids, [B, S]."""
    array = arrays.to_int64(function, "input_ids", value)
    checks.shape(function, "input_ids", array, (None, None), ("B", "S"))
    return array


def grid(function: str, name: str, value: ArrayLike, shape: tuple[int, int]) -> Int:
    """Numbers that belong to the tokens: [B, S], or [1, S] for all rows."""
    array = arrays.to_int64(function, name, value)
    if array.shape == (1, shape[1]) and shape[0] != 1:
        array = np.broadcast_to(array, shape)
    checks.shape(function, name, array, shape, ("B", "S"))
    return array


def in_range(function: str, name: str, array: Int, size: int, meaning: str) -> None:
    """Raise ValueError unless all numbers are in 0..size - 1."""
    if array.size and (array.min() < 0 or array.max() >= size):
        wrong = int(array[(array < 0) | (array >= size)][0])
        raise ValueError(f"{function}: {name} holds {wrong}, expected 0..{size - 1} ({meaning})")


def ragged(function: str, mask: ArrayLike | None, shape: tuple[int, int]) -> Ragged:
    """The places that attention_mask [B, S] (0 and 1, or bools) keeps; all without one."""
    batch, length = shape
    if mask is not None:
        kept = _mask(function, mask)
        checks.shape(function, "attention_mask", kept, shape, ("B", "S"))
        if not kept.all():
            offsets = arrays.starts(kept.sum(axis=1))
            return Ragged(batch, length, np.flatnonzero(kept), offsets)
    return Ragged(batch, length, None, np.arange(batch + 1, dtype=np.int64) * length)


def _mask(function: str, value: ArrayLike) -> Bool:
    """Bools, or any numbers that are 0 or 1: some tokenizers give integers, some floats."""
    array = _mask_array(function, "attention_mask", value)
    if array.dtype.kind == "b":
        return array
    kept: Bool = array != 0
    if not (kept == array).all():
        raise ValueError(
            f"{function}: attention_mask holds {array[kept != array].flat[0]}, "
            "expected 1 (attend) and 0 (padding)"
        )
    return kept


def _mask_array(function: str, name: str, value: ArrayLike) -> AnyArray:
    if isinstance(value, np.ndarray) and value.dtype.kind in "biu":  # the usual case
        return value
    first = value
    while isinstance(first, list | tuple) and first:
        first = first[0]
    dtype = str(getattr(first, "dtype", type(first).__name__))
    if dtype.endswith("bool"):
        return arrays.to_bool(function, name, value)
    if dtype.endswith("float32"):
        return arrays.to_float32(function, name, value)
    return arrays.to_int64(function, name, value)

"""This module converts between a padded batch [B, S, ...] and its M tokens in a row, [M, ...].

Engines compute only tokens that exist. They are gathered into flat arrays with the offset at which
each row begins, wherever the padding lies: left, right or in between. Results are scattered into
arrays of the padded shape.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from treadle._inputs.types import AnyArray, Bool, Float, Int


def starts(lengths: AnyArray) -> Int:
    """Return where rows of these lengths [B] begin, one behind the other, and the end: [B + 1]."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


class Ragged(NamedTuple):
    """The places of the tokens that exist in a batch of B rows of S places."""

    batch: int
    """B"""
    length: int
    """S"""
    exists: Bool | None
    """[B, S]: True where there is a token; None if there is one at every place."""
    offsets: Int
    """[B + 1]: the tokens of row b are offsets[b]..offsets[b + 1] - 1."""

    @classmethod
    def of(cls, batch: int, length: int, exists: Bool | None = None) -> Ragged:
        """Construct from a mask ``exists`` [B, S]; None means that all tokens exist."""
        if exists is None or exists.all():
            return cls(batch, length, None, np.arange(batch + 1, dtype=np.int64) * length)
        return cls(batch, length, exists, starts(exists.sum(axis=1)))

    @property
    def longest(self) -> int:
        """The number of tokens in the longest row."""
        return int(np.diff(self.offsets).max(initial=0))

    def gather(self, padded: AnyArray) -> AnyArray:
        """Take the tokens out of a padded batch: [B, S, ...] -> [M, ...]."""
        if self.exists is None:
            return padded.reshape(self.batch * self.length, *padded.shape[2:])
        return padded[self.exists]

    def scatter(self, flat: Float, fill: float = 0.0, out: Float | None = None) -> Float:
        """Pad the tokens with ``fill``, into ``out`` if it is not None: [M, ...] -> [B, S, ...]."""
        shape = (self.batch, self.length, *flat.shape[1:])
        if self.exists is None and out is None:
            return flat.reshape(shape)
        if out is None:
            out = np.full(shape, fill, np.float32) if fill else np.zeros(shape, np.float32)
        elif self.exists is not None:
            out[...] = fill
        if self.exists is None:
            out[...] = flat.reshape(shape)
        else:
            out[self.exists] = flat
        return out

    def gather_square(self, padded: AnyArray) -> AnyArray:
        """Reduce a mask [B or 1, ., S, S] to the tokens: [B or 1, ., K, K], K in the longest row.

        The axis of queries may be 1. Entries behind the tokens of a shorter row mean nothing.
        """
        if self.exists is None:
            return padded
        exists, longest = self.exists, self.longest
        if not (exists[:, 1:] > exists[:, :-1]).any():  # all padding is on the right
            return padded[..., :longest, :longest]
        order = np.argsort(~exists, axis=1, kind="stable")[:, None, :longest]
        padded = np.broadcast_to(padded, (self.batch, *padded.shape[1:]))
        if padded.shape[-2] > 1:
            padded = np.take_along_axis(padded, order[..., None], axis=-2)
        return np.take_along_axis(padded, order[:, :, None], axis=-1)

    def scatter_square(self, probabilities: Float) -> Float:
        """Pad the attention probabilities of the tokens: [B, N, K, K] -> [B, N, S, S]."""
        if self.exists is None:
            return probabilities
        batch, heads = probabilities.shape[:2]
        padded = np.zeros((batch, heads, self.length, self.length), np.float32)
        for b, row in enumerate(self.exists):
            at = np.flatnonzero(row)
            padded[b][:, at[:, None], at] = probabilities[b, :, : at.size, : at.size]
        return padded

    def first(self, flat: Float) -> Float:
        """Return the first token of each row, [M, H] -> [B, H]; zeros for a row without tokens."""
        begins = self.offsets[:-1]
        if self.exists is None and self.length:
            return np.ascontiguousarray(flat[begins])
        full = self.offsets[1:] > begins
        rows = np.zeros((self.batch, flat.shape[1]), np.float32)
        rows[full] = flat[begins[full]]
        return rows

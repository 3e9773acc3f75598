"""This module checks token ids [B, S] of models that generate and takes out those that exist."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from treadle._inputs import arrays, checks, masks
from treadle._inputs.ragged import Ragged

if TYPE_CHECKING:
    from treadle._inputs.types import ArrayLike, Int
    from treadle.transformers.stack_shapes import StackShape


class Sequences(NamedTuple):
    """The M tokens of a batch that its mask keeps, one row behind the other."""

    padded: Int
    """[B, S]"""
    places: Ragged
    ids: Int
    """[M]"""

    @property
    def lengths(self) -> Int:
        """The number of tokens of each row, [B]."""
        lengths: Int = np.diff(self.places.offsets)
        return lengths

    def rows(self) -> list[Int]:
        """Return the tokens of each row."""
        return np.split(self.ids, self.places.offsets[1:-1])

    @property
    def last(self) -> Int:
        """The places [B] of the last token of each row among the M tokens."""
        last: Int = self.places.offsets[1:] - 1
        return last


def check_sequences(
    function: str,
    stack: StackShape,
    names: tuple[str, str],
    ids: ArrayLike | None,
    mask: ArrayLike | None,
) -> Sequences:
    """Check token ids and their mask, arguments of these two names.

    Raises
    ------
    TypeError
        For other dtypes.
    ValueError
        For shapes, numbers out of range, and more tokens than positions.
    """
    name = names[0]
    if ids is None:
        raise TypeError(f"{function}: {name} is None, expected token ids [B, S]")
    padded = arrays.to_int64(function, name, ids)
    checks.shape(function, name, padded, (None, None), ("B", "S"))
    size = stack.vocabulary
    if padded.size and (padded.min() < 0 or padded.max() >= size):
        wrong = int(padded[(padded < 0) | (padded >= size)][0])
        raise ValueError(f"{function}: {name} holds {wrong}, expected 0..{size - 1} (vocab_size)")
    shape = padded.shape[0], padded.shape[1]
    exists = None if mask is None else masks.kept(function, names[1], mask, shape)
    places = Ragged.of(*shape, exists)
    found = Sequences(padded, places, np.ascontiguousarray(places.gather(padded)))
    check_length(function, stack, name, places.longest)
    if stack.positions is not None and stack.positions.kind == "fairseq":
        _check_padding(function, stack.positions.first - 1, names, found.ids)
    return found


def check_length(function: str, stack: StackShape, name: str, longest: int) -> None:
    """Raise ValueError for a row of more tokens than there are positions."""
    most = stack.most_tokens
    if most is not None and longest > most:
        raise ValueError(
            f"{function}: {name} has {longest} tokens in a row, expected at most {most}, for which "
            "the model has positions: shorten them with tokenizer(..., truncation=True)"
        )


def _check_padding(function: str, padding: int, names: tuple[str, str], ids: Int) -> None:
    """Refuse padding among the tokens of a model that counts positions without it."""
    if (ids == padding).any():
        raise ValueError(
            f"{function}: {names[0]} holds the padding token {padding} where {names[1]} keeps it, "
            f"and the model gives it no position: expected {names[1]} to be 0 there"
        )

"""This module computes how many tokens of two texts are kept when both are cut."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def kept_lengths(first: int, second: int, most: int) -> tuple[int, int]:
    """Return how many tokens of a text and of its pair to keep, at most ``most`` together.

    The longer one is cut until both are as long, as by the library's "longest_first".
    """
    if first + second <= most:
        return first, second
    shorter, longer = sorted((first, second))
    longer = max(shorter, most - shorter)
    if shorter + longer > most:
        shorter = most // 2
        longer = shorter + most % 2
    return (shorter, longer) if first <= second else (longer, shorter)


def combinations(lengths: Sequence[int], kept: Sequence[int], stride: int) -> int:
    """Return how many rows the pieces of both texts make, each piece with each."""
    rows = 1
    for length, size in zip(lengths, kept, strict=True):
        if length > size:
            rows *= -((stride - length) // max(size - stride, 1)) if size else 2
    return rows

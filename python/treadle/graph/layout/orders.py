"""This module computes with orders of axes.

An order p turns u into v: axis i of v is axis p[i] of u, as NumPy's and ONNX's Transpose have it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Order = tuple[int, ...]


def to_last(rank: int) -> Order:
    """Return the order that moves axis 1, the channels, behind all others.

    >>> to_last(4), to_first(4)
    ((0, 2, 3, 1), (0, 3, 1, 2))
    """
    return (0, *range(2, rank), 1)


def to_first(rank: int) -> Order:
    """Return the order that moves the last axis to place 1."""
    return (0, rank - 1, *range(1, rank - 1))


def inverse(order: Sequence[int]) -> Order:
    """Return the order that undoes an order."""
    return tuple(sorted(range(len(order)), key=lambda axis: order[axis]))


def then(first: Sequence[int], second: Sequence[int]) -> Order:
    """Return the order that is one order and then another."""
    return tuple(first[axis] for axis in second)


def is_identity(order: Sequence[int]) -> bool:
    """Return whether an order changes nothing."""
    return list(order) == list(range(len(order)))


def without(order: Sequence[int], gone: Iterable[int]) -> Order:
    """Return the order between what is left when axes of v, and theirs of u, are taken out.

    >>> without((0, 3, 1, 2), [2])
    (0, 2, 1)
    """
    taken = set(gone)
    kept = [axis for place, axis in enumerate(order) if place not in taken]
    places = {axis: place for place, axis in enumerate(sorted(kept))}
    return tuple(places[axis] for axis in kept)


def with_new(order: Sequence[int], new: Iterable[int]) -> Order:
    """Return the order between u and v after both got new axes at the same places.

    >>> with_new((1, 0), [0])
    (0, 2, 1)
    """
    taken = set(new)
    rank = len(order) + len(taken)
    old = [place for place in range(rank) if place not in taken]
    source = iter(old[axis] for axis in order)
    return tuple(place if place in taken else next(source) for place in range(rank))


def keeps_memory(order: Sequence[int], shape: Sequence[object]) -> bool:
    """Return whether u, of this shape, lies in memory as v: only axes of size 1 change places."""
    if len(shape) != len(order):
        return False
    moved = [axis for axis in order if shape[axis] != 1]
    return moved == sorted(moved)

"""This module defines what is known about a value, and what a rule sees of a node."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from treadle.graph.shapes.dims import Dim, fresh

if TYPE_CHECKING:
    from collections.abc import Sequence

    from treadle.graph.ir import Node

# The elements of an integer array are followed up to this number: shapes have few.
MOST_ELEMENTS = 64


@dataclass(slots=True, frozen=True)
class Known:
    """A Known is what is known about a value before it is computed.

    dtype     NumPy's name, or None
    shape     the sizes, ints and symbols, or None where not even the rank is known
    elements  the elements of an array of integers or bools of rank 0 or 1, or None
    """

    dtype: str | None = None
    shape: tuple[Dim, ...] | None = None
    elements: tuple[Dim, ...] | None = None

    @property
    def rank(self) -> int | None:
        """The rank, if it is known."""
        return None if self.shape is None else len(self.shape)


NOTHING = Known()


_NAMES: dict[np.dtype, str] = {}  # dtype.name takes microseconds


def of_array(array: np.ndarray) -> Known:
    """Return what is known about a constant."""
    dtype = array.dtype
    name = _NAMES.get(dtype) or _NAMES.setdefault(dtype, dtype.name)
    elements = None
    if dtype.kind in "iub" and array.ndim <= 1 and array.size <= MOST_ELEMENTS:
        elements = tuple(int(number) for number in array.reshape(-1))
    return Known(name, array.shape, elements)


class Site:
    """A site is a node whose outputs a rule describes."""

    def __init__(self, node: Node, known: dict[str, Known]) -> None:
        self.node = node
        self._known = known

    def __getitem__(self, index: int) -> Known:
        """Return what is known about an input; nothing is known about an absent one."""
        if index >= len(self.node.inputs):
            return NOTHING
        return self._known.get(self.node.inputs[index], NOTHING)

    def has(self, index: int) -> bool:
        """Return whether an input is present."""
        return index < len(self.node.inputs) and self.node.inputs[index] != ""

    def numbers(self, index: int) -> list[int] | None:
        """Return the elements of an integer input if all of them are known numbers."""
        elements = self[index].elements
        if elements is None:
            return None
        numbers = [element for element in elements if isinstance(element, int)]
        return numbers if len(numbers) == len(elements) else None

    def attribute(self, name: str, default: Any) -> Any:
        """Return an attribute or its default."""
        return self.node.attributes.get(name, default)

    def output(
        self,
        dtype: str | None,
        shape: Sequence[Dim] | None,
        index: int = 0,
        elements: Sequence[Dim] | None = None,
    ) -> None:
        """Say what is known about an output."""
        if index < len(self.node.outputs) and self.node.outputs[index]:
            kept = None
            sizes = [size for size in shape or () if isinstance(size, int)]
            if elements is not None and shape is not None and len(sizes) == len(shape):
                fits = math.prod(sizes) == len(elements) <= MOST_ELEMENTS
                kept = tuple(elements) if fits else None
            self._known[self.node.outputs[index]] = Known(
                dtype, None if shape is None else tuple(shape), kept
            )

    def unknown(self, dtype: str | None, rank: int | None, index: int = 0) -> None:
        """Say of an output that only its dtype and perhaps its rank are known."""
        self.output(dtype, None if rank is None else [fresh() for _ in range(rank)], index)


def axis_of(axis: int, rank: int) -> int | None:
    """Return an axis counted from the front, or None if it does not exist."""
    return axis % rank if -rank <= axis < rank else None

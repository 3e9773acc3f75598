"""Which layers and heads of a module a trace records."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from treadle._inputs.checks import MAX_LAYERS, integer, shown

if TYPE_CHECKING:
    from treadle._inputs.types import Float

FUNCTION = "treadle.trace"


@dataclass(frozen=True)
class Choice:
    """The numbers of layers and heads that are recorded; None stands for all."""

    layers: tuple[int, ...] | None = None
    heads: tuple[int, ...] | None = None

    @classmethod
    def of(cls, layers: Any, heads: Any) -> Choice:
        """Check numbers, each one integer, several, or None. Raises TypeError and ValueError."""
        return cls(_numbers("layers", layers), _numbers("heads", heads))

    def layer(self, number: int) -> bool:
        """Tell whether the layer with this number is recorded."""
        return self.layers is None or number in self.layers

    def check(self, layers: int) -> None:
        """Raise ValueError for a chosen layer beyond those that there are."""
        _check("layers", self.layers, layers)

    def of_heads(self, probabilities: Float) -> Float:
        """Return the chosen heads of [B, N, S, K]. Raises ValueError for one that is not there."""
        _check("heads", self.heads, probabilities.shape[1])
        if self.heads is None:
            return probabilities
        return np.ascontiguousarray(probabilities[:, list(self.heads)])


def _numbers(name: str, value: Any) -> tuple[int, ...] | None:
    if value is None:
        return None
    if isinstance(value, str | bytes):
        raise TypeError(f"{FUNCTION}: {name} is {shown(value)}, expected integers or None")
    given = list(value) if isinstance(value, Iterable) else [value]
    found = tuple(integer(FUNCTION, name, number, 0, MAX_LAYERS) for number in given)
    if len(set(found)) < len(found):
        raise ValueError(f"{FUNCTION}: {name} has a number twice, expected each once")
    return found


def _check(name: str, chosen: tuple[int, ...] | None, count: int) -> None:
    for number in chosen or ():
        if number >= count:
            raise ValueError(f"{FUNCTION}: {name} has {number}, expected less than {count}")

"""A trace keeps named arrays with named axes, tokens, and the output of the call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from treadle._inputs.checks import shown
from treadle.inspection.words import texts

if TYPE_CHECKING:
    from treadle._inputs.types import AnyArray, Float


class Record(Mapping[str, "Float"]):
    """A mapping of names to read-only float32 arrays with named axes, beside an output."""

    def __init__(self, title: str, output: Any) -> None:
        self.title = title
        self.output = output
        self._arrays: dict[str, Float] = {}
        self._axes: dict[str, tuple[str, ...]] = {}
        self._tokens: tuple[str, ...] | None = None

    def add(self, name: str, array: AnyArray, axes: tuple[str, ...]) -> None:
        """Record an array under a new name, with a name for each of its axes."""
        if name in self._arrays:
            raise ValueError(f"treadle.trace: {name} is recorded already")
        if array.ndim != len(axes):
            raise ValueError(f"treadle.trace: {name} has {array.ndim} axes, expected {axes}")
        kept = np.array(array, np.float32, order="C")
        kept.flags.writeable = False
        self._arrays[name], self._axes[name] = kept, axes

    def include(self, prefix: str, other: Record) -> None:
        """Record all arrays of another trace under names that begin with ``prefix``."""
        for name, array in other.items():
            self.add(prefix + name, array, other.axes(name))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the arrays."""
        return tuple(self._arrays)

    @property
    def tokens(self) -> tuple[str, ...] | None:
        """The words of the steps, or None."""
        return self._tokens

    @tokens.setter
    def tokens(self, value: Iterable[str] | None) -> None:
        self._tokens = None if value is None else texts("treadle.Trace", "tokens", value)

    def axes(self, name: str) -> tuple[str, ...]:
        """Return the names of an array's axes. Raises KeyError for an unknown name."""
        self[name]
        return self._axes[name]

    def to_dict(self) -> dict[str, Float]:
        """Return the arrays by their names, in a new dict."""
        return dict(self._arrays)

    def __getitem__(self, name: str) -> Float:
        try:
            return self._arrays[name]
        except (KeyError, TypeError):
            few = ", ".join(self.names[:8]) + (", ..." if len(self._arrays) > 8 else "")
            raise KeyError(f"{shown(name)} is no name of this trace, which has {few}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        return f"<trace of {self.title}: {len(self)} arrays>"

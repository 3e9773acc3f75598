"""This module reads entries of a config.json, which may be missing, of another type, or absurd.

An entry has a family's own name, such as "d_model", or the common one, such as "hidden_size"; what
a file leaves out has the default of the family. Every fault is a ValueError that has the entry's
own name.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from treadle._inputs.checks import MAX_SIZE
from treadle.transformers.directory import wrong

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


class Entries:
    """The entries of a file with the names and the defaults of a family."""

    def __init__(
        self,
        where: str,
        entries: Mapping[str, Any],
        aliases: Mapping[str, str],
        defaults: Mapping[str, Any],
    ) -> None:
        self.where = where
        self._entries, self._aliases, self._defaults = entries, aliases, defaults

    def get(self, name: str) -> Any:
        """Return an entry as it is, by its common name; None if it is null or has no default."""
        for own in (self._aliases.get(name, name), name):
            if own in self._entries:
                return self._entries[own]
        return self._defaults.get(name)

    def wrong(self, name: str, value: object, expected: str) -> ValueError:
        """Make the error for an entry."""
        return wrong(self.where, self._aliases.get(name, name), value, expected)

    def size(self, name: str, most: int = MAX_SIZE, least: int = 1) -> int:
        """Read an integer in ``least..most``."""
        value = self.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.wrong(name, value, f"an integer in {least}..{most}")
        return value

    def size_or(self, name: str, default: int, most: int = MAX_SIZE) -> int:
        """Read an integer in 1..most that may be left out."""
        return default if self.get(name) is None else self.size(name, most)

    def number(self, name: str, least: float, most: float) -> float:
        """Read a finite number in ``least..most``."""
        value = self.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(name, value, "a number")
        if not (least <= value <= most and math.isfinite(value)):
            raise self.wrong(name, value, f"a number in {least:g}..{most:g}")
        return float(value)

    def number_or_none(self, name: str, least: float, most: float) -> float | None:
        """Read a number that may be left out."""
        return None if self.get(name) is None else self.number(name, least, most)

    def flag(self, name: str) -> bool:
        """Read an entry that is true or false."""
        value = self.get(name)
        if not isinstance(value, bool):
            raise self.wrong(name, value, "true or false")
        return value

    def choice(self, name: str, among: Collection[str]) -> str:
        """Read a name that is one of some."""
        value = self.get(name)
        if not (isinstance(value, str) and value in among):
            raise self.wrong(name, value, f"one of {', '.join(among)}")
        return value

"""Texts beside values: tokens, labels and titles, checked and cut to what can be read."""

from __future__ import annotations

from collections.abc import Iterable

from treadle._inputs.checks import shown

MOST_TOKENS = 2**20


def short(text: str, most: int = 24) -> str:
    """Return a text of one line and at most so many characters, with nothing that is no text."""
    line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[: most + 1])
    return line if len(line) <= most else f"{line[: most - 1]}…"


def texts(function: str, name: str, value: Iterable[str]) -> tuple[str, ...]:
    """Check a list of texts and return it as a tuple. Raises TypeError, ValueError for others."""
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise TypeError(f"{function}: {name} is {shown(value)}, expected a list of texts")
    found: list[str] = []
    for text in value:
        if not isinstance(text, str):
            raise TypeError(f"{function}: {name} has {shown(text)}, expected texts")
        if len(found) == MOST_TOKENS:
            raise ValueError(f"{function}: {name} has more than {MOST_TOKENS} texts")
        found.append(text)
    return tuple(found)

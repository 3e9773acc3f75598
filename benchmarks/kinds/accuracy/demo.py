"""This module runs the model of `treadle demo` on words that its training did not see."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from treadle.demo.reader import Reader

from ...core.dtypes import DTYPES

WORDS = (1, 3, 5)  # the texts have so many words


@cache
def held_out() -> dict[str, tuple[str, ...]]:
    """Return the words of each language."""
    text = (files(__package__ or "") / "held_out.txt").read_text(encoding="utf-8")
    lines = [line.split(": ", 1) for line in text.splitlines() if not line.startswith("#")]
    return {language: tuple(words.split()) for language, words in lines}


def texts(words: int) -> list[tuple[str, str]]:
    """Return (language, text) pairs, where each text has so many words."""
    return [
        (language, " ".join(found[start : start + words]))
        for language, found in held_out().items()
        for start in range(0, len(found), words)
    ]


def right(reader: Reader, some: list[tuple[str, str]]) -> int:
    """Count the texts whose language is told right after their end and one space."""
    count = 0
    for language, text in some:
        reader.reset()
        reader.read(text + " ")
        count += reader.ranking()[0][0] == language
    return count


def measure() -> list[dict[str, Any]]:
    """Count the texts of each size whose language is told right, in each dtype."""
    rows = []
    for dtype in DTYPES:
        reader = Reader(dtype)
        for words in WORDS:
            some = texts(words)
            found = {"dtype": dtype, "words": words, "texts": len(some)}
            rows.append(found | {"right": right(reader, some)})
    return rows

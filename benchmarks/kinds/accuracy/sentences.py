"""This module takes whole English sentences from the language reference that comes with Python."""

from __future__ import annotations

import re
from functools import cache
from pydoc_data.topics import topics

PROSE = re.compile(r"[A-Z][a-z]*[ ,][A-Za-z0-9 ,;:'()-]*[.?!]")
SHORTEST, LONGEST = 40, 200  # characters


@cache
def sentences(count: int) -> tuple[str, ...]:
    """Return so many sentences, or all if there are fewer, evenly from all topics."""
    found: dict[str, None] = {}
    for name in sorted(topics):
        for paragraph in re.split(r"\n\s*\n", topics[name]):
            if paragraph[:1].isspace() or paragraph.startswith(("*", "-", "+")):
                continue  # code, lists, tables
            text = " ".join(paragraph.split())
            for sentence in re.split(r"(?<=[.!?]) (?=[A-Z])", text):
                if SHORTEST <= len(sentence) <= LONGEST and PROSE.fullmatch(sentence):
                    found[sentence] = None
    every = tuple(found)
    count = min(count, len(every))
    return tuple(every[index * len(every) // count] for index in range(count))

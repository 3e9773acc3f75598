"""This module traces the network of `treadle demo`: its gates and states, letter by letter."""

from __future__ import annotations

import sys
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from treadle.demo.reader import DEFAULT, Reader, decoded, encode, is_file
from treadle.inspection.tracing import trace

if TYPE_CHECKING:
    from treadle.inspection.result import Trace

MOST_LETTERS = 2000


def text_of(text: str | None, file: str | None) -> str:
    """Return the text that the command line asks for, or its beginning: that of a file, too.

    Raises OSError for a file that cannot be read.
    """
    if text == "-" or (text is not None and is_file(text)):
        text, file = None, text
    if text is None and file is None:
        piped = not getattr(sys.stdin, "isatty", lambda: True)()
        if not piped:
            return DEFAULT
        file = "-"
    if text is not None:
        return text[:MOST_LETTERS]
    if file == "-":
        source = getattr(sys.stdin, "buffer", None)
        pieces = iter(sys.stdin) if source is None else decoded(source)
        return "".join(islice((letter for piece in pieces for letter in piece), MOST_LETTERS))
    assert file is not None
    with open(file, "rb") as opened:
        pieces = decoded(opened)
        return "".join(islice((letter for piece in pieces for letter in piece), MOST_LETTERS))


def traced(text: str) -> Trace:
    """Return the trace of the network while it reads a text; its tokens are the letters.

    ``probabilities`` [time, language] is what it believes after each letter.

    Examples
    --------
    >>> found = traced("ich liebe")
    >>> found.tokens[:4], found["layer0.forward.gates.forget"].shape[0]
    (('i', 'c', 'h', '␣'), 9)
    """
    reader = Reader()
    codes = list(encode(text, reader.alphabet, True))
    x = np.concatenate([reader.rows[code] for code in codes] or [reader.rows[0][:0]])
    found = trace(reader.lstm)(x)
    found.title = "the LSTM of treadle demo"
    found.tokens = [reader.alphabet[code] if code else "␣" for code in codes]
    reader.characters = 1  # the states below are those behind a letter
    believed = [
        reader.probabilities(state[None]) for state in found["layer0.forward.states.hidden"]
    ]
    shape = (len(codes), len(reader.languages))
    found.add("probabilities", np.reshape(believed, shape), ("time", "language"))
    return found

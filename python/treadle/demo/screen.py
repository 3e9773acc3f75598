"""This module draws `treadle demo`: a strip for the hidden state and bars for the probabilities.

Plain lines in a file or a pipe; on a terminal the panel of the current word is redrawn in place.
Where the encoding lacks block characters, ASCII stands in; where it lacks a letter, "?".
"""

from __future__ import annotations

import os
import textwrap
import time
import unicodedata
from typing import TYPE_CHECKING, TextIO

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from treadle._inputs.types import Float

SHOWN = 3  # languages with a bar
WIDEST = 100  # columns, however wide the terminal
FRAME = 0.04  # seconds between two drawings of a fast reader
HEIGHTS = {True: "▁▂▃▄▅▆▇█", False: ".:-=+*#@"}
EIGHTHS = " ▏▎▍▌▋▊▉"
POSITIVE, NEGATIVE = (180, 215, 214, 208), (110, 75, 69, 33)  # xterm-256 colours, weak to strong
BARS = (76, 109, 145)  # the likeliest language first


def columns(character: str) -> int:
    """Return how many columns of a terminal a character takes: 0, 1 or 2."""
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def percent(probability: float) -> str:
    """Write a probability to a tenth of a percent; rounding never makes it 0 or 1.

    >>> percent(0.4321), percent(0.9999), percent(1e-6)
    ('43.2%', '>99.9%', '<0.1%')
    """
    if 0.9995 <= probability < 1:
        return ">99.9%"
    if 0 < probability < 0.0005:
        return "<0.1%"
    return f"{probability:.1%}"


class Screen:
    """A text stream, with what it can show: width, encoding, colours, redrawing."""

    def __init__(self, stream: TextIO, color: bool | None) -> None:
        self.stream = stream
        self.encoding = getattr(stream, "encoding", None) or "utf-8"
        terminal = stream.isatty() and os.environ.get("TERM") != "dumb"
        self.color = terminal and not os.environ.get("NO_COLOR") if color is None else color
        self.blocks = self._encodable("▁█▏→µ…")
        self.arrow, self.microseconds = ("→", "µs") if self.blocks else ("->", "us")
        self._measure()
        self.live = terminal and self._height > SHOWN + 2
        self._header = 0  # lines of the header
        self._drawn = 0  # lines of the panel that the next one replaces
        self._last = 0.0

    def _measure(self) -> None:
        try:
            size = os.get_terminal_size(self.stream.fileno())
        except (AttributeError, OSError, ValueError):
            size = os.terminal_size((80, 24))
        # A line that touches the last column may wrap, and some terminals report 0 columns.
        self.width = min((size.columns or 80) - 1, WIDEST)
        self._height = size.lines or 24

    def _encodable(self, text: str) -> bool:
        try:
            text.encode(self.encoding)
        except (UnicodeError, LookupError):
            return False
        return True

    def if_encodable(self, text: str) -> str:
        return text if self._encodable(text) else ""

    def _style(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.color and text.strip() else text

    def bold(self, text: str) -> str:
        return self._style(text, "1")

    def dim(self, text: str) -> str:
        return self._style(text, "2")

    def _write(self, text: str) -> None:
        try:
            text = text.encode(self.encoding, "replace").decode(self.encoding)
        except LookupError:
            text = text.encode("ascii", "replace").decode("ascii")
        self.stream.write(text)

    def print(self, text: str = "", style: Callable[[str], str] = str) -> None:
        """Print a paragraph, wrapped to the width."""
        for line in self._wrapped(text):
            self._write(style(line) + "\n")

    def _wrapped(self, text: str) -> list[str]:
        return textwrap.wrap(text, max(self.width, 20)) or [""]

    def header(self, hidden: int, isa: str, languages: list[str]) -> None:
        """Print what the demo is, how to read it, and what it cannot know."""
        sign = "; orange is positive, blue negative" if self.color else ""
        heights = HEIGHTS[self.blocks]
        paragraphs = [
            f"treadle demo: an LSTM of {hidden} units ({isa}) reads one character at a time.",
            f"{heights} is its hidden state: the higher, the further from zero{sign}.",
            f"It knows {', '.join(languages)}, and nothing else.",
        ]
        for number, paragraph in enumerate(paragraphs):
            self.print(paragraph, self.dim if number else self.bold)
        self.print()
        self._header = sum(len(self._wrapped(paragraph)) for paragraph in paragraphs) + 1

    def panels(self, below: int) -> int:
        """Return how many panels may stay above the one that is redrawn, at least one.

        The header and ``below`` further lines are then on the screen with them.
        """
        return max((self._height - self._header - below) // (SHOWN + 1) - 1, 1)

    def strip(self, state: Float, width: int) -> str:
        """Draw hidden units [H], each in (-1, 1); neighbours share a block where room is short."""
        share = -(-len(state) // max(width, 1))
        padded = np.zeros(-(-len(state) // share) * share, np.float32)
        padded[: len(state)] = state
        groups = padded.reshape(-1, share)
        strongest = groups[np.arange(len(groups)), np.abs(groups).argmax(axis=1)]
        ramp = HEIGHTS[self.blocks]
        cells = []
        for value in np.nan_to_num(strongest).tolist():
            level = min(int(abs(value) * len(ramp)), len(ramp) - 1)
            shade = (POSITIVE if value > 0 else NEGATIVE)[level * len(POSITIVE) // len(ramp)]
            cells.append(self._style(ramp[level], f"38;5;{shade}"))
        return "".join(cells)

    def bar(self, share: float, width: int) -> str:
        """Return a bar of `width` columns, filled to `share` with steps of an eighth column."""
        eighths = round(min(max(share, 0.0), 1.0) * width * 8)
        if not self.blocks:
            return ("#" * round(eighths / 8)).ljust(width)
        return ("█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()).ljust(width)

    def fit(self, text: str, width: int) -> str:
        """Return exactly `width` columns of a text, without anything that moves the cursor."""
        out, used = "", 0
        for character in text:
            shown = character if character.isprintable() else "\N{REPLACEMENT CHARACTER}"
            if used + columns(shown) > width:
                while out and used >= width:
                    used -= columns(out[-1])
                    out = out[:-1]
                out, used = out + ("…" if self.blocks else "~"), used + 1
                break
            out, used = out + shown, used + columns(shown)
        return out + " " * (width - used)

    def panel(
        self,
        word: str,
        state: Float,
        ranking: list[tuple[str, float]],
        micro: float,
    ) -> list[str]:
        """Return the lines for one word: strip and time, then the likeliest languages."""
        label = min(14, max(self.width // 3, 4))
        timed = micro > 0 and self.width >= 60  # signs alone take no step, so no time
        timing = f"  {micro:.1f} {self.microseconds} per character" if timed else ""
        room = self.width - label - 1
        lines = [
            self.bold(self.fit(word, label))
            + " "
            + self.strip(state, room - len(timing))
            + self.dim(timing)
        ]
        for color, (language, probability) in zip(BARS, ranking[:SHOWN], strict=False):
            bar = self.bar(probability, max(room - 7, 1))
            line = f"{self.fit(language, label)} {self._style(bar, f'38;5;{color}')}"
            lines.append(f"{line} {percent(probability):>6}" if self.width >= 20 else line)
        return lines

    def due(self) -> bool:
        """Tell whether this is a terminal that has not been redrawn for a while."""
        return self.live and time.monotonic() - self._last > FRAME

    def draw(
        self,
        word: str,
        state: Float,
        ranking: list[tuple[str, float]],
        micro: float,
    ) -> None:
        """Draw the panel; on a terminal it takes the place of the panel drawn before."""
        if self.live:
            self._measure()
        lines = self.panel(word, state, ranking, micro)
        erase = f"\x1b[{self._drawn}F\x1b[J" if self._drawn else ""
        self._drawn = 0  # a Ctrl-C below must not make the next call erase the panel again
        self._write(erase + "".join(line + "\n" for line in lines))
        if self.live:
            self.stream.flush()
            self._drawn, self._last = len(lines), time.monotonic()

    @property
    def unfinished(self) -> bool:
        """Tell whether a panel stands on the terminal that `keep` has not closed."""
        return self._drawn > 0

    def keep(self) -> None:
        """Leave the panel where it is; the next panel goes below."""
        self._drawn = 0
        self.stream.flush()  # whoever watches a pipe sees the word when it is read

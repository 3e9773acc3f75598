"""This module shows one line on a terminal that is written over, and nothing elsewhere."""

from __future__ import annotations

from typing import TextIO


class Progress:
    """Shows what is going on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live = stream.isatty()

    def show(self, text: str) -> None:
        """Replace the line."""
        if self._live:
            self._stream.write(f"\r\x1b[K{text}")
            self._stream.flush()

    def clear(self) -> None:
        """Remove the line, so that ordinary output can follow."""
        self.show("")

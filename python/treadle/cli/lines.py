"""This module reads the lines of a text file or of standard input for the commands."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator


def add_input(parser: argparse.ArgumentParser) -> None:
    """Declare the options of a command that reads lines in batches."""
    parser.add_argument(
        "--input", required=True, help="a text file in UTF-8, or - for standard input"
    )
    parser.add_argument(
        "--batch-size", type=int, default=32, help="how many lines to run at once (default: 32)"
    )


def lines(function: str, source: str) -> Iterator[str]:
    """Yield the lines of a file in UTF-8, or of standard input for "-"."""
    if source == "-":
        if sys.stdin is None:  # closed by the shell's <&-
            raise ValueError(f"{function}: there is no standard input, expected one for -")
        yield from _decoded(function, source, sys.stdin.buffer)
    else:
        with open(source, "rb") as file:
            yield from _decoded(function, source, file)


def _decoded(function: str, source: str, file: Iterable[bytes]) -> Iterator[str]:
    for number, line in enumerate(file, 1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise ValueError(f"{function}: {source}, line {number} is no UTF-8: {error}") from None

"""`treadle bench`: measures the machine and the layers."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

HELP = "measure the machine and the layers"


def add(parser: argparse.ArgumentParser) -> None:
    """Declare no options: the benchmarks parse their own."""


def run(arguments: list[str]) -> int:
    """Run the benchmarks with the words that follow `bench`."""
    status: int | None = import_module("treadle.benchmarks.run").main(arguments)
    return status or 0

"""This program is a worker: it builds programs, runs them and times them, as `worker.py` asks.

    python -m treadle.benchmarks.kinds.keras.child FILE_DESCRIPTOR WAY THREADS

A request is (name, arguments), an answer (True, value) or (False, what was raised). The program
ends when the other end of the pipe is closed.
"""

from __future__ import annotations

import gc
import os
import sys
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Protocol

from .data import Order
from .starting import start


class Program(Protocol):
    """A program can be called, and be checked before it is timed."""

    def restore(self) -> None:
        """Begin again: with the first weights, and the states at zero."""

    def call(self) -> Any:
        """Make the call that is timed."""

    def answer(self) -> Any:
        """Return what the program has computed, from its beginning on."""


class Requests:
    """The requests that a worker knows are the methods of this class."""

    def __init__(self, build: Callable[[Order], Any]) -> None:
        self._build = build
        self._programs: dict[int, Program] = {}

    def build(self, number: int, order: Order) -> None:
        """Make a program ready under a number."""
        self._programs[number] = self._build(order)

    def answer(self, number: int) -> Any:
        """Return the answer of a program."""
        return self._programs[number].answer()

    def time(self, number: int, calls: int) -> float:
        """Return the seconds per call of so many calls in a row."""
        program = self._programs[number]
        program.restore()
        call = program.call
        gc.collect()
        gc.disable()
        try:
            start = time.perf_counter()
            for _ in range(calls):
                call()
            return (time.perf_counter() - start) / calls
        finally:
            gc.enable()

    def save(self, order: Order, path: str) -> None:
        """Write the model of a program as a file of Keras."""
        self._build(order).model.save(path)

    def forget(self) -> None:
        """Drop all programs."""
        self._programs.clear()
        gc.collect()


def serve(pipe: Connection, build: Callable[[Order], Any]) -> None:
    """Answer requests until nobody can ask any more."""
    requests = Requests(build)
    while True:
        try:
            name, arguments = pipe.recv()
        except EOFError:
            return
        try:
            answer = True, getattr(requests, name)(*arguments)
        except Exception:  # noqa: BLE001  # it is told to the one who asked
            answer = False, traceback.format_exc(limit=-4)
        pipe.send(answer)


def main() -> None:
    """Serve with what the command line says."""
    descriptor, way, threads = sys.argv[1:]
    serve(Connection(int(descriptor)), start(way, int(threads)))
    sys.stdout.flush()
    os._exit(0)  # frameworks take seconds to tidy up, and nothing is left to be kept


if __name__ == "__main__":
    main()

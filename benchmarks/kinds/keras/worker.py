"""A process of its own for each backend of Keras, and one without Keras.

A process can have one backend of Keras only. So each backend, treadle's included, has a worker. It
is pinned to the same CPUs as this process, which it inherits, and gets the same number of threads.
It reads a request from a pipe, does it, times itself where that is asked for, and answers; then it
waits in a read, so that no two processes compute at a time. `child.py` is what it runs.

A worker that dies closes its end of the pipe, and the read here raises: nothing waits forever.
"""

from __future__ import annotations

import atexit
import subprocess
import sys
import tempfile
from multiprocessing.connection import Pipe
from typing import IO, Any

from ...core.measure import Remote
from .data import Order

TAIL = 2000  # characters of a dead worker's last words


class Failed(RuntimeError):
    """A worker has died, or what it was asked for has raised an exception there."""


class Worker:
    """The process that runs the programs in one way, one of `ways.WAYS`."""

    def __init__(self, way: str, threads: int) -> None:
        """Start the process; the first request waits until it is there."""
        self.way = way
        self._built = 0
        self._pipe, theirs = Pipe()
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # see close
        command = [sys.executable, "-m", f"{__package__}.child"]
        try:
            self._process = subprocess.Popen(
                [*command, str(theirs.fileno()), way, str(threads)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._said,
                stderr=subprocess.STDOUT,
            )
        finally:
            theirs.close()  # the worker's death then closes the last one

    def ask(self, request: str, *arguments: Any) -> Any:
        """Return the answer to a request. Failed says what went wrong instead."""
        try:
            self._pipe.send((request, arguments))
            worked, answer = self._pipe.recv()
        except (EOFError, ConnectionError, BrokenPipeError):
            raise Failed(self._last_words()) from None
        if not worked:
            raise Failed(f"treadle bench: {self.way}: {answer}")
        return answer

    def build(self, order: Order) -> Remote:
        """Let the worker build a program, and return its call."""
        self._built += 1
        number = self._built
        self.ask("build", number, order)
        return Remote(
            lambda: self.ask("answer", number), lambda calls: float(self.ask("time", number, calls))
        )

    def save(self, order: Order, path: str) -> None:
        """Let the worker build a program and write its model as a file of Keras."""
        self.ask("save", order, path)

    def close(self) -> None:
        """End the process: it stops where nobody can ask any more."""
        self._pipe.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._said.close()

    def _last_words(self) -> str:
        status = self._process.wait()
        self._said.seek(0)
        said = self._said.read().decode("utf-8", "replace").strip()[-TAIL:]
        return f"treadle bench: the process of {self.way} ended with status {status}: {said or '-'}"


_WORKERS: dict[tuple[str, int], Worker] = {}


def worker(way: str, threads: int) -> Worker:
    """Return the worker of a way, which is started when it is asked for first."""
    key = way, threads
    if key not in _WORKERS:
        _WORKERS[key] = Worker(way, threads)
    return _WORKERS[key]


def forget(way: str) -> None:
    """Let the workers of a way drop what they have built."""
    for (name, _), one in _WORKERS.items():
        if name == way:
            one.ask("forget")


@atexit.register
def close_all() -> None:
    """End every worker."""
    while _WORKERS:
        _WORKERS.popitem()[1].close()

"""This module measures how fast the machine multiplies and reads, and names its caches."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from .dtypes import FLOAT32
from .machine import Cache

SMALLEST_BUFFER = 16 * 1024


class Meter:
    """A meter measures the machine with `threads` threads at once, through treadle._core."""

    def __init__(self, core: Any, threads: int) -> None:
        self._core = core
        self.threads = threads

    def peak(self, seconds: float = 0.05, dtype: str = FLOAT32) -> float:
        """Return the FLOP/s of a format's multiply-adds, of all threads together."""
        return self._together(lambda: self._core.multiply_peak(seconds, dtype))

    def bandwidth(self, nbytes: int, seconds: float = 0.05) -> float:
        """Return the bytes/s of all threads, each reading its share of a buffer of `nbytes`."""
        share = max(nbytes // self.threads, SMALLEST_BUFFER)
        return self._together(lambda: self._core.read_bandwidth(share, seconds))

    def _together(self, measure: Callable[[], float]) -> float:
        if self.threads == 1:
            return measure()
        rates: list[float] = []
        start = threading.Barrier(self.threads)

        def work() -> None:
            start.wait()
            rates.append(measure())

        workers = [threading.Thread(target=work) for _ in range(self.threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return sum(rates)


def levels(caches: list[Cache], threads: int) -> list[tuple[str, int]]:
    """Return (name, bytes) of a working set per level: half of a cache, four times the last."""
    found = [(c.name, c.capacity(threads) // 2) for c in caches]
    last = max((c.size for c in caches), default=32 << 20)
    return [*found, ("DRAM", 4 * last)]


def level_of(nbytes: int, caches: list[Cache], threads: int) -> str:
    """Return the name of the level that holds `nbytes`."""
    for cache in caches:
        if nbytes <= cache.capacity(threads):
            return cache.name
    return "DRAM"

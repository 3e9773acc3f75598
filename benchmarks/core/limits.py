"""This module says what bounds a case, and measures how fast the machine does each part of it.

Four things cannot be avoided. The weights have to be read, at the bandwidth of what holds them, and
multiplied, at the peak of the multiply-adds: each product takes at least the longer of the two. The
steps of a recurrent net depend on each other, so that its products also take at least as long as
the chain of the steps. And somebody has to call. Hence

    limit = call + max(sum over products of max(reading, multiplying), chain)
"""

from __future__ import annotations

import functools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .dtypes import FLOAT32
from .machine import Cache

SMALLEST_BUFFER = 16 * 1024
CELLS = ("rnn", "lstm", "gru")
TANH = "tanh"
CALLS = 100  # between two looks at the clock
TRIES = 5  # others who take the CPU for a while disturb one of them or two, and the least counts

FMA, CHAIN, CALL = "FMA", "chain", "call"  # the names of what binds a case, beside the caches


@dataclass(frozen=True)
class Rates:
    """The rates of the machine while a case was timed, from which its limit follows."""

    peak: float
    """FLOP/s of the multiply-adds in the format of the case."""
    bandwidth: Callable[[int], float]
    """Bytes per second at which so many bytes are read again and again, forth and back."""
    chain: Callable[[str, str], float] = lambda cell, activation: 0.0
    """Seconds for which a step of a cell with this activation waits for the step before."""
    call: float = 0.0
    """Seconds of a call from Python that does nearly nothing."""


class Pass(NamedTuple):
    """Bytes that are read and FLOPs that they take part in, so many times in a call."""

    nbytes: int
    resident: int  # bytes that have to stay in a cache for the next time
    flops: float
    times: int = 1


@dataclass(frozen=True)
class Limit:
    """The time below which a case cannot go, in seconds, by what it is spent on."""

    products: dict[int | str, float]
    """Reading buffers by their size, and multiplying as "FMA"."""
    chain: float
    call: float

    @property
    def work(self) -> float:
        """Return the time of the products alone."""
        return sum(self.products.values())

    @property
    def seconds(self) -> float:
        """Return the limit."""
        return self.call + max(self.work, self.chain)

    @property
    def bound_by(self) -> int | str:
        """Return what most of the limit is: the size of a buffer, "FMA", "chain" or "call"."""
        if self.call > max(self.work, self.chain):
            return CALL
        if self.chain > self.work:
            return CHAIN
        return max(self.products, key=self.products.__getitem__)


def limit_of(passes: Iterable[Pass], rates: Rates, chain: float = 0.0) -> Limit:
    """Return the limit of products and of a chain of so many seconds, in one call from Python."""
    products: Counter[int | str] = Counter()
    for one in passes:
        reading = one.nbytes / rates.bandwidth(one.resident) if one.nbytes else 0.0
        multiplying = one.flops / rates.peak
        name = one.resident if reading > multiplying else FMA
        products[name] += one.times * max(reading, multiplying)  # type: ignore[assignment]
    return Limit(dict(products), chain, rates.call)


def repeated(passes: Iterable[Pass], times: int) -> list[Pass]:
    """Return the passes of as many calls in one."""
    return [one._replace(times=times * one.times) for one in passes]


def both_ways(passes: Iterable[Pass]) -> list[Pass]:
    """Return the passes of training from those of the forward pass.

    The gradients of what enters a product take as long as the product. Those of its weights take as
    many multiply-adds, of all steps at once, and read no weights.
    """
    forward = list(passes)
    return [*repeated(forward, 2), Pass(0, 0, sum(one.times * one.flops for one in forward))]


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

    def chain(
        self, cell: str, activation: str = TANH, seconds: float = 0.02, dtype: str = FLOAT32
    ) -> float:
        """Return the seconds for which a step waits for the one before; threads are of no use."""
        chain = functools.partial(self._core.step_chain, cell, activation, seconds / TRIES, dtype)
        return min(float(chain()) for _ in range(TRIES))

    def call(self, seconds: float = 0.02) -> float:
        """Return the seconds of the shortest call that reads an array and writes another.

        It copies one number; a call that also makes the array that it returns takes longer.
        """
        x, y = np.zeros((1, 1), np.float32), np.zeros((1, 1), np.float32)
        function = self._core.turn
        least, turns, now = float("inf"), 0, time.perf_counter()
        end = now + seconds
        while now < end or turns < TRIES:
            start = now
            for _ in range(CALLS):
                function("bench", x, y)
            now = time.perf_counter()
            least, turns = min(least, (now - start) / CALLS), turns + 1
        return least

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

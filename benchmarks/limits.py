"""How fast the machine could do a case, and the bars treadle is held to.

Weights have to be read and multiplied, and neither can be avoided: a product takes at least the
larger of (bytes of its weights / read bandwidth) and (FLOPs / FMA peak), once per pass over the
weights. A sequence passes once over the input weights, for all T*B rows together, and T times over
the recurrent weights. A single step passes once over everything.

The bandwidth is that of the level of the memory hierarchy that holds the weights: it is measured,
in the same run, on a buffer of the size of what is read again and again, i.e. the recurrent weights
of a layer and direction in a sequence, all weights in a step that is repeated. With several threads
each reads its share, at the same time.

In bfloat16 and int8 a weight has two bytes and one, scales not counted, and the peak is that of the
format's multiply-adds: FMA stands for them, too.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from .cases import Case
from .dtypes import BYTES, FLOAT32
from .machine import Cache

SMALLEST_BUFFER = 16 * 1024

STEP_FACTOR = 1.3
STEP_ALLOWANCE = 1.5e-6  # one call from Python
SEQUENCE_SHARE = 0.8
BATCH_SHARE = 0.9
# In bfloat16 and int8: of the peak, for B >= 32 and H >= 256, quantisation included; and one step.
NARROW_SHARE = {"bfloat16": 0.85, "int8": 0.7}
INT8_STEP = 3e-6  # seconds, LSTM, H = 128


class Product(NamedTuple):
    """Rows times one weight matrix."""

    nbytes: int  # of the weights
    resident: int  # bytes that have to stay in the cache between two passes
    row_flops: int
    passes: tuple[tuple[int, int], ...]  # (rows, how many passes have that many)


def products(case: Case) -> list[Product]:
    """Every product of one call."""
    outer = case.gates * case.H
    if case.lengths:
        live = Counter(sum(t < length for length in case.lengths) for t in range(case.T))
        live.pop(0, None)
        steps = tuple(sorted(live.items()))
    else:
        steps = ((case.B, case.T),)
    rows = sum(count * times for count, times in steps)
    width = BYTES[case.dtype]
    found = []
    for layer in range(case.L):
        fed, back = outer * case.input_size(layer), outer * case.output_size
        projection = case.P * case.H
        if case.carried:
            sizes = [(fed + back + projection, steps)]
        else:
            sizes = [(fed, ((rows, 1),)), (back + projection, steps)]
        for size, passes in sizes:
            found += [Product(size * width, size * width, 2 * size, passes)] * case.D
    if case.carried:
        total = sum(p.nbytes for p in found)
        found = [p._replace(resident=total) for p in found]
    return found


def flops(case: Case) -> int:
    """Floating-point operations of the products of one call; gates are not counted."""
    return sum(p.row_flops * rows * times for p in products(case) for rows, times in p.passes)


def bytes_read(case: Case) -> int:
    """Bytes of weights read by one call."""
    return sum(p.nbytes * times for p in products(case) for _, times in p.passes)


def weight_bytes(case: Case) -> int:
    """Bytes of all weight matrices."""
    return sum(p.nbytes for p in products(case))


def buffer_sizes(case: Case) -> list[int]:
    """Sizes whose read bandwidth `limit_seconds` asks for."""
    return sorted({p.resident for p in products(case)})


def limit_seconds(case: Case, peak: float, bandwidth: Callable[[int], float]) -> float:
    """The limit; `peak` in FLOP/s, `bandwidth(bytes)` in bytes/s."""
    return sum(
        times * max(p.nbytes / bandwidth(p.resident), p.row_flops * rows / peak)
        for p in products(case)
        for rows, times in p.passes
    )


def tightest(case: Case, peak: float, bandwidth: Callable[[int], float]) -> int | None:
    """What most of the limit is: reading a buffer of the returned size, or FMA (None)."""
    shares: Counter[int | None] = Counter()
    for p in products(case):
        reading = p.nbytes / bandwidth(p.resident)
        for rows, times in p.passes:
            multiplying = p.row_flops * rows / peak
            kind = p.resident if reading > multiplying else None
            shares[kind] += times * max(reading, multiplying)  # type: ignore[assignment]
    return max(shares, key=lambda kind: shares[kind])


@dataclass(frozen=True)
class Bar:
    """What a case has to reach."""

    name: str
    allowed: float  # seconds


def bar(
    case: Case, limit: float, peak: float, bandwidth: Callable[[int], float] | None = None
) -> Bar | None:
    """The project's bar for this case, None where it has none but to beat the peers."""
    if case.dtype != FLOAT32:
        return _narrow_bar(case, peak)
    if case.lengths:
        return None  # held against its own padded time, in bars.py
    if case.B == 1 and case.T > 1:
        return Bar(f"{SEQUENCE_SHARE:.0%} of limit", limit / SEQUENCE_SHARE)
    if case.B >= 16 and case.H >= 256:
        return Bar(f"{BATCH_SHARE:.0%} of peak", flops(case) / (BATCH_SHARE * peak))
    if case.T == case.B == case.L == 1 and case.I == case.H and 32 <= case.H <= 1024:
        allowed = STEP_FACTOR * limit + STEP_ALLOWANCE
        return Bar(f"{STEP_FACTOR:g} x limit + {STEP_ALLOWANCE * 1e6:g} us", allowed)
    return None


def _narrow_bar(case: Case, peak: float) -> Bar | None:
    """Steps are held against float32, in narrow.py, and one also against the clock."""
    if case.B >= 32 and case.H >= 256:
        share = NARROW_SHARE[case.dtype]
        return Bar(f"{share:.0%} of peak", flops(case) / (share * peak))
    if case.dtype == "int8" and case.carried and (case.cell, case.H) == ("lstm", 128):
        return Bar(f"{INT8_STEP * 1e6:g} us", INT8_STEP)
    return None


class Meter:
    """Measures the machine with `threads` threads at the same time, through treadle._core."""

    def __init__(self, core: Any, threads: int) -> None:
        self._core = core
        self.threads = threads

    def peak(self, seconds: float = 0.05, dtype: str = FLOAT32) -> float:
        """FLOP/s of a format's multiply-adds, of all threads together."""
        return self._together(lambda: self._core.multiply_peak(seconds, dtype))

    def bandwidth(self, nbytes: int, seconds: float = 0.05) -> float:
        """Bytes/s of all threads together, each reading its share of a buffer of `nbytes`."""
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
    """(name, bytes) of a typical working set per level: half of a cache, four times the last."""
    found = [(c.name, c.capacity(threads) // 2) for c in caches]
    last = max((c.size for c in caches), default=32 << 20)
    return [*found, ("DRAM", 4 * last)]


def level_of(nbytes: int, caches: list[Cache], threads: int) -> str:
    """Name of the level that holds `nbytes`."""
    for cache in caches:
        if nbytes <= cache.capacity(threads):
            return cache.name
    return "DRAM"

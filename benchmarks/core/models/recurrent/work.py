"""This module says how much work one call of a recurrent net is, and how fast the machine could do
it.

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

from collections import Counter
from typing import NamedTuple

from ...dtypes import BYTES
from ...kind import Bandwidth
from .case import NetCase


class Product(NamedTuple):
    """Rows times one weight matrix."""

    nbytes: int  # of the weights
    resident: int  # bytes that have to stay in the cache between two passes
    row_flops: int
    passes: tuple[tuple[int, int], ...]  # (rows, how many passes have that many)


def products(case: NetCase) -> list[Product]:
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


def flops(case: NetCase) -> int:
    """Floating-point operations of the products of one call; gates are not counted."""
    return sum(p.row_flops * rows * times for p in products(case) for rows, times in p.passes)


def bytes_read(case: NetCase) -> int:
    """Bytes of weights read by one call."""
    return sum(p.nbytes * times for p in products(case) for _, times in p.passes)


def weight_bytes(case: NetCase) -> int:
    """Bytes of all weight matrices."""
    return sum(p.nbytes for p in products(case))


def buffer_sizes(case: NetCase) -> list[int]:
    """Sizes whose read bandwidth `limit_seconds` asks for."""
    return sorted({p.resident for p in products(case)})


def limit_seconds(case: NetCase, peak: float, bandwidth: Bandwidth) -> float:
    """The limit; `peak` in FLOP/s, `bandwidth(bytes)` in bytes/s."""
    return sum(
        times * max(p.nbytes / bandwidth(p.resident), p.row_flops * rows / peak)
        for p in products(case)
        for rows, times in p.passes
    )


def tightest(case: NetCase, peak: float, bandwidth: Bandwidth) -> int | None:
    """Return the size of the buffer whose reading takes most of the limit, or None for FMA."""
    shares: Counter[int | None] = Counter()
    for p in products(case):
        reading = p.nbytes / bandwidth(p.resident)
        for rows, times in p.passes:
            multiplying = p.row_flops * rows / peak
            kind = p.resident if reading > multiplying else None
            shares[kind] += times * max(reading, multiplying)  # type: ignore[assignment]
    return max(shares, key=lambda kind: shares[kind])

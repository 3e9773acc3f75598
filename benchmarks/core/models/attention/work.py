"""This module says how much work attention is, and how fast the machine could do it.

Every (query, key) pair that takes part costs 2 E + 2 E FLOPs per head; a causal mask, a length or a
window leaves pairs out. With few queries the keys and values have to be read, once each: the limit
is the larger of the two. Exponentials are not counted.
"""

from __future__ import annotations

from ...dtypes import BYTES, FLOAT32
from ...kind import Bandwidth
from .case import AttentionCase

FEW_QUERIES = 16  # up to so many (times the heads that share a key), reading may be the limit


def flops(case: AttentionCase) -> int:
    """Return the FLOPs of both products."""
    return 4 * case.E * case.N * case.pairs()


def bytes_read(case: AttentionCase) -> int:
    """Return the bytes of the keys and values that take part."""
    return 2 * BYTES[FLOAT32] * case.E * case.kv_heads * sum(case.key_lengths)


def buffer_sizes(case: AttentionCase) -> list[int]:
    """Return the size whose bandwidth counts, if any does."""
    return [bytes_read(case)] if case.S <= FEW_QUERIES else []


def limit_seconds(case: AttentionCase, peak: float, bandwidth: Bandwidth) -> float:
    """Return the limit, with `peak` in FLOP/s, `bandwidth(bytes)` in bytes/s."""
    reading = [size / bandwidth(size) for size in buffer_sizes(case)]
    return max(flops(case) / peak, *reading, 0.0)


def tightest(case: AttentionCase, peak: float, bandwidth: Bandwidth) -> int | None:
    """Return the size of the buffer whose reading is the limit; None means that FMA is."""
    for size in buffer_sizes(case):
        if size / bandwidth(size) > flops(case) / peak:
            return size
    return None

"""How fast the machine could attend, and the bars.

Every (query, key) pair that takes part costs 2 E + 2 E FLOPs per head; a causal mask, a length or a
window leaves pairs out. With few queries the keys and values have to be read, once each: the limit
is the larger of the two. Exponentials are not counted.
"""

from __future__ import annotations

from collections.abc import Callable

from ..dtypes import BYTES, FLOAT32
from ..limits import Bar
from .cases import AttentionCase

FEW_QUERIES = 16  # up to so many (times the heads that share a key), reading may be the limit
LONG, LONG_SHARE = 512, 0.85
SHORT, SHORT_SHARE = 128, 0.75
DECODE_SHARE = 0.85


def flops(case: AttentionCase) -> int:
    """Of both products."""
    return 4 * case.E * case.N * case.pairs()


def bytes_read(case: AttentionCase) -> int:
    """Of the keys and values that take part."""
    return 2 * BYTES[FLOAT32] * case.E * case.kv_heads * sum(case.key_lengths)


def buffer_sizes(case: AttentionCase) -> list[int]:
    """The size whose bandwidth counts, if any."""
    return [bytes_read(case)] if case.S <= FEW_QUERIES else []


def limit_seconds(case: AttentionCase, peak: float, bandwidth: Callable[[int], float]) -> float:
    """The limit; `peak` in FLOP/s, `bandwidth(bytes)` in bytes/s."""
    reading = [size / bandwidth(size) for size in buffer_sizes(case)]
    return max(flops(case) / peak, *reading, 0.0)


def tightest(case: AttentionCase, peak: float, bandwidth: Callable[[int], float]) -> int | None:
    """The buffer whose reading is the limit, or None: FMA."""
    for size in buffer_sizes(case):
        if size / bandwidth(size) > flops(case) / peak:
            return size
    return None


def bar(
    case: AttentionCase, limit: float, peak: float, bandwidth: Callable[[int], float]
) -> Bar | None:
    """The project's bar for the shapes of the speed goal, None for the others.

    Decoding from memory is bound by its bandwidth, unless many heads share few keys: then the bar is
    the same share of the limit.
    """
    if not case.goal or case.causal:  # causal: held against the full one, in bars.py
        return None
    if case.decoding:
        return Bar(f"{DECODE_SHARE:.0%} of bandwidth", limit / DECODE_SHARE)
    share = LONG_SHARE if case.S >= LONG else SHORT_SHARE if case.S >= SHORT else 0.0
    return Bar(f"{share:.0%} of peak", flops(case) / peak / share) if share else None

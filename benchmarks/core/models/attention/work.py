"""This module says how much work attention is, and how fast the machine could do it.

Every (query, key) pair that takes part costs 2 E + 2 E FLOPs per head; a causal mask, a length or a
window leaves pairs out. With few queries the keys and values have to be read, once each: the limit
is the larger of the two. Exponentials are not counted.
"""

from __future__ import annotations

from ...dtypes import BYTES, FLOAT32
from ...limits import Limit, Pass, Rates, limit_of
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


def passes(case: AttentionCase) -> list[Pass]:
    """Return the only pass: keys and values are read where that may be the limit."""
    size = sum(buffer_sizes(case))
    return [Pass(size, size, flops(case))]


def limit(case: AttentionCase, rates: Rates) -> Limit:
    """Return the limit."""
    return limit_of(passes(case), rates)

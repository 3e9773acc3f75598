"""treadle itself: `functional.scaled_dot_product_attention`, and `KVCache.attend` for decoding."""

from __future__ import annotations

import functools

import numpy as np

import treadle

from ...attention.cases import AttentionCase
from ...data import Array
from .. import Prepared


def variants(case: AttentionCase, threads: int) -> tuple[str, ...]:
    """A new array at each call, or the same one: peers have theirs bound, too."""
    return ("KVCache",) if case.decoding else ("function", "function, out")


def release() -> None:
    """Nothing outlives what `prepare` returned."""


def prepare(
    case: AttentionCase, q: Array, k: Array, v: Array, threads: int, variant: str
) -> Prepared:
    """A call that returns the result."""
    lengths = np.array(case.lengths, np.int64) if case.lengths else None
    if case.decoding:
        cache = treadle.KVCache(case.B, case.kv_heads, case.E, case.K)
        cache.append(k, v, lengths)
        return Prepared(functools.partial(cache.attend, q), np.asarray)
    call = functools.partial(
        treadle.functional.scaled_dot_product_attention,
        q,
        k,
        v,
        is_causal=case.causal,
        enable_gqa=case.kv_heads != case.N,
        lengths=None if lengths is None else (lengths, lengths),
        out=np.empty((case.B, case.N, case.S, case.E), np.float32) if "out" in variant else None,
    )
    return Prepared(call, np.asarray)

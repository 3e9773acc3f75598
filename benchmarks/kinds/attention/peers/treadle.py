"""treadle itself runs `scaled_dot_product_attention`, and `KVCache.attend` for decoding."""

from __future__ import annotations

import functools

import numpy as np

import treadle

from ....core.dtypes import Array
from ....core.kind import Prepared
from ....core.models.attention.case import AttentionCase, AttentionInputs


def variants(case: AttentionCase, threads: int) -> tuple[str, ...]:
    """Return the calls with a new array each time and with the same one: peers bind theirs, too."""
    return ("KVCache",) if case.decoding else ("function", "function, out")


def release() -> None:
    """Do nothing: nothing outlives what `prepare` returned."""


def prepare(
    case: AttentionCase, inputs: AttentionInputs, threads: int, variant: str
) -> Prepared[Array]:
    """Return a call that returns the result."""
    q, k, v = inputs
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

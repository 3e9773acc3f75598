"""JAX: jax.nn.dot_product_attention, jitted, in its own layout [B, S, N, E].

Lengths and the causal mask are its arguments. The other layout would need transpositions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...attention.cases import AttentionCase
from ...data import Array
from .. import Prepared
from . import other_way, other_ways


def variants(case: AttentionCase, threads: int) -> tuple[str, ...]:
    """Ways that give the right answer."""
    return ("dot_product_attention", *other_ways(case))


def release() -> None:
    """Compiled programs stay in JAX's cache otherwise."""
    import jax

    jax.clear_caches()


def prepare(
    case: AttentionCase, q: Array, k: Array, v: Array, threads: int, variant: str
) -> Prepared:
    """A compiled function and its arguments on the device."""
    import jax

    other = other_way(prepare, case, (q, k, v), threads, variant, "dot_product_attention")
    if other is not None:
        return other
    more: dict[str, Any] = {"is_causal": case.causal}
    if case.lengths:
        more["key_value_seq_lengths"] = np.array(case.lengths, np.int32)

    def attend(query: Any, key: Any, value: Any) -> Any:
        return jax.nn.dot_product_attention(query, key, value, **more)

    compiled = jax.jit(attend)
    parts = jax.device_put([np.ascontiguousarray(part.swapaxes(1, 2)) for part in (q, k, v)])
    return Prepared(
        lambda: compiled(*parts).block_until_ready(), lambda y: np.asarray(y).swapaxes(1, 2)
    )

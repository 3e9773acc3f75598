"""JAX runs jax.nn.dot_product_attention, jitted, in its own layout [B, S, N, E].

Lengths and the causal mask are its arguments. The other layout would need transpositions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ....core.dtypes import Array
from ....core.kind import Prepared
from ....core.models.attention.case import AttentionCase, AttentionInputs
from ....core.peers.jax import release
from . import other_way, other_ways

__all__ = ["prepare", "release", "variants"]


def variants(case: AttentionCase, threads: int) -> tuple[str, ...]:
    """Return the names of the ways to compute the case, of which the fastest is timed."""
    return ("dot_product_attention", *other_ways(case))


def prepare(
    case: AttentionCase, inputs: AttentionInputs, threads: int, variant: str
) -> Prepared[Array]:
    """Compile a function and put its arguments on the device."""
    import jax

    other = other_way(prepare, case, inputs, threads, variant, "dot_product_attention")
    if other is not None:
        return other
    more: dict[str, Any] = {"is_causal": case.causal}
    if case.lengths:
        more["key_value_seq_lengths"] = np.array(case.lengths, np.int32)

    def attend(query: Any, key: Any, value: Any) -> Any:
        return jax.nn.dot_product_attention(query, key, value, **more)

    compiled = jax.jit(attend)
    parts = jax.device_put([np.ascontiguousarray(part.swapaxes(1, 2)) for part in inputs])
    return Prepared(
        lambda: compiled(*parts).block_until_ready(), lambda y: np.asarray(y).swapaxes(1, 2)
    )

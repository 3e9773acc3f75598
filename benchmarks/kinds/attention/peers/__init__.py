"""Each peer has a module for scaled dot-product attention; all peers share two more ways."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ....core.dtypes import Array
from ....core.kind import Prepared
from ....core.models.attention.case import AttentionCase, AttentionInputs

# The function of that name of a peer: (case, inputs, threads, variant).
Prepare = Callable[[AttentionCase, AttentionInputs, int, str], Prepared[Array]]

ROWS = "row by row"
FOLDED = "folded"


def other_ways(case: AttentionCase) -> tuple[str, ...]:
    """Return the variants that every peer has, `ROWS` and `FOLDED`, where they make sense."""
    found = [ROWS] if case.lengths else []
    if case.decoding and case.kv_heads != case.N:
        found.append(FOLDED)
    return tuple(found)


def other_way(
    prepare: Prepare,
    case: AttentionCase,
    inputs: AttentionInputs,
    threads: int,
    variant: str,
    inner: str,
) -> Prepared[Array] | None:
    """Make one of `other_ways` around the variant `inner`; None means that it is none of them."""
    if variant == ROWS:
        return by_rows(prepare, case, inputs, threads, inner)
    return folded(prepare, case, inputs, threads, inner) if variant == FOLDED else None


def folded(
    prepare: Prepare,
    case: AttentionCase,
    inputs: AttentionInputs,
    threads: int,
    variant: str,
) -> Prepared[Array]:
    """Decode with grouped heads: the queries that share keys become queries of one head.

    A user can do so where an operator would repeat the keys; there is no mask in the way.
    """
    q, k, v = inputs
    group = case.N // case.kv_heads
    made = dataclasses.replace(case, N=case.kv_heads, Nk=0, S=group)
    queries = q.reshape(case.B, case.kv_heads, group, case.E)
    call = prepare(made, (queries, k, v), threads, variant)
    return Prepared(call.run, lambda result: call.outputs(result).reshape(q.shape))


def by_rows(
    prepare: Prepare,
    case: AttentionCase,
    inputs: AttentionInputs,
    threads: int,
    variant: str,
) -> Prepared[Array]:
    """Make one call per row of a padded batch, cut to its length.

    That is often faster than one call with a mask. The outputs are left apart; a user would have to
    put them together.
    """
    q, k, v = inputs
    calls = []
    for b, (queries, keys) in enumerate(zip(case.query_lengths, case.key_lengths, strict=True)):
        row = dataclasses.replace(case, B=1, S=queries, K=keys, lengths=())
        parts = (
            np.ascontiguousarray(q[b : b + 1, :, :queries]),
            np.ascontiguousarray(k[b : b + 1, :, :keys]),
            np.ascontiguousarray(v[b : b + 1, :, :keys]),
        )
        calls.append(prepare(row, parts, threads, variant))

    def outputs(results: list[Any]) -> Array:
        y = np.zeros_like(q)
        for b, (call, result) in enumerate(zip(calls, results, strict=True)):
            found = call.outputs(result)
            y[b, :, : found.shape[2]] = found[0]
        return y

    return Prepared(lambda: [call.run() for call in calls], outputs)


if TYPE_CHECKING:  # a type checker holds every peer to the protocol here
    from ....core.kind import Peer
    from . import jax, onnxruntime, openvino, torch, treadle

    _PEERS: tuple[Peer[AttentionCase, AttentionInputs, Array], ...] = (
        treadle,
        torch,
        onnxruntime,
        openvino,
        jax,
    )

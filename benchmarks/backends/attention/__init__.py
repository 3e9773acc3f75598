"""Scaled dot-product attention on every peer; see backends/__init__.py for the functions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from ...attention.cases import AttentionCase
from ...data import Array
from .. import Prepared

ROWS = "row by row"
FOLDED = "folded"


def other_ways(case: AttentionCase) -> tuple[str, ...]:
    """Variants that every peer has: `by_rows` and `folded`, where they make sense."""
    found = [ROWS] if case.lengths else []
    if case.decoding and case.kv_heads != case.N:
        found.append(FOLDED)
    return tuple(found)


def other_way(
    prepare: Callable[..., Prepared],
    case: AttentionCase,
    inputs: tuple[Array, Array, Array],
    threads: int,
    variant: str,
    inner: str,
) -> Prepared | None:
    """One of `other_ways` around the variant `inner`; None if `variant` is none of them."""
    if variant == ROWS:
        return by_rows(prepare, case, inputs, threads, inner)
    return folded(prepare, case, inputs, threads, inner) if variant == FOLDED else None


def folded(
    prepare: Callable[..., Prepared],
    case: AttentionCase,
    inputs: tuple[Array, Array, Array],
    threads: int,
    variant: str,
) -> Prepared:
    """Decoding with grouped heads: the queries that share keys as so many queries of one head.

    What a user can do where an operator would repeat the keys; there is no mask in the way.
    """
    q, k, v = inputs
    group = case.N // case.kv_heads
    made = dataclasses.replace(case, N=case.kv_heads, Nk=0, S=group)
    queries = q.reshape(case.B, case.kv_heads, group, case.E)
    call = prepare(made, queries, k, v, threads, variant)
    return Prepared(call.run, lambda result: call.outputs(result).reshape(q.shape))


def by_rows(
    prepare: Callable[..., Prepared],
    case: AttentionCase,
    inputs: tuple[Array, Array, Array],
    threads: int,
    variant: str,
) -> Prepared:
    """One call per row of a padded batch, cut to its length; often faster than one with a mask.

    The outputs are left apart; a user would have to put them together.
    """
    q, k, v = inputs
    calls = []
    for b, (queries, keys) in enumerate(zip(case.query_lengths, case.key_lengths, strict=True)):
        row = dataclasses.replace(case, B=1, S=queries, K=keys, lengths=())
        parts = (q[b : b + 1, :, :queries], k[b : b + 1, :, :keys], v[b : b + 1, :, :keys])
        calls.append(prepare(row, *map(np.ascontiguousarray, parts), threads, variant))

    def outputs(results: list[Any]) -> Array:
        y = np.zeros_like(q)
        for b, (call, result) in enumerate(zip(calls, results, strict=True)):
            found = call.outputs(result)
            y[b, :, : found.shape[2]] = found[0]
        return y

    return Prepared(lambda: [call.run() for call in calls], outputs)

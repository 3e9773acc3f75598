"""This module makes the answer that every peer is held to: softmax(q k' / sqrt(E)) v in float64.

It does so for some of the queries. As for the recurrent nets the tolerance comes from a second run
in float32 with the errors that an implementation may have put in: those of the sums, and `EXP_ULPS`
units in the last place of each exponential. Rows of q stand for all, since they are independent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...core.dtypes import Array
from ...core.errors import EPS, Exact, Plain
from ...core.models.attention.case import EXP_ULPS, AttentionCase, AttentionInputs

PAIRS = 4  # (row of the batch, head) that are checked
QUERIES = 24  # of each of them


@dataclass(frozen=True)
class Expected:
    """The answer [R, E] for the queries (b, n, s)."""

    where: tuple[Array, Array, Array]
    values: Array
    tolerance: float


def _queries(case: AttentionCase) -> list[tuple[int, int, Array]]:
    """Return the (b, n, rows s) that are checked."""
    flat = np.unique(np.linspace(0, case.B * case.N - 1, PAIRS).round().astype(int))
    found = []
    for index in flat:
        b, n = divmod(int(index), case.N)
        last = case.query_lengths[b] - 1
        found.append((b, n, np.unique(np.linspace(0, last, QUERIES).round().astype(int))))
    return found


def _attend(case: AttentionCase, q: Array, k: Array, v: Array, rows: Array, e: Exact) -> Array:
    """Attend with q [R, E] to the keys [K, E] of one head.

    `rows` has the positions of the queries.
    """
    q, k, v = (part.astype(e.dtype) for part in (q, k, v))
    scores = e.total(q @ k.T, case.E) * e.dtype(case.E**-0.5)
    if case.causal:
        scores = np.where(np.arange(len(k)) <= rows[:, None], scores, -np.inf)
    probabilities = np.exp(scores - scores.max(-1, keepdims=True))
    if isinstance(e, Plain):
        noise = np.random.default_rng(5).random(probabilities.shape, dtype=np.float32) * 2 - 1
        probabilities *= 1 + EXP_ULPS * np.float32(EPS) * noise
    # Sums of positive terms: partial sums grow like k and not like sqrt(k).
    total = probabilities.sum(-1, keepdims=True)
    relative = (probabilities / total).astype(e.dtype)
    return e.total(relative @ v, len(k))


def expected(case: AttentionCase, inputs: AttentionInputs) -> Expected:
    """Return the reference for some queries."""
    q, k, v = inputs
    group = case.N // case.kv_heads
    exact, plain, where = [], [], []
    off = Plain()
    for b, n, rows in _queries(case):
        keys = case.key_lengths[b]
        parts = (q[b, n, rows], k[b, n // group, :keys], v[b, n // group, :keys])
        exact.append(_attend(case, *parts, rows, Exact()))
        plain.append(_attend(case, *parts, rows, off))
        where.append(np.stack([np.full_like(rows, b), np.full_like(rows, n), rows]))
    right = np.concatenate(exact)
    error = float(np.abs(np.concatenate(plain) - right).max())
    scale = max(1.0, float(np.abs(right).max()))
    at_b, at_n, at_s = np.concatenate(where, axis=1)
    return Expected((at_b, at_n, at_s), right, 2 * error + 4 * EPS * scale)


def worst_error(case: AttentionCase, want: Expected, got: Array) -> float:
    """Return the largest absolute difference; it is infinite for a wrong shape or a value that is
    not finite.

    A peer may leave anything in the rows of padded queries.
    """
    if got.shape != (case.B, case.N, case.S, case.E):
        return float("inf")
    rows = np.arange(case.S)[None, :] < np.array(case.query_lengths)[:, None]
    if not np.isfinite(got.transpose(0, 2, 1, 3)[rows]).all():
        return float("inf")
    return float(np.abs(got[want.where] - want.values).max())

"""Attention, forward and backward: its inputs, and the gradients of some heads in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..attention.reference import EXP_ULPS, make_inputs
from ..data import Array
from ..errors import EPS, Exact, Plain
from .cases import AttentionTrainingCase
from .reference import Gradients

HEADS = 4  # (row of the batch, head) that are checked, with all of their queries and keys

Inputs = tuple[Array, Array, Array]


def arguments(case: AttentionTrainingCase, seed: int = 7) -> tuple[Inputs, Array]:
    """(q, k, v), and dy [B, N, S, E], standard normal."""
    rng = np.random.default_rng(seed)
    dy = rng.standard_normal((case.B, case.N, case.S, case.E), dtype=np.float32)
    return make_inputs(case), dy


def picked(case: AttentionTrainingCase) -> Any:
    """The heads that are checked, b and n: they are independent, so some can stand for all."""
    flat = np.unique(np.linspace(0, case.B * case.N - 1, HEADS).round().astype(int))
    return np.divmod(flat, case.N)


def gradients(case: AttentionTrainingCase, inputs: Inputs, dy: Array, error: Exact) -> Gradients:
    """Those of sum(y * dy): "q", "k" and "v", [heads, S, E], of the heads that are picked."""
    at = picked(case)
    given = (part[at].astype(error.dtype) for part in (*inputs, dy))
    heads = [_head(case, *parts, error) for parts in zip(*given, strict=True)]
    return dict(zip("qkv", map(np.stack, zip(*heads, strict=True)), strict=True))


def _head(
    case: AttentionTrainingCase, q: Array, k: Array, v: Array, dy: Array, error: Exact
) -> tuple[Array, Array, Array]:
    scale = error.dtype(case.E**-0.5)
    scores = error.total(q @ k.T, case.E) * scale
    if case.causal:
        scores = np.where(np.tri(case.S, case.K, dtype=bool), scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    if isinstance(error, Plain):
        noise = np.random.default_rng(5).random(weights.shape, dtype=np.float32) * 2 - 1
        weights *= 1 + EXP_ULPS * np.float32(EPS) * noise
    weights /= weights.sum(-1, keepdims=True)
    d_weights = error.total(dy @ v.T, case.E)
    inner = error.total((d_weights * weights).sum(-1, keepdims=True), case.K)
    d_scores = weights * (d_weights - inner) * scale
    return (
        error.total(d_scores @ k, case.K),
        error.total(d_scores.T @ q, case.S),
        error.total(weights.T @ dy, case.S),
    )

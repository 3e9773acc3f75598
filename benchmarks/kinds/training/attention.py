"""This module draws the inputs of attention, and has the gradients of some heads in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...core.dtypes import Array
from ...core.errors import EPS, Exact, Plain
from ...core.models.attention.case import EXP_ULPS, AttentionInputs, make_inputs
from .cases import AttentionTrainingCase
from .reference import Gradients

HEADS = 4  # (row of the batch, head) that are checked, with all of their queries and keys


def arguments(case: AttentionTrainingCase, seed: int = 7) -> tuple[AttentionInputs, Array]:
    """Return (q, k, v), and dy [B, N, S, E], standard normal."""
    rng = np.random.default_rng(seed)
    dy = rng.standard_normal((case.B, case.N, case.S, case.E), dtype=np.float32)
    return make_inputs(case), dy


def picked(case: AttentionTrainingCase) -> Any:
    """Return the heads that are checked, b and n.

    They are independent, so some can stand for all.
    """
    flat = np.unique(np.linspace(0, case.B * case.N - 1, HEADS).round().astype(int))
    return np.divmod(flat, case.N)


def gradients(
    case: AttentionTrainingCase, inputs: AttentionInputs, dy: Array, error: Exact
) -> Gradients:
    """Return the gradients of sum(y * dy), "q", "k" and "v" [heads, S, E], of the picked heads."""
    at = picked(case)
    q, k, v, d_y = (part[at].astype(error.dtype) for part in (*inputs, dy))
    heads = [_head(case, *parts, error=error) for parts in zip(q, k, v, d_y, strict=True)]
    return dict(zip("qkv", map(np.stack, zip(*heads, strict=True)), strict=True))


def _head(
    case: AttentionTrainingCase, q: Array, k: Array, v: Array, dy: Array, error: Exact
) -> tuple[Array, Array, Array]:
    scale = error.dtype(case.E**-0.5)
    scores = error.total(q @ k.T, case.E) * scale
    if case.causal:
        scores = np.where(np.tri(case.S, case.K, dtype=bool), scores, -np.inf)
    probabilities = np.exp(scores - scores.max(-1, keepdims=True))
    if isinstance(error, Plain):
        noise = np.random.default_rng(5).random(probabilities.shape, dtype=np.float32) * 2 - 1
        probabilities *= 1 + EXP_ULPS * np.float32(EPS) * noise
    probabilities /= probabilities.sum(-1, keepdims=True)
    d_probabilities = error.total(dy @ v.T, case.E)
    inner = error.total((d_probabilities * probabilities).sum(-1, keepdims=True), case.K)
    d_scores = probabilities * (d_probabilities - inner) * scale
    return (
        error.total(d_scores @ k, case.K),
        error.total(d_scores.T @ q, case.S),
        error.total(probabilities.T @ dy, case.S),
    )

"""This module makes the answer that every peer is held to: BERT in NumPy, in float64.

As for the recurrent nets the tolerance comes from a second run with the errors put in that any
implementation in the dtype may have (core/errors.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ...core.dtypes import Array
from ...core.errors import Exact, Plain, errors_of, tolerance
from ...core.models.minilm.checkpoint import Layer, Model
from ...core.models.minilm.pooling import pooled
from ...core.models.minilm.text import tokenizer

ROWS = 3  # of a batch that are checked
SENTENCES = 12  # of the probe that are checked
_erf = np.vectorize(math.erf, otypes=[np.float64])


@dataclass(frozen=True)
class Expected:
    """The answers of some rows, [tokens, H] each, or [H] for sentences."""

    rows: tuple[int, ...]
    values: tuple[Array, ...]
    tolerance: float


def hidden(model: Model, ids: Array, e: Exact) -> Array:
    """Return the last hidden state [T, H] of one row of ids [T]."""
    x = model.words[ids].astype(e.dtype) + model.positions[: len(ids)].astype(e.dtype)
    x = _norm(x, model.norm, model.eps, e)
    for layer in model.layers:
        x = _norm(e.kept(x + _attention(model, layer, x, e)), layer.norm1, model.eps, e)
        up = _linear(x, layer.up, e)
        gelu = e.kept(up * e.dtype(0.5) * (1 + e.activation(_erf(up / 2**0.5).astype(e.dtype))))
        x = _norm(e.kept(x + _linear(gelu, layer.down, e)), layer.norm2, model.eps, e)
    return x


def _linear(x: Array, weights: tuple[Array, Array], e: Exact) -> Array:
    weight, bias = (part.astype(e.dtype) for part in weights)
    y: Array = e.total(e.inputs(x) @ e.weights(weight).T, weight.shape[1]) + bias
    return y


def _norm(x: Array, weights: tuple[Array, Array], eps: float, e: Exact) -> Array:
    weight, bias = (part.astype(e.dtype) for part in weights)
    centred = x - x.mean(-1, keepdims=True)
    scale = np.sqrt((centred * centred).mean(-1, keepdims=True) + e.dtype(eps))
    return e.kept(e.activation(centred / scale) * weight + bias)


def _attention(model: Model, layer: Layer, x: Array, e: Exact) -> Array:
    size = model.hidden // model.heads
    q, k, v = (
        e.kept(_linear(x, weights, e)).reshape(len(x), model.heads, size).swapaxes(0, 1)
        for weights in (layer.q, layer.k, layer.v)
    )
    scores = e.total(q @ k.swapaxes(1, 2), size) * e.dtype(size**-0.5)
    probabilities = np.exp(scores - scores.max(-1, keepdims=True))
    probabilities = e.activation(probabilities / probabilities.sum(-1, keepdims=True))
    y = e.total(probabilities @ v, len(x)).swapaxes(0, 1).reshape(len(x), -1)
    return _linear(y, layer.out, e)


def _both(
    model: Model, all_ids: list[Array], rows: tuple[int, ...], pool: bool, off: Plain
) -> Expected:
    exact = [hidden(model, ids, Exact()) for ids in all_ids]
    plain = [hidden(model, ids, off) for ids in all_ids]
    if pool:
        exact, plain = ([pooled(states) for states in found] for found in (exact, plain))
    error = max(float(np.abs(a - b).max()) for a, b in zip(exact, plain, strict=True))
    scale = max(float(np.abs(a).max()) for a in exact)
    return Expected(rows, tuple(exact), tolerance(error, scale, off))


def expected_states(
    model: Model, ids: Array, lengths: tuple[int, ...], dtype: str = "float32"
) -> Expected:
    """Return the last hidden states of some rows of ids [B, S]."""
    rows = tuple(int(r) for r in np.unique(np.linspace(0, len(ids) - 1, ROWS).round()))
    cut = [ids[row, : lengths[row]] for row in rows]
    return _both(model, cut, rows, pool=False, off=errors_of(dtype))


def expected_embeddings(model: Model, sentences: list[str]) -> Expected:
    """Return the embeddings of some of the sentences."""
    count = min(SENTENCES, len(sentences))
    rows = tuple(int(r) for r in np.unique(np.linspace(0, len(sentences) - 1, count).round()))
    ids = [np.array(tokenizer().encode(sentences[row]).ids) for row in rows]
    return _both(model, ids, rows, pool=True, off=errors_of("float32"))


def worst_error(want: Expected, got: Array) -> float:
    """Return the largest absolute difference.

    It is infinite for a wrong shape or a value that is not finite.
    """
    worst = 0.0
    for row, right in zip(want.rows, want.values, strict=True):
        if len(got) <= row:
            return float("inf")
        mine = got[row] if right.ndim == 1 else got[row][: len(right)]
        if mine.shape != right.shape or not np.isfinite(mine).all():
            return float("inf")
        worst = max(worst, float(np.abs(mine - right).max()))
    return worst

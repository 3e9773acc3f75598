"""This module writes Keras' attention layers as nodes: dot products, sums, and many heads."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from treadle.keras.building.activations import masked_softmax, softmax_over
from treadle.keras.building.builder import Tensor, text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from treadle.keras.building.site import Site

# The numbers of at most so many steps are a constant.
_MOST_STEPS = 2**14
# Keras adds these to scores that a mask hides: in Attention, and in MultiHeadAttention on PyTorch.
_HIDDEN, _HIDDEN_HEADS = -1e9, -0.7 * 3.38953e38


def attention(site: Site) -> Tensor | list[Tensor]:
    """Return softmax(scores) value, which is what Attention and AdditiveAttention compute."""
    xs = [(site.floats(x), x.mask) for x in site.xs]
    if not 2 <= len(xs) <= 3 or any(x.rank != 3 for x, _ in xs):
        raise site.error("is called with other tensors than [query, value] or [query, value, key]")
    (query, query_mask), (value, value_mask), *more = xs
    given = site.kwargs.get("mask")
    if isinstance(given, list | tuple):
        query_mask, value_mask = (*given, None, None)[:2]
    scores = _scores(site, query, more[0][0] if more else value)
    keep = None if value_mask is None else site.unsqueeze(value_mask, 1)
    if site.kwargs.get("use_causal_mask"):
        keep = _and(site, keep, _looks_back(site, query, value))
    if keep is not None:
        hidden = site.binary("Add", scores, site.number(_HIDDEN))
        scores = site.where(keep, scores, hidden)
    weights = softmax_over(site, scores, [2])
    y = site.matmul(weights, value)
    if query_mask is not None:
        y = site.where(site.unsqueeze(query_mask, 2), y, site.number(0))
    y = y.masked(query_mask)
    return [y, weights] if site.kwargs.get("return_attention_scores") else y


def _scores(site: Site, query: Tensor, key: Tensor) -> Tensor:
    """Return how much each query [B, Tq, F] asks for each key [B, Tv, F]: [B, Tq, Tv]."""
    weights = site.layer.weights
    if site.layer.kind == "Attention" and site.option("score_mode") == "dot":
        scores = site.matmul(query, site.transpose(key, [0, 2, 1]))
        return site.binary("Mul", scores, site.constant("scale")) if "scale" in weights else scores
    total = site.binary("Add", site.unsqueeze(query, 2), site.unsqueeze(key, 1))
    if site.layer.kind == "Attention":
        if "scale" in weights:
            total = site.binary("Mul", total, site.constant("scale"))
        scores = site.reduce("ReduceSum", site.unary("Tanh", total), [3])
        return site.binary("Mul", scores, site.constant("concat_score_weight"))
    bent = site.unary("Tanh", total)
    if "scale" in weights:
        bent = site.binary("Mul", bent, site.constant("scale"))
    return site.reduce("ReduceSum", bent, [3])


def _and(site: Site, a: Tensor | None, b: Tensor) -> Tensor:
    return b if a is None else site.binary("And", a, b, "bool")


def _looks_back(site: Site, query: Tensor, value: Tensor) -> Tensor:
    """Return which keys do not lie behind each query: bool [1, Tq, Tv]."""
    rows, columns = (_steps(site, x) for x in (query, value))
    rows, columns = site.unsqueeze(rows, 0, 2), site.unsqueeze(columns, 0, 1)
    shape = site.broadcast(rows.shape, columns.shape)
    return site.emit("GreaterOrEqual", [rows, columns], shape, "bool")


def _steps(site: Site, x: Tensor) -> Tensor:
    """Return the numbers of a tensor's steps: int64 [T]."""
    size = x.shape[1]
    if isinstance(size, int) and size <= _MOST_STEPS:
        return site.integers(range(size), "steps")
    end = site.squeeze(site.sizes_of(x, [1]), 0)
    return site.emit(
        "Range", [site.number(0, "int64"), end, site.number(1, "int64")], [size], "int64"
    )


def multi_head(site: Site) -> Tensor | list[Tensor]:
    """Return what N heads of attention over the steps make, each with projections of its own."""
    query, value, key = _called(site)
    mask = query.mask
    rank = query.rank
    given = site.option("attention_axes")
    if rank != 3 or value.rank != 3 or key.rank != 3 or given not in (None, (1,), (-2,)):
        raise site.error(
            f"attends over the axes {given} of {text(query.shape)}, expected the steps of [B, T, F]"
        )
    heads, size = site.option("num_heads"), site.option("key_dim")
    width = site.option("value_dim") or size
    q = _projected(site, "query", query, heads, size)
    k = _projected(site, "key", key, heads, size)
    v = _projected(site, "value", value, heads, width)
    keep = _kept(site, query, value, key)
    scores = None
    if site.kwargs.get("return_attention_scores") or (_has_dropout(site) and keep is not None):
        y, scores = _by_scores(site, q, k, v, keep)
    else:
        hidden = None
        if keep is not None:
            zero, low = site.number(0), site.number(_HIDDEN_HEADS)
            hidden = site.unsqueeze(site.where(keep, zero, low), 1)
        y = site.emit(
            "treadle.Attention",
            [q, k, v, hidden],
            [*q.shape[:3], width],
            scale=1 / math.sqrt(size),
        )
    y = site.reshape(y, [*y.shape[:2], heads * width])
    kernel = site.weight("attention_output/kernel")
    outputs = kernel.shape[2:]
    matrix = np.ascontiguousarray(kernel.reshape(heads * width, -1).T)
    weight = site.constant("attention_output/kernel", matrix)
    bias = None
    if site.option("use_bias"):
        flat = site.weight("attention_output/bias").reshape(-1)
        bias = site.constant("attention_output/bias", flat)
    made = site.linear(y, weight, bias, {})
    made = site.reshape(made, [*y.shape[:2], *map(int, outputs)]).masked(mask)
    if site.kwargs.get("return_attention_scores"):
        assert scores is not None
        return [made, scores]
    return made


def _called(site: Site) -> tuple[Tensor, Tensor, Tensor]:
    """Return query, value and key, which is the value where it is not given."""
    names = ("query", "value", "key")
    given = dict(zip(names, site.args, strict=False)) | {
        name: site.kwargs[name] for name in names if name in site.kwargs
    }
    query, value = given.get("query"), given.get("value")
    key = given.get("key") if given.get("key") is not None else value
    found = [query, value, key]
    if not all(isinstance(one, Tensor) for one in found):
        raise site.error("is called without a query and a value")
    query, value, key = (site.floats(one).masked(one.mask) for one in found if one is not None)
    return query, value, key


def _has_dropout(site: Site) -> bool:
    return bool(site.layer.config.get("dropout"))


def _projected(site: Site, name: str, x: Tensor, heads: int, size: int) -> Tensor:
    """Return x [B, T, F] kernel [F, N, E] + bias [N, E]: [B, T, N, E]."""
    kernel = site.weight(f"{name}/kernel")
    matrix = np.ascontiguousarray(kernel.reshape(kernel.shape[0], -1).T)
    weight = site.constant(f"{name}/kernel", matrix)
    bias = None
    if site.option("use_bias"):
        bias = site.constant(f"{name}/bias", site.weight(f"{name}/bias").reshape(-1))
    made = site.linear(x, weight, bias, {})
    return site.reshape(made, [*x.shape[:2], heads, size])


def _kept(site: Site, query: Tensor, value: Tensor, key: Tensor) -> Tensor | None:
    """Return which keys each query sees: bool, [B, T, S] or what broadcasts to it, or None."""
    given = site.kwargs.get
    parts: list[tuple[Any, int]] = [
        (query.mask, 2),
        (value.mask if given("value_mask") is None else given("value_mask"), 1),
    ]
    if len(site.args) > 2 or given("key") is not None:
        parts.append((key.mask if given("key_mask") is None else given("key_mask"), 1))
    keep: Tensor | None = None
    for mask, axis in parts:
        if mask is not None:
            keep = _and(site, keep, site.unsqueeze(site.cast(mask, "bool"), axis))
    if given("use_causal_mask"):
        keep = _and(site, keep, _looks_back(site, query, value))
    if (own := given("attention_mask")) is not None:
        if not isinstance(own, Tensor) or own.rank != 3:
            raise site.error("has an attention_mask that is no tensor [B, T, S]")
        keep = _and(site, keep, site.cast(own, "bool"))
    return keep


def _by_scores(
    site: Site, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the output [B, T, N, F] and the weights of attention [B, N, T, S]."""
    q = site.transpose(site.scaled(q, 1 / math.sqrt(site.option("key_dim"))), [0, 2, 1, 3])
    scores = site.matmul(q, site.transpose(k, [0, 2, 3, 1]))
    if keep is None:
        weights = softmax_over(site, scores, [3])
    else:
        weights = masked_softmax(site, scores, site.unsqueeze(keep, 1), [3])
    made = site.matmul(weights, site.transpose(v, [0, 2, 1, 3]))
    return site.transpose(made, [0, 2, 1, 3]), weights


KINDS: dict[str, Callable[[Site], Tensor | Sequence[Tensor]]] = {
    **dict.fromkeys(("Attention", "AdditiveAttention"), attention),
    "MultiHeadAttention": multi_head,
}

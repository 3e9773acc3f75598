"""Cases of attention, of products and of what stands between them."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

import treadle
from support.bits.numbers import Case, Numbers
from support.bits.recurrent import ACTIVATIONS, DTYPES

# (B, N, S, K, E, F): one query, odd sizes, tiles that are full, several blocks of keys.
SHAPES = [
    (1, 1, 1, 1, 1, 1), (2, 3, 5, 7, 8, 8), (1, 2, 17, 33, 24, 20), (2, 2, 1, 65, 64, 64),
    (1, 2, 31, 31, 33, 17), (1, 1, 4, 300, 16, 16), (2, 4, 70, 70, 64, 64), (1, 1, 9, 9, 256, 256),
    (2, 8, 200, 200, 64, 64),
]  # fmt: skip
# None stands for an array.
OPTIONS: list[dict[str, Any]] = [
    {"is_causal": True}, {"scale": 0.25}, {"mask": "bool"}, {"mask": "float"}, {"lengths": "keys"},
    {"lengths": "both"}, {"window": 3}, {"window": (4, None), "is_causal": True}, {"softcap": 2.0},
    {"alibi_slopes": None}, {"enable_gqa": True}, {"enable_gqa": True, "is_causal": True},
    {"is_causal": True, "lengths": "keys", "window": (6, 0), "softcap": 5.0, "alibi_slopes": None},
]  # fmt: skip


def cases() -> Iterator[Case]:
    yield from _attention()
    yield from _caches()
    yield from _products()
    yield from _pointwise()


def _given(numbers: Numbers, shape: tuple[int, ...], options: dict[str, Any]) -> tuple[Any, Any]:
    """query, key and value, and the other arguments by the names that all versions share."""
    B, N, S, K, E, F = shape
    heads = N // 2 if options.get("enable_gqa") else N
    arrays = (
        numbers.floats(B, N, S, E, reach=2),
        numbers.floats(B, heads, K, E, reach=2),
        numbers.floats(B, heads, K, F),
    )
    call = {k: v for k, v in options.items() if k not in ("mask", "lengths", "alibi_slopes")}
    if "mask" in options:
        mask = options["mask"]
        shown = numbers.flags(B, 1, S, K) if mask == "bool" else numbers.floats(N, S, K, reach=3)
        call["attn_mask"] = shown
    if "lengths" in options:
        keys = numbers.lengths(K, B)
        call["lengths"] = keys if options["lengths"] == "keys" else (numbers.lengths(S, B), keys)
    if "alibi_slopes" in options:
        call["alibi_slopes"] = numbers.floats(N)
    return arrays, call


def _forward(name: str, shape: Any, options: dict[str, Any]) -> Any:
    arrays, call = _given(Numbers(name), shape, options)
    return treadle.functional.scaled_dot_product_attention(*arrays, **call)


def _backward(name: str, shape: Any, options: dict[str, Any]) -> Any:
    numbers, functional = Numbers(name), treadle.functional
    arrays, call = _given(numbers, shape, options)
    y, saved = functional.scaled_dot_product_attention_forward(*arrays, **call)
    gradients = functional.scaled_dot_product_attention_backward(saved, numbers.floats(*y.shape))
    return y, saved.lse, tuple(gradients.values())


def _broadcast(name: str) -> Any:
    """Heads and rows that are shared: their gradients are sums by NumPy."""
    numbers, functional = Numbers(name), treadle.functional
    q, k = numbers.floats(2, 4, 5, 8), numbers.floats(1, 1, 7, 8)
    y, saved = functional.scaled_dot_product_attention_forward(q, k, k)
    gradients = functional.scaled_dot_product_attention_backward(saved, numbers.floats(*y.shape))
    return y, tuple(gradients.values())


def _attention() -> Iterator[Case]:
    for kind, compute in (("attention", _forward), ("attention_gradient", _backward)):
        labelled = [("x".join(map(str, s)), s, {}) for s in SHAPES]
        for options in OPTIONS:
            label = ",".join(f"{k}={v}" for k, v in options.items())
            labelled.append(
                (label, (2, 4, 19, 37 if "causal" not in label else 19, 24, 20), options)
            )
        if kind == "attention":
            labelled += [
                (f"bfloat16/{label}", shape, options | {"dtype": "bfloat16"})
                for label, shape, options in labelled
            ]
        else:
            labelled += [
                (f"dropout={p}", (2, 3, 19, 37, 24, 20), {"dropout_p": p, "seed": seed})
                for p, seed in ((0.25, 3), (0.5, 2**63 + 5), (1.0, 1))
            ]
        for label, shape, options in labelled:
            name = f"{kind}/{label}"
            yield Case(name, partial(compute, name, shape, options))
    name = "attention_gradient/broadcast"
    yield Case(name, partial(_broadcast, name), portable=False)


def _cache(name: str, dtype: str, heads: int) -> Any:
    """A prompt, single tokens, uneven rows, a copy of a row, and tokens that are taken back."""
    numbers, (B, N, E, F) = Numbers(name), (2, 2, 24, 20)
    cache, found = treadle.KVCache(B, N, E, 8, value_size=F, dtype=dtype), []

    def tokens(steps: int) -> tuple[Any, Any, Any]:
        query = numbers.floats(B, heads, steps, E)
        return query, numbers.floats(B, N, steps, E), numbers.floats(B, N, steps, F)

    def step(steps: int, **options: Any) -> None:
        found.append(cache.step(*tokens(steps), **options))

    step(21)
    step(1)
    step(3, lengths=[1, 3], softcap=2.0)
    step(1, window=5, alibi_slopes=numbers.floats(heads))
    query, key, value = tokens(2)
    cache.append(key, value)
    found.append(cache.attend(query, scale=0.5))
    cache.reorder([1, 1])
    step(1)
    cache.truncate(cache.lengths - 4)
    step(5)
    return found, cache.lengths, cache.keys, cache.values


def _caches() -> Iterator[Case]:
    for dtype in DTYPES:
        for heads in (2, 8):
            name = f"cache/{dtype}/{heads}"
            yield Case(name, partial(_cache, name, dtype, heads))


def _linear(name: str, shape: tuple[int, ...], **options: Any) -> Any:
    numbers, (M, N, K) = Numbers(name), shape
    x, weight, bias = numbers.floats(M, K), numbers.weights(N, K), numbers.floats(N)
    if options.pop("residual", False):
        options["residual"] = numbers.floats(M, N)
    return treadle.functional.linear(x, weight, bias, **options)


def _conv1d(name: str, groups: int, **options: Any) -> Any:
    numbers = Numbers(name)
    x, weight = numbers.floats(2, 6, 23), numbers.weights(8, 6 // groups, 3)
    return treadle.functional.conv1d(x, weight, numbers.floats(8), groups=groups, **options)


def _products() -> Iterator[Case]:
    for dtype in DTYPES:
        for shape in [
            (1, 1, 1),
            (1, 33, 65),
            (3, 17, 7),
            (6, 64, 64),
            (7, 47, 300),
            (64, 512, 512),
        ]:
            name = f"linear/{dtype}/{'x'.join(map(str, shape))}"
            yield Case(name, partial(_linear, name, shape, dtype=dtype))
        name = f"linear/{dtype}/residual"
        more = {"activation": "gelu", "residual": True, "dtype": dtype}
        yield Case(name, partial(_linear, name, (9, 35, 19), **more))
        for options in ({}, {"padding": "same", "dilation": 2}, {"stride": 2, "padding": 1}):
            for groups in (1, 2):
                label = "-".join(f"{k}={v}" for k, v in options.items()) or "plain"
                name = f"conv1d/{dtype}/{label}/{groups}"
                yield Case(name, partial(_conv1d, name, groups, dtype=dtype, **options))
    for activation in ACTIVATIONS:
        label = activation if isinstance(activation, str) else "-".join(map(str, activation))
        name = f"linear/activation/{label}"
        yield Case(name, partial(_linear, name, (5, 37, 9), activation=activation))


def _rows(name: str, what: str, columns: int) -> Any:
    numbers, functional = Numbers(name), treadle.functional
    x = numbers.floats(5, columns, reach=8)
    if what == "layer_norm":
        weight, bias = numbers.floats(columns), numbers.floats(columns)
        plain = functional.layer_norm(x, columns)
        return plain, functional.layer_norm(x, columns, weight, bias, 1e-3, residual=x[::-1].copy())
    if what == "LayerNorm":
        module = treadle.LayerNorm(columns)
        module.load_state_dict(numbers.state_dict(module))
        return module(x)
    if what == "softmax":
        x[0] = -np.inf
        return functional.softmax(x), functional.softmax(x, dim=0)
    if what == "gelu":
        return functional.gelu(x), functional.gelu(x, approximate="tanh")
    return getattr(functional, what)(x)


def _embeddings(name: str) -> Any:
    numbers = Numbers(name)
    tables = [numbers.floats(rows, 37) for rows in (50, 2, 30)]
    ids = [numbers.integers(0, len(table), 4, 9) for table in tables]
    return treadle.functional.embedding_sum(ids, tables)


def _pointwise() -> Iterator[Case]:
    for what in ("layer_norm", "LayerNorm", "softmax", "gelu", "silu", "relu"):
        for columns in (1, 7, 16, 33, 100, 768):
            name = f"{what}/{columns}"
            yield Case(name, partial(_rows, name, what, columns))
    yield Case("embedding_sum", partial(_embeddings, "embedding_sum"))

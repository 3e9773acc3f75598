"""The arguments of attention, checked, in the form that the native functions take."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from treadle._inputs import checks
from treadle._inputs.arrays import to_dense, to_float32, to_int64, to_mask

if TYPE_CHECKING:
    from typing import Any

    from treadle._inputs.types import AnyArray, ArrayLike, Float, Int

# No window reaches further; nobody has more keys.
_MAX_REACH = 2**40
# The kernel takes smaller positive numbers for zero.
_TINY = 1.1754943508222875e-38


class AttentionOptions(NamedTuple):
    """What a native call of attention is told beside its arrays; the names are those it reads."""

    mask: AnyArray | None = None
    """[B, N, S, K]: bool, True where a query attends, or float32, added to the scores."""
    is_causal: bool = False
    scale: float = 1.0
    query_lengths: Int | None = None
    """[B]: how many queries of a row exist; None: all."""
    key_lengths: Int | None = None
    """[B]: how many keys of a row exist; None: all."""
    window: tuple[int, int] = (-1, -1)
    """How many keys to the left and to the right a query sees; -1: all."""
    softcap: float = 0.0
    """0: no cap."""
    alibi_slopes: Float | None = None
    """[N]"""
    query_offset: Int | None = None
    """[B]: the position of a row's first query among the keys; None: 0."""
    dropout: tuple[float, int] = (0.0, 0)
    """The probability of dropout and its seed."""
    dtype: str = "float32"
    """The dtype of the two products: float32 or bfloat16."""


@dataclass(kw_only=True, slots=True)
class AttentionArguments:
    """The arguments of a call of `scaled_dot_product_attention` or its kin, not yet checked."""

    query: ArrayLike
    key: ArrayLike
    value: ArrayLike
    attn_mask: ArrayLike | None = None
    dropout_p: float = 0.0
    is_causal: bool = False
    scale: float | None = None
    enable_gqa: bool = False
    lengths: ArrayLike | tuple[ArrayLike | None, ArrayLike | None] | None = None
    window: int | tuple[int | None, int | None] | None = None
    softcap: float | None = None
    alibi_slopes: ArrayLike | None = None
    seed: int | None = None
    dtype: Any = "float32"

    def checked(self, function: str) -> CheckedAttention:
        """Check all arguments for a function of this name; errors name it and the argument."""
        checks.flag(function, "is_causal", self.is_causal)
        checks.flag(function, "enable_gqa", self.enable_gqa)
        dtype = checks.dtype(function, "dtype", self.dtype, ("float32", "bfloat16"))
        if self.is_causal and self.attn_mask is not None:
            raise ValueError(
                f"{function}: attn_mask is given together with is_causal, expected one of them "
                "(as in PyTorch)"
            )
        query = to_float32(function, "query", self.query)
        key = to_float32(function, "key", self.key)
        value = to_float32(function, "value", self.value)
        sizes = _sizes(function, query, key, value, self.enable_gqa)
        settings = attention_settings(
            function,
            query.shape[-1],
            sizes.heads,
            self.scale,
            self.window,
            self.softcap,
            self.alibi_slopes,
        )
        query_lengths, key_lengths = (
            (None, None) if self.lengths is None else _lengths(function, sizes, self.lengths)
        )
        options = AttentionOptions(
            mask=None if self.attn_mask is None else _mask(function, sizes, self.attn_mask),
            is_causal=self.is_causal,
            scale=settings.scale,
            query_lengths=query_lengths,
            key_lengths=key_lengths,
            window=settings.window,
            softcap=settings.softcap,
            alibi_slopes=settings.alibi_slopes,
            dropout=_dropout(function, self.dropout_p, self.seed),
            dtype=dtype,
        )
        return CheckedAttention(
            (query.shape, key.shape, value.shape),
            sizes,
            (
                four(query, sizes.leading, sizes.query_heads),
                four(key, sizes.leading, sizes.key_heads),
                four(value, sizes.leading, sizes.key_heads),
            ),
            options,
        )


class CheckedAttention(NamedTuple):
    """A call of attention in the form that the native functions take."""

    shapes: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    """The shapes of query, key and value as the caller gave them."""
    sizes: Sizes
    arrays: tuple[Float, Float, Float]
    """query, key and value as [B, N, rows, columns]."""
    options: AttentionOptions


def _dropout(function: str, p: float, seed: int | None) -> tuple[float, int]:
    """Dropout's probability and its seed, which is drawn where it is needed and None."""
    if type(p) is float and p == 0.0 and seed is None:  # the usual case
        return 0.0, 0
    p = checks.number(function, "dropout_p", p, least=0.0, most=1.0)
    if seed is None:
        seed = int(np.random.default_rng().integers(2**64, dtype=np.uint64)) if p else 0
    return p, checks.integer(function, "seed", seed, 0, 2**64 - 1)


class Settings(NamedTuple):
    """The numbers that shape the scores, as `AttentionOptions` names them."""

    scale: float
    window: tuple[int, int]
    softcap: float
    alibi_slopes: Float | None


def attention_settings(
    function: str,
    head_size: int,
    heads: int,
    scale: float | None,
    window: int | tuple[int | None, int | None] | None,
    softcap: float | None,
    alibi_slopes: ArrayLike | None,
) -> Settings:
    """Check the arguments that every kind of attention call has; N heads of ``head_size``."""
    if scale is not None:
        scale = checks.number(function, "scale", scale)
    elif head_size > 0:
        scale = head_size**-0.5
    else:  # the kernel says what it expects
        scale = 1.0
    reach = (-1, -1) if window is None else _reach(function, window)
    if softcap is not None:
        softcap = checks.number(function, "softcap", softcap, least=_TINY)
    slopes = None
    if alibi_slopes is not None:
        slopes = to_dense(function, "alibi_slopes", alibi_slopes)
        checks.shape(function, "alibi_slopes", slopes, (heads,), "N")
    return Settings(scale, reach, softcap or 0.0, slopes)


def _reach(function: str, window: int | tuple[int | None, int | None]) -> tuple[int, int]:
    """The keys to the left and to the right that a query sees; -1: all."""
    ends = window if isinstance(window, tuple | list) else (window, window)
    if len(ends) != 2:
        raise ValueError(f"{function}: window has {len(ends)} items, expected (left, right)")
    left, right = (
        -1 if end is None else checks.integer(function, "window", end, 0, _MAX_REACH)
        for end in ends
    )
    return left, right


class Sizes(NamedTuple):
    """The sizes that follow from the shapes of query, key and value together."""

    leading: tuple[int, ...]
    """The axes before the heads."""
    query_heads: tuple[int, ...]
    """The axis of the heads; empty when there is none."""
    key_heads: tuple[int, ...]
    queries: int
    keys: int
    value_size: int

    @property
    def heads(self) -> int:
        return self.query_heads[0] if self.query_heads else 1

    @property
    def result(self) -> tuple[int, ...]:
        return (*self.leading, *self.query_heads, self.queries, self.value_size)


def _sizes(function: str, query: Float, key: Float, value: Float, enable_gqa: bool) -> Sizes:
    """Compare the shapes of query, key and value with each other."""
    of_q, of_k, of_v = query.shape, key.shape, value.shape
    if (
        len(of_q) == len(of_k) == len(of_v) == 4
        and of_q[:2] == of_k[:2] == of_v[:2]
        and of_q[3] == of_k[3]
        and of_k[2] == of_v[2]
    ):  # the usual case, and a fast one
        axis = of_q[1:2]
        return Sizes(of_q[:1], axis, axis, of_q[2], of_k[2], of_v[3])
    for name, array, last in (
        ("query", query, "S, E"),
        ("key", key, "K, E"),
        ("value", value, "K, F"),
    ):
        if array.ndim < 2:
            raise ValueError(f"{function}: {name} has shape {array.shape}, expected [..., {last}]")
    queries, size = of_q[-2:]
    checks.shape(function, "key", key, (*of_k[:-1], size), _letters(key, "KE"))
    keys = of_k[-2]
    checks.shape(function, "value", value, (*of_v[:-2], keys, of_v[-1]), _letters(value, "KF"))
    # Three axes alone are those of a batch; of four or more, or where heads are grouped, the third
    # last axis is that of the heads.
    with_heads = enable_gqa or max(query.ndim, key.ndim, value.ndim) > 3
    split = -3 if with_heads else -2
    try:
        leading = np.broadcast_shapes(of_q[:split], of_k[:split], of_v[:split])
    except ValueError:
        raise ValueError(_mismatch(function, query, key, value)) from None
    if not with_heads:
        return Sizes(leading, (), (), queries, keys, of_v[-1])
    heads, *others = (array.shape[-3] if array.ndim > 2 else 1 for array in (query, key, value))
    shared = 0 if 0 in others else max(others)
    if any(n not in (1, shared) for n in others):
        raise ValueError(_mismatch(function, query, key, value))
    if enable_gqa and shared and heads % shared:
        raise ValueError(
            f"{function}: query has {heads} heads and key {shared}, expected a multiple of them"
        )
    query_heads = heads
    if not enable_gqa and heads != shared:
        if heads == 1:
            query_heads = shared  # the one head of query serves all of key
        elif shared != 1:
            raise ValueError(
                f"{function}: query has {heads} heads and key {shared}, expected as many; "
                "with enable_gqa=True, each of key serves several of query"
            )
    return Sizes(leading, (query_heads,), (shared,), queries, keys, of_v[-1])


def _mismatch(function: str, query: Float, key: Float, value: Float) -> str:
    return (
        f"{function}: key has shape {key.shape} and value {value.shape}, expected leading axes "
        f"that broadcast with those of query, {query.shape}"
    )


def _letters(array: AnyArray, last: str) -> tuple[str, ...]:
    return (*(["B", "N"] + ["..."] * 62)[: array.ndim - 2], *last)


def four(array: AnyArray, leading: tuple[int, ...], heads: tuple[int, ...]) -> AnyArray:
    """An array as [B, N, rows, columns], broadcast to the leading axes; a view where it can be."""
    own = array.shape
    if own[:-2] == leading + heads and len(own) == 4 and heads:  # the usual case
        return array
    rows, columns = own[-2:]
    shape = (*leading, *heads, rows, columns)
    if own != shape:
        array = np.broadcast_to(array, shape)
    if array.ndim == 4 and heads:
        return array
    return array.reshape(math.prod(leading), *(heads or (1,)), rows, columns)


def _mask(function: str, sizes: Sizes, attn_mask: ArrayLike) -> AnyArray:
    """A mask as the native [B, N, S, K], repeated by strides of zero."""
    mask = to_mask(function, "attn_mask", attn_mask)
    shape = (*sizes.leading, *sizes.query_heads, sizes.queries, sizes.keys)
    if mask.ndim > len(shape) or any(
        have not in (1, want) for have, want in zip(mask.shape[::-1], shape[::-1], strict=False)
    ):
        raise ValueError(
            f"{function}: attn_mask has shape {mask.shape}, expected one that broadcasts to "
            f"[..., S, K], here {shape}"
        )
    if mask.ndim == 0 or mask.shape[-1] != sizes.keys:  # the kernel wants keys side by side
        mask = np.ascontiguousarray(np.broadcast_to(mask, (*mask.shape[:-1], sizes.keys)))
    if mask.ndim == 1:
        mask = mask[None]
    mask = np.broadcast_to(mask, (*mask.shape[:-2], sizes.queries, sizes.keys))
    return four(mask, sizes.leading, sizes.query_heads)


def _lengths(
    function: str,
    sizes: Sizes,
    lengths: ArrayLike | tuple[ArrayLike | None, ArrayLike | None] | None,
) -> tuple[Int | None, Int | None]:
    """The lengths of queries and of keys, [B] each."""
    if not isinstance(lengths, tuple) or not any(
        item is None or isinstance(item, list | tuple) or getattr(item, "ndim", 0)
        for item in lengths
    ):
        return None, _row_lengths(function, sizes, "lengths", lengths)
    if len(lengths) != 2:
        raise ValueError(
            f"{function}: lengths has {len(lengths)} items, expected a pair (of queries, of keys)"
        )
    return (
        _row_lengths(function, sizes, "lengths[0]", lengths[0], "S"),
        _row_lengths(function, sizes, "lengths[1]", lengths[1]),
    )


def _row_lengths(
    function: str, sizes: Sizes, name: str, value: ArrayLike | None, letter: str = "K"
) -> Int | None:
    if value is None:
        return None
    array = to_int64(function, name, value)
    shape = sizes.leading or (1,)
    checks.shape(function, name, array, shape, "B" if len(shape) == 1 else ())
    most = sizes.queries if letter == "S" else sizes.keys
    check_range(function, name, array, letter, most)
    return array.reshape(-1)


def check_range(function: str, name: str, array: Int, letter: str, most: int) -> None:
    """Raise ValueError for lengths that are not in 0..``most``."""
    if array.size and not 0 <= int(array.min()) <= int(array.max()) <= most:
        raise ValueError(
            f"{function}: {name} holds {array.min()} to {array.max()}, "
            f"expected integers in 0..{letter} with {letter} = {most}"
        )


def checked_out(
    function: str, out: object, shape: tuple[int, ...], inputs: dict[str, Float]
) -> Float:
    """An array that can take a result of this shape while the inputs are read."""
    if type(out) is not np.ndarray or out.dtype != np.float32:
        found = f"has dtype {out.dtype}" if isinstance(out, np.ndarray) else f"is {type(out)}"
        raise TypeError(f"{function}: out {found}, expected a NumPy array of float32")
    checks.shape(function, "out", out, shape)
    reach = 0  # from the finest axis on, each stride has to step over what lies within it
    for stride, size in sorted((abs(s), n) for s, n in zip(out.strides, shape, strict=True)):
        if size > 1 and stride <= reach and out.size:
            raise ValueError(
                f"{function}: out has strides {out.strides}, expected elements that do not overlap"
            )
        reach += (size - 1) * stride
    for name, array in inputs.items():
        if np.may_share_memory(out, array):
            raise ValueError(f"{function}: out lies among the memory of {name}, expected its own")
    return out

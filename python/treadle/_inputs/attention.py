"""This module checks the arguments of attention and gives them the form that the core takes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from treadle._inputs import checks
from treadle._inputs.arrays import copied, laid, to_dense, to_int64, to_mask, viewed

if TYPE_CHECKING:
    from typing import Any

    from treadle._core import AttentionOptions
    from treadle._inputs.types import AnyArray, ArrayLike, Float, Int

# No window reaches further, since nobody has more keys.
_MAX_REACH = 2**40
# The kernel takes smaller positive numbers for zero.
_TINY = 1.1754943508222875e-38


class AttentionCall:
    """The checked arguments of a call of attention, in the form that the core takes."""

    __slots__ = ("arrays", "options", "shapes", "sizes")

    shapes: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    """The shapes of query, key and value as the caller gave them."""
    sizes: Sizes
    arrays: tuple[Float, Float, Float]
    """query, key and value as [B, N, rows, columns]."""
    options: AttentionOptions

    def __init__(
        self,
        function: str,
        query: ArrayLike,
        key: ArrayLike,
        value: ArrayLike,
        *,
        attn_mask: ArrayLike | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
        lengths: ArrayLike | tuple[ArrayLike | None, ArrayLike | None] | None = None,
        window: int | tuple[int | None, int | None] | None = None,
        softcap: float | None = None,
        alibi_slopes: ArrayLike | None = None,
        seed: int | None = None,
        dtype: Any = "float32",
    ) -> None:
        """Check the arguments; errors begin with the name of the public ``function``."""
        checks.flag(function, "is_causal", is_causal)
        checks.flag(function, "enable_gqa", enable_gqa)
        dtype = checks.dtype(function, "dtype", dtype, ("float32", "bfloat16"))
        if is_causal and attn_mask is not None:
            raise ValueError(
                f"{function}: attn_mask is given together with is_causal, expected one of them "
                "(as in PyTorch)"
            )
        query = viewed(function, "query", query)
        key = viewed(function, "key", key)
        value = viewed(function, "value", value)
        self.shapes = query.shape, key.shape, value.shape
        sizes, self.arrays = _fitted(function, query, key, value, enable_gqa)
        self.sizes = sizes
        self.options = options = score_options(
            function, query.shape[-1], sizes.heads, scale, window, softcap, alibi_slopes
        )
        options["is_causal"] = is_causal
        options["dtype"] = dtype
        if attn_mask is not None:
            options["mask"] = _mask(function, sizes, attn_mask)
        if lengths is not None:
            options["query_lengths"], options["key_lengths"] = _lengths(function, sizes, lengths)
        if seed is not None or type(dropout_p) is not float or dropout_p != 0.0:
            options["dropout"] = _dropout(function, dropout_p, seed)


def _dropout(function: str, p: float, seed: int | None) -> tuple[float, int]:
    """Check the probability of dropout and its seed; draw a seed where it is None."""
    p = checks.number(function, "dropout_p", p, least=0.0, most=1.0)
    if seed is None:
        seed = int(np.random.default_rng().integers(2**64, dtype=np.uint64)) if p else 0
    return p, checks.integer(function, "seed", seed, 0, 2**64 - 1)


def score_options(
    function: str,
    head_size: int,
    heads: int,
    scale: float | None,
    window: int | tuple[int | None, int | None] | None,
    softcap: float | None,
    alibi_slopes: ArrayLike | None,
) -> AttentionOptions:
    """Check the options that shape the scores of N heads of ``head_size``."""
    options: AttentionOptions = {}
    if scale is not None:
        options["scale"] = checks.number(function, "scale", scale)
    elif head_size > 0:  # a size of 0 is refused by the native function
        options["scale"] = head_size**-0.5
    if window is not None:
        options["window"] = _reach(function, window)
    if softcap is not None:
        options["softcap"] = checks.number(function, "softcap", softcap, least=_TINY)
    if alibi_slopes is not None:
        of_slopes = checks.fits(function, "alibi_slopes", (heads,), "N")
        options["alibi_slopes"] = to_dense(function, "alibi_slopes", alibi_slopes, of_slopes)
    return options


def _reach(function: str, window: int | tuple[int | None, int | None]) -> tuple[int, int]:
    """Check how many keys to the left and to the right a query sees; -1 stands for all."""
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


def _fitted(
    function: str, query: AnyArray, key: AnyArray, value: AnyArray, enable_gqa: bool
) -> tuple[Sizes, tuple[Float, Float, Float]]:
    """Check that the shapes fit; return the sizes and the arrays as [B, N, rows, columns].

    The arrays come as views, and are laid out when their shapes are known to fit.
    """
    q, k, v = query.shape, key.shape, value.shape
    if len(q) == len(k) == len(v) == 4:  # the usual case has to be fast
        batch, heads, queries, size = q
        keys = k[2]
        if k == (batch, heads, keys, size) and v[:3] == k[:3]:
            arrays = laid(query), laid(key), laid(value)
            return Sizes((batch,), (heads,), (heads,), queries, keys, v[3]), arrays
    sizes = _sizes(function, query, key, value, enable_gqa)
    return sizes, (
        four(laid(query), sizes.leading, sizes.query_heads),
        four(laid(key), sizes.leading, sizes.key_heads),
        four(laid(value), sizes.leading, sizes.key_heads),
    )


def _sizes(
    function: str, query: AnyArray, key: AnyArray, value: AnyArray, enable_gqa: bool
) -> Sizes:
    """Compare the shapes of query, key and value with each other."""
    of_q, of_k, of_v = query.shape, key.shape, value.shape
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
    # Arrays of three axes have a batch and no heads. With four or more, or if heads are grouped,
    # the third last axis counts the heads.
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
            query_heads = shared  # the only head of query serves all heads of key
        elif shared != 1:
            raise ValueError(
                f"{function}: query has {heads} heads and key {shared}, expected as many; "
                "with enable_gqa=True, each of key serves several of query"
            )
    return Sizes(leading, (query_heads,), (shared,), queries, keys, of_v[-1])


def _mismatch(function: str, query: AnyArray, key: AnyArray, value: AnyArray) -> str:
    return (
        f"{function}: key has shape {key.shape} and value {value.shape}, expected leading axes "
        f"that broadcast with those of query, {query.shape}"
    )


def _letters(array: AnyArray, last: str) -> tuple[str, ...]:
    return (*(["B", "N"] + ["..."] * 62)[: array.ndim - 2], *last)


def four(array: AnyArray, leading: tuple[int, ...], heads: tuple[int, ...]) -> AnyArray:
    """Broadcast an array to [B, N, rows, columns]; the result is a view where it can be one."""
    own = array.shape
    if own[:-2] == leading + heads and len(own) == 4 and heads:  # the usual case
        return array
    rows, columns = own[-2:]
    array = _spread(array, (*leading, *heads, rows, columns))
    if array.ndim == 4 and heads:
        return array
    return array.reshape(math.prod(leading), *(heads or (1,)), rows, columns)


def _spread(array: AnyArray, shape: tuple[int, ...]) -> AnyArray:
    """Broadcast an array as np.broadcast_to does, in a third of the time for a contiguous one."""
    own = array.shape
    if own == shape:
        return array
    new = len(shape) - len(own)
    fits = new >= 0 and all(n in (1, want) for n, want in zip(own, shape[new:], strict=True))
    if not fits or not array.size or not array.flags.c_contiguous:
        return np.broadcast_to(array, shape)
    strides = [0 if n == 1 else step for n, step in zip(own, array.strides, strict=True)]
    return np.ndarray(shape, array.dtype, array, 0, (*(0,) * new, *strides))


def _mask(function: str, sizes: Sizes, attn_mask: ArrayLike) -> AnyArray:
    """Check a mask and broadcast it to [B, N, S, K], by strides of zero."""
    shape = (*sizes.leading, *sizes.query_heads, sizes.queries, sizes.keys)

    def fits(mask: AnyArray) -> None:
        if mask.ndim > len(shape) or any(
            have not in (1, want) for have, want in zip(mask.shape[::-1], shape[::-1], strict=False)
        ):
            raise ValueError(
                f"{function}: attn_mask has shape {mask.shape}, expected one that broadcasts to "
                f"[..., S, K], here {shape}"
            )

    mask = to_mask(function, "attn_mask", attn_mask, fits)
    if mask.ndim == 0 or mask.shape[-1] != sizes.keys:  # the kernel reads a contiguous last axis
        mask = copied(np.broadcast_to(mask, (*mask.shape[:-1], sizes.keys)))
    if mask.ndim == 1:
        mask = mask[None]
    mask = _spread(mask, (*mask.shape[:-2], sizes.queries, sizes.keys))
    return four(mask, sizes.leading, sizes.query_heads)


def _lengths(
    function: str,
    sizes: Sizes,
    lengths: ArrayLike | tuple[ArrayLike | None, ArrayLike | None] | None,
) -> tuple[Int | None, Int | None]:
    """Check the lengths of queries and of keys, [B] each."""
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
    shape = sizes.leading or (1,)
    fits = checks.fits(function, name, shape, "B" if len(shape) == 1 else ())
    array = to_int64(function, name, value, fits)
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
    """Check that an array can take a result of this shape while the inputs are read."""
    if type(out) is not np.ndarray or out.dtype != np.float32:
        found = f"has dtype {out.dtype}" if isinstance(out, np.ndarray) else f"is {type(out)}"
        raise TypeError(f"{function}: out {found}, expected a NumPy array of float32")
    checks.shape(function, "out", out, shape)
    reach = 0  # each stride has to be larger than the extent of the axes with smaller strides
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

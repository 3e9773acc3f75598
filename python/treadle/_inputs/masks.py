"""Masks, checked and turned into those of the kernels, where True admits and False rules out.

In the modules of PyTorch True rules out, and in Transformers' attention_mask 1 admits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from treadle._inputs import checks
from treadle._inputs.arrays import to_bool, to_float32, to_int64, to_mask

if TYPE_CHECKING:
    from treadle._inputs.arrays import Fits
    from treadle._inputs.types import AnyArray, ArrayLike, Bool, Float, Int


def padding(
    function: str, name: str, value: ArrayLike | None, shape: tuple[int, ...], letters: str
) -> tuple[Bool | None, Float | None]:
    """Check a key_padding_mask: (the keys that exist [B, K], the numbers to add to scores [B, K]).

    None stands for all keys, and for nothing to add. In a mask of bools, True is padding. A mask of
    float32 is added to the scores: -inf is padding, and if all other numbers are zero there is
    nothing to add.
    """
    if value is None:
        return None, None
    mask = to_mask(function, name, value, checks.fits(function, name, shape, letters))
    mask = mask.reshape(-1, shape[-1]) if mask.size else np.zeros((1, *shape)[-2:], bool)
    if mask.dtype == np.bool_:
        return (~mask if mask.any() else None), None
    exists = mask != -np.inf
    added = mask if (mask[exists] != 0).any() else None
    return (None if exists.all() else exists), added


def prefix_lengths(exists: Bool) -> Int | None:
    """Return the lengths [B] if all padding is on the right, else None."""
    if (exists[:, 1:] > exists[:, :-1]).any():
        return None
    lengths: Int = exists.sum(axis=1, dtype=np.int64)
    return lengths


def attention(
    function: str,
    name: str,
    value: ArrayLike | None,
    batch: int,
    heads: int,
    queries: int,
    keys: int,
) -> AnyArray | None:
    """Check an attn_mask [S, K] or [B*N, S, K] and return it as [B or 1, N or 1, S, K]."""
    if value is None:
        return None
    of_heads = checks.fits(function, name, (batch * heads, queries, keys), ("B*N", "S", "K"))
    of_all = checks.fits(function, name, (queries, keys), "SK")
    mask = to_mask(function, name, value, lambda m: (of_heads if m.ndim == 3 else of_all)(m))
    mask = mask.reshape(batch, heads, queries, keys) if mask.ndim == 3 else mask[None, None]
    return ~mask if mask.dtype == np.bool_ else mask


def merged(*masks: AnyArray | None) -> AnyArray | None:
    """Merge masks whose shapes broadcast into one that does what all of them do."""
    result: AnyArray | None = None
    for mask in masks:
        if mask is None:
            continue
        if result is None:
            result = mask
        elif result.dtype == mask.dtype == np.bool_:
            result = result & mask
        else:
            result = added(result) + added(mask)
    return result


def added(mask: AnyArray) -> Float:
    """Return a mask as numbers that are added to the scores."""
    if mask.dtype == np.bool_:
        return np.where(mask, np.float32(0), np.float32(-np.inf))
    return mask


def kept(function: str, name: str, value: ArrayLike, shape: tuple[int, int]) -> Bool:
    """Check a mask [B, S] of Transformers, bools or numbers that are 0 or 1; return bools."""
    mask = _numbers(function, name, value, checks.fits(function, name, shape, ("B", "S")))
    if mask.dtype.kind == "b":
        return mask
    result: Bool = mask != 0
    if not (result == mask).all():
        raise ValueError(
            f"{function}: {name} holds {mask[result != mask].flat[0]}, "
            "expected 1 (attend) and 0 (padding)"
        )
    return result


def _numbers(function: str, name: str, value: ArrayLike, fits: Fits) -> AnyArray:
    """Return an array of bools, integers or float32: tokenizers give any of these."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "biu":  # the usual case
        if fits is not None:
            fits(value)
        return value
    first = value
    while isinstance(first, list | tuple) and first:
        first = first[0]
    dtype = str(getattr(first, "dtype", type(first).__name__))
    if dtype.endswith("bool"):
        return to_bool(function, name, value, fits)
    if dtype.endswith("float32"):
        return to_float32(function, name, value, fits)
    return to_int64(function, name, value, fits)

"""This module recognises the masks that lengths and causality can replace.

A mask is read for every query, while keys beyond a length and keys after a query cost nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from treadle.torch.tensors import shared_array

if TYPE_CHECKING:
    from treadle._inputs.types import ArrayLike
    from treadle.torch.tensors import TensorLike

# A score to which such a number is added has the probability 0 beside any score without it.
# Transformers adds the least number of a dtype.
_HIDDEN = -1e30
_KEPT = "_treadle_pattern"


class MaskPattern(NamedTuple):
    """The meaning of a mask, in the arguments of `scaled_dot_product_attention`."""

    mask: TensorLike | None
    """bool or float32 [B, 1, S, K], or None where the other two say all of it."""
    lengths: ArrayLike | None = None
    """[B]: keys from here on are hidden from all queries of a row."""
    is_causal: bool = False
    """Query s sees the keys 0..s."""


def mask_pattern(mask: TensorLike, rows: int) -> MaskPattern:
    """Return what a mask of bools or float32 says about so many rows, by its values.

    A mask in which a query sees no key at all stays as it is: numbers that are added let such a
    query see all keys alike, and bools let it see none.
    """
    if mask.dim() != 4 or mask.shape[1] != 1 or 0 in mask.shape:
        return MaskPattern(mask)
    base = without_repetitions(mask)
    values = shared_array(base.detach())[:, 0]
    seen = values if values.dtype == np.bool_ else values == 0
    if seen is not values and not (seen | (values <= _HIDDEN)).all():
        return MaskPattern(mask)
    counts = np.count_nonzero(seen, axis=-1)  # [B or 1, S or 1]
    if not counts.all():
        return MaskPattern(mask)
    if not (seen[..., 1:] > seen[..., :-1]).any():
        lengths = counts.max(axis=-1)
        every = None if (lengths == mask.shape[3]).all() else np.resize(lengths, rows)
        if (counts == lengths[:, None]).all():
            return MaskPattern(None, every)
        steps = np.arange(1, counts.shape[1] + 1)
        if (counts == np.minimum(steps, lengths[:, None])).all():
            return MaskPattern(None, every, is_causal=True)
    if seen is values:
        return MaskPattern(mask)
    return MaskPattern(torch.from_numpy(seen[:, None]).expand(mask.shape))


def kept_pattern(mask: TensorLike, rows: int) -> MaskPattern:
    """Return `mask_pattern`, and keep it for the other layers of a model until the mask changes."""
    if mask.is_inference():  # PyTorch does not count the changes of these
        return mask_pattern(mask, rows)
    now = mask._version, rows
    before, pattern = getattr(mask, _KEPT, (None, None))
    if pattern is None or before != now:
        pattern = mask_pattern(mask, rows)
        setattr(mask, _KEPT, (now, pattern))
    return pattern


def without_repetitions(mask: TensorLike) -> TensorLike:
    """Return one of all rows, heads or queries between which a mask does not change in memory."""
    for axis in range(mask.dim() - 1):
        if mask.shape[axis] > 1 and mask.stride(axis) == 0:
            mask = mask.narrow(axis, 0, 1)
    return mask
